from typing import Any

from numpy import float16, int64
from numpy.typing import NDArray

def fill_batch(
    array: NDArray[float16],
    rows: NDArray[int64],
    places: NDArray[int64],
    table: NDArray[Any] | None,
    batch: NDArray[Any],
    pixels: int,
    size: int,
    planar: bool,
) -> None:
    """Copy rows of an array, shape (n, pixels, 3), to places of a batch.

    The batch has rows of shape (3, pixels) if it is planar, else (pixels, 3), and values of `size`
    bytes: those of a table by the bit patterns of the array's values or, without one, float32 or
    float16. A ValueError says that the sizes do not match or that there is no such row or place.
    """
