"""A job as a value: what is written, of which shape, and where work on it happens."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

from .options import Options

__all__ = ["ArrayFile", "Job", "plan"]

# How numpy describes the types of our arrays, and their sizes in bytes.
_DESCR = {"float16": ("<f2", 2), "float32": ("<f4", 4)}
_ALIGNMENT = 64
_GROWTH_DIGITS = 21


@dataclass(frozen=True)
class ArrayFile:
    """An array with one row a sample, kept in a ``.npy`` file.

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
        return f"{self.name}.npy"

    @property
    def descr(self) -> str:
        return _DESCR[self.dtype][0]

    @property
    def header(self) -> bytes:
        """The header, byte for byte as `numpy.save` writes it.

        The format is version 1.0 of `numpy.lib.format`, with its room for a first axis of 21
        digits. Made here because loading numpy would be most of the coordinator's start-up
        (0.12 s of 0.2 s).
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


@dataclass(frozen=True)
class Job:
    """A job as the coordinator and every worker know it; small, for it goes with every task.

    Attributes
    ----------
    options : Options
        What was asked for.
    target : str
        Absolute prefix of the outputs.
    folder : str
        Where work happens, beside the target: outputs under way and part-files.
    arrays : tuple of ArrayFile
        The images, where asked for, and the masks.
    """

    options: Options
    target: str
    folder: str
    arrays: tuple[ArrayFile, ...]

    def work_path(self, file_name: str) -> str:
        """Where an output stands while it is worked on."""
        return os.path.join(self.folder, file_name)

    def final_path(self, file_name: str) -> str:
        """Where an output is published."""
        return f"{self.target}-{file_name}"


def plan(options: Options, rows: int) -> Job:
    """Decide what a job over `rows` samples writes, and where."""
    target = os.path.abspath(options.prefix)
    folder, name = os.path.split(target)
    width, height = options.image_size
    images = [ArrayFile("images", rows, (height, width, 3), "float16")] if options.images else []
    masks = [
        ArrayFile(f"masks-{mask}", rows, (height, width, 1), "float32") for mask, _ in options.masks
    ]
    return Job(options, target, os.path.join(folder, f".{name}.partial"), (*images, *masks))
