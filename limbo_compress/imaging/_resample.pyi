from numpy import float16, float64, int64, uint8
from numpy.typing import NDArray

def fill_row(
    pixels: NDArray[uint8],
    height: int,
    light: NDArray[float64],
    row_starts: NDArray[int64],
    row_weights: NDArray[float64],
    column_starts: NDArray[int64],
    column_weights_for_rgb: NDArray[float64],
    out: NDArray[float16],
) -> None: ...
