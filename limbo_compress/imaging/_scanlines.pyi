from numpy import float32, void
from numpy.typing import NDArray

def find_covered(
    block: bytes,
    is_filtered: bool,
    line_bytes: int,
    width: int,
    channels: NDArray[void],
    first_pixel: int,
    ids: NDArray[float32],
    entries: NDArray[void],
    count: int,
) -> int: ...
