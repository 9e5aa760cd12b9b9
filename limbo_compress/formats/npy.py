"""Arrays with one row per sample in ``.npy`` files: to be written, and found."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

from .. import filenames
from ..array_kinds import IMAGES, MASKS, ArrayKind

__all__ = ["ArrayFile", "FoundArray", "kind_of", "read_header"]

_MAGIC = b"\x93NUMPY\x01\x00"
_HEADER = re.compile(
    rb"\{'descr': ('[^']*'|\[.*\]), 'fortran_order': (False|True), 'shape': \(([0-9, ]*)\), \} *\n"
)
_ALIGNMENT = 64
# The largest page of any kernel in use (arm64). All smaller ones divide it.
_PAGE_BYTES = 1 << 16
_GROWTH_DIGITS = 21


@dataclass(frozen=True)
class ArrayFile:
    """An array with one row per sample, kept in a ``.npy`` file."""

    name: str  # what is between the prefix and .npy
    rows: int
    size: tuple[int, int]  # width and height of a row, in pixels
    kind: ArrayKind

    @property
    def file_name(self) -> str:
        return filenames.array_file(self.name)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        width, height = self.size
        return self.rows, height, width, self.kind.channels

    @property
    def header(self) -> bytes:
        """The header, byte for byte as `numpy.save` writes it.

        The format is version 1.0 of `numpy.lib.format`, which leaves room for a first axis of 21
        digits. It is made here because importing numpy would take most of the coordinator's
        start-up (0.12 s of 0.2 s).
        """
        descr, shape = self.kind.descr, self.shape
        text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}"
        text += " " * (_GROWTH_DIGITS - len(str(self.rows)))
        padding = -(len(_MAGIC) + 2 + len(text) + 1) % _ALIGNMENT
        body = text.encode("latin-1") + b" " * padding + b"\n"
        return _MAGIC + len(body).to_bytes(2, "little") + body

    @property
    def row_bytes(self) -> int:
        return math.prod(self.shape[1:]) * self.kind.value_bytes

    @property
    def file_bytes(self) -> int:
        return len(self.header) + self.rows * self.row_bytes

    def offset(self, row: int) -> int:
        """Where a row begins in the file, in bytes."""
        return len(self.header) + row * self.row_bytes

    def whole_pages(self, rows: range) -> range:
        """Range of bytes of the pages that lie within rows, all of each; it may be empty.

        A machine that has a page of a network file in its cache writes all of it back, and with it
        old bytes where another machine has written meanwhile. So whoever writes some of the rows
        may write only these pages.
        """
        start, stop = self.offset(rows.start), self.offset(rows.stop)
        first = min(start + -start % _PAGE_BYTES, stop)
        return range(first, max(first, stop - stop % _PAGE_BYTES))

    def edges(self, rows: range) -> tuple[range, range]:
        """Ranges of the bytes of rows before and after their whole pages; they may be empty."""
        pages = self.whole_pages(rows)
        start, stop = self.offset(rows.start), self.offset(rows.stop)
        return range(start, pages.start), range(pages.stop, stop)


class FoundArray(NamedTuple):
    """What the header of a ``.npy`` file says."""

    descr: str  # numpy's description of the type, such as <f2
    shape: tuple[int, ...]
    offset: int  # where the values begin in the file, in bytes

    def is_of(self, kind: ArrayKind) -> bool:
        """Whether these may be rows of a kind, by their type and shape."""
        has_shape = len(self.shape) == 4 and self.shape[-1] == kind.channels
        return has_shape and self.descr == kind.descr

    def check_size(self, stream: BinaryIO) -> None:
        """Check that a file of images or masks has all its values, and nothing else.

        Raises
        ------
        ValueError
            If it is longer or shorter.
        """
        expected = self.offset + math.prod(self.shape) * int(self.descr[-1])
        found = os.fstat(stream.fileno()).st_size
        if found != expected:
            raise ValueError(f"{found:,} bytes, where its header says {expected:,}")


def kind_of(array: str) -> ArrayKind:
    """Return what an array is, by its name."""
    return IMAGES if array == filenames.IMAGES else MASKS


def read_header(stream: BinaryIO) -> FoundArray:
    """Read the header of a ``.npy`` file, as far as the start of its values.

    `numpy.lib.format` evaluates the header as Python, which fails in many ways on a damaged one.

    Raises
    ------
    OSError
        If it cannot be read.
    ValueError
        If it is not version 1.0 of the format, as numpy writes it, or its rows are empty.
    """
    start = stream.read(len(_MAGIC) + 2)
    header = stream.read(int.from_bytes(start[len(_MAGIC) :], "little"))
    match = _HEADER.fullmatch(header)
    if not start.startswith(_MAGIC) or match is None:
        raise ValueError("it does not start with the header of a .npy file")
    descr, is_fortran, shape = (group.decode("latin-1") for group in match.groups())
    if is_fortran == "True":
        raise ValueError("its values are in Fortran order")
    lengths = tuple(map(int, shape.replace(",", " ").split()))
    if f"({shape})" != str(lengths):
        raise ValueError("the shape in its header is damaged")
    if 0 in lengths[1:]:  # any number of rows would fit a file without values
        raise ValueError(f"its rows have a side of 0: {lengths}")
    return FoundArray(descr.strip("'"), lengths, len(start) + len(header))
