from numpy import float16, float32
from numpy.typing import NDArray

def fill_planes(
    row: NDArray[float16], table: NDArray[float32] | None, planes: NDArray[float32]
) -> None: ...
