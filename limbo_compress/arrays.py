"""What the arrays of the outputs are: all that write, read or show their rows have it from here."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["IMAGES", "KINDS", "MASKS", "ArrayKind"]


@dataclass(frozen=True)
class ArrayKind:
    """What the rows of an array are, whatever their size.

    Attributes
    ----------
    dtype, descr : str
        The type of the values, as numpy names it in memory and in the header of a file.
    channels : int
        The length of the last axis.
    color : str or None
        What the values of colors mean: ``linear`` light. None if they are not colors.
    spline_order : int
        Which B-splines resample them, as `order` of ``skimage.transform.resize``.
    """

    dtype: str
    descr: str
    channels: int
    color: str | None
    spline_order: int

    @property
    def value_bytes(self) -> int:
        """The size of a value in bytes."""
        return int(self.descr[2:])


# With a change here, raise `_FORMAT` in output/record.py: older work must not be resumed.
IMAGES = ArrayKind("float16", "<f2", channels=3, color="linear", spline_order=3)
MASKS = ArrayKind("float32", "<f4", channels=1, color=None, spline_order=3)
KINDS = (IMAGES, MASKS)
