"""What the arrays of the outputs are: all that write, read or show their rows have it from here."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["IMAGES", "KINDS", "MASKS", "PIXELS", "ArrayKind"]

# Raised whenever the same samples and options give other bytes in an array.
PIXELS = 1


class ArrayKind(NamedTuple):
    """What the rows of an array are, whatever their size."""

    dtype: str  # of the values, as numpy names it in memory
    descr: str  # the same, in the header of a file
    channels: int  # the length of the last axis
    color: str | None  # what the values of colors mean: linear light; None if they are not colors
    spline_order: int  # of the B-splines that resample them: `order` of skimage.transform.resize

    @property
    def value_bytes(self) -> int:
        """The size of a value in bytes."""
        return int(self.descr[2:])


# With a change here, raise `_FORMAT` in output/record.py: older work must not be resumed.
IMAGES = ArrayKind("float16", "<f2", channels=3, color="linear", spline_order=3)
MASKS = ArrayKind("float32", "<f4", channels=1, color=None, spline_order=3)
KINDS = (IMAGES, MASKS)
