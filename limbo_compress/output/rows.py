"""Rows of an unfinished array, as a worker writes them: through a shared mapping or ``pwrite``.

Network filesystems and FUSE may refuse shared mappings for writing, or keep them incoherent
between machines, and where space cannot be reserved a full disk kills a process that maps. There
rows are written with ``pwrite``. The bytes are the same.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import deflate
from ..errors import output_errors
from ..formats.npy import ArrayFile
from ..plan import Job
from .filesystem import start_writing

__all__ = ["RowWriter"]

_MADV_POPULATE_WRITE = 23  # from Linux's mman-common.h


class RowWriter:
    """Writes the rows of one array that belong to one shard.

    A context manager. It maps only these rows, and only while it is open, so that a worker's
    memory does not grow with the number of samples.

    Attributes
    ----------
    checksum : int
        CRC-32 of the rows written, in order.

    Raises
    ------
    OutputError
        On entering and in `row`, if the file cannot be written.
    """

    def __init__(self, job: Job, array: ArrayFile, rows: range) -> None:
        self._array = array
        self._rows = rows
        self._path = job.work_path(array.file_name)
        self._is_mapped = array.name in job.mapped
        self.checksum = 0

    def __enter__(self) -> RowWriter:
        with output_errors(self._path):
            self._file = os.open(self._path, os.O_RDWR if self._is_mapped else os.O_WRONLY)
            shape = (len(self._rows) if self._is_mapped else 1, *self._array.row_shape)
            if self._is_mapped:
                start = self._array.offset(self._rows.start)
                with os.fdopen(os.dup(self._file), "r+b") as stream:
                    self._values: NDArray[Any] = np.memmap(
                        stream, self._array.descr, "r+", start, shape
                    )
            else:
                self._values = np.empty(shape, self._array.descr)
        return self

    def __exit__(self, *_: object) -> None:
        del self._values
        with output_errors(self._path):
            try:
                if self._is_mapped:
                    size = len(self._rows) * self._array.row_bytes
                    start_writing(self._file, self._array.offset(self._rows.start), size)
                else:
                    os.fsync(self._file)
            finally:
                os.close(self._file)

    @contextmanager
    def row(self, row: int) -> Iterator[NDArray[Any]]:
        """Yield the place of a row, to be filled. Leaving without an exception writes the row."""
        if self._is_mapped:
            self._prepare_pages(row)
        values = self._values[row - self._rows.start if self._is_mapped else 0]
        yield values
        self.checksum = deflate.crc32(values, self.checksum)
        if not self._is_mapped:
            with output_errors(self._path):
                self._write(values, self._array.offset(row))

    def _prepare_pages(self, row: int) -> None:
        """Populate all pages of a mapped row at once, which is 1 % faster than one by one.

        Where the system cannot (Linux before 5.14, macOS), each page is populated when it is
        first written.
        """
        size = self._array.row_bytes
        # A mapping begins at a page boundary, usually inside the row before.
        start = self._array.offset(self._rows.start) % mmap.ALLOCATIONGRANULARITY
        start += (row - self._rows.start) * size
        page = start - start % mmap.PAGESIZE
        with suppress(OSError):
            self._values.base.madvise(_MADV_POPULATE_WRITE, page, start + size - page)  # type: ignore[union-attr]

    def _write(self, values: NDArray[Any], offset: int) -> None:
        left = memoryview(values.tobytes())
        while left:
            written = os.pwrite(self._file, left, offset)
            left, offset = left[written:], offset + written
