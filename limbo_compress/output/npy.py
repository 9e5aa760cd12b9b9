"""An array with one row per sample, in a ``.npy`` file: header, size, and where a row begins."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .. import names

__all__ = ["ArrayFile"]

# How numpy describes the types of our arrays, and their sizes in bytes.
_DESCR = {"float16": ("<f2", 2), "float32": ("<f4", 4)}
_ALIGNMENT = 64
_GROWTH_DIGITS = 21


@dataclass(frozen=True)
class ArrayFile:
    """An array with one row per sample, kept in a ``.npy`` file.

    Attributes
    ----------
    name : str
        What stands between the prefix and ``.npy``.
    rows : int
        Number of samples.
    row_shape : tuple of int
        Shape of a row.
    dtype : str
        ``float16`` or ``float32``; always little-endian in the file.
    """

    name: str
    rows: int
    row_shape: tuple[int, ...]
    dtype: str

    @property
    def file_name(self) -> str:
        return names.array_file(self.name)

    @property
    def descr(self) -> str:
        return _DESCR[self.dtype][0]

    @property
    def header(self) -> bytes:
        """The header, byte for byte as `numpy.save` writes it.

        The format is version 1.0 of `numpy.lib.format`, which leaves room for a first axis of 21
        digits. It is made here because importing numpy would take most of the coordinator's
        start-up (0.12 s of 0.2 s).
        """
        shape = (self.rows, *self.row_shape)
        text = f"{{'descr': '{self.descr}', 'fortran_order': False, 'shape': {shape}, }}"
        text += " " * (_GROWTH_DIGITS - len(str(self.rows)))
        start = b"\x93NUMPY\x01\x00"
        padding = -(len(start) + 2 + len(text) + 1) % _ALIGNMENT
        body = text.encode("latin-1") + b" " * padding + b"\n"
        return start + len(body).to_bytes(2, "little") + body

    @property
    def row_bytes(self) -> int:
        return math.prod(self.row_shape) * _DESCR[self.dtype][1]

    @property
    def file_bytes(self) -> int:
        return len(self.header) + self.rows * self.row_bytes

    def offset(self, row: int) -> int:
        """Where a row begins in the file, in bytes."""
        return len(self.header) + row * self.row_bytes
