"""Rows of an unfinished array, as a worker writes them: through a shared mapping or ``pwrite``.

Network filesystems and FUSE may refuse shared mappings for writing, or keep them incoherent
between machines, and where space cannot be reserved a full disk kills a process that maps. There
rows are written with ``pwrite``. The bytes are the same.

Several machines may write one array, so each shard writes whole pages only. The edges, which share
a page with another shard, travel in the shard record, and the coordinator writes them.
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
from ..formats.npy import ArrayFile
from ..oserrors import writing
from ..plan import Job
from .filesystem import lock_for_writing, start_writing, write_at

__all__ = ["RowWriter"]

_MADV_POPULATE_WRITE = 23  # from Linux's mman-common.h


class RowWriter:
    """Writes the rows of one array that belong to one shard.

    A context manager. It maps only these rows, and only while it is open, so that a worker's
    memory does not grow with the number of samples.

    Attributes
    ----------
    checksums : list of int
        CRC-32 of each row written, in order.

    Raises
    ------
    OutputError
        On entering and in `row`, if the file cannot be written.
    """

    def __init__(self, job: Job, array: ArrayFile, rows: range) -> None:
        self._array = array
        self._path = job.work_path(array.file_name)
        self._is_mapped = array.name in job.mapped
        self._is_locked = array.name in job.locked
        self._pages = array.whole_pages(rows)
        self._edges = [(edge, bytearray(len(edge))) for edge in array.edges(rows)]
        self._buffer = bytearray(array.row_bytes)
        self._mapping: mmap.mmap | None = None
        self.checksums: list[int] = []

    def __enter__(self) -> RowWriter:
        with writing(self._path):
            self._file = os.open(self._path, os.O_RDWR if self._is_mapped else os.O_WRONLY)
            if self._is_locked:
                lock_for_writing(self._file)
            if self._is_mapped and self._pages:
                size, start = len(self._pages), self._pages.start
                self._mapping = mmap.mmap(self._file, size, offset=start)
        return self

    def __exit__(self, *_: object) -> None:
        self._mapping = None
        with writing(self._path):
            try:
                if not self._is_mapped:
                    os.fsync(self._file)
                elif self._pages:
                    start_writing(self._file, self._pages.start, len(self._pages))
            finally:
                os.close(self._file)

    @property
    def edges(self) -> bytes:
        """The bytes before the first whole page of the rows, and after the last one."""
        return b"".join(edge for _, edge in self._edges)

    @contextmanager
    def row(self, row: int) -> Iterator[NDArray[Any]]:
        """Yield the place of a row, to be filled. Leaving without an exception writes the row."""
        start = self._array.offset(row)
        stop = start + self._array.row_bytes
        shape, descr = self._array.shape[1:], self._array.kind.descr
        if self._mapping and self._pages.start <= start and stop <= self._pages.stop:
            at = start - self._pages.start
            self._prepare_pages(self._mapping, at)
            values: NDArray[Any] = np.ndarray(shape, descr, self._mapping, at)
            yield values
        else:
            values = np.ndarray(shape, descr, self._buffer)
            yield values
            self._write(memoryview(self._buffer), start)
        self.checksums.append(deflate.crc32(values.data))

    def copy(self, row: int, values: bytearray, checksum: int) -> None:
        """Write a row whose CRC-32 has been checked.

        Never through the mapping: populating its pages takes longer than ``pwrite`` does.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        self._write(memoryview(values), self._array.offset(row))
        self.checksums.append(checksum)

    def _prepare_pages(self, mapping: mmap.mmap, start: int) -> None:
        """Populate all pages of a mapped row at once, which is 1 % faster than one by one.

        Where the system cannot (Linux before 5.14, macOS), each page is populated when it is
        first written.
        """
        page = start - start % mmap.PAGESIZE
        with suppress(OSError):
            mapping.madvise(_MADV_POPULATE_WRITE, page, start + self._array.row_bytes - page)

    def _write(self, values: memoryview, start: int) -> None:
        """Write a row that begins at byte `start` of the file, its edges and its pages apart."""

        def part_in(span: range) -> tuple[int, memoryview]:
            """What of the row lies in a range of bytes, and where."""
            first, last = max(start, span.start), min(start + len(values), span.stop)
            return first - span.start, values[first - start : max(first, last) - start]

        for span, edge in self._edges:
            at, data = part_in(span)
            if data:
                edge[at : at + len(data)] = data
        at, data = part_in(self._pages)
        with writing(self._path):
            write_at(self._file, data, self._pages.start + at)
