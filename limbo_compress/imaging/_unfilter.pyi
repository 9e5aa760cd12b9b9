from numpy import uint8
from numpy.typing import NDArray

def unfilter(filtered: bytes, width: int, channels: int, out: NDArray[uint8]) -> bool: ...
