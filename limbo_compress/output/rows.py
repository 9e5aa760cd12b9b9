"""Rows of an array under way, as a worker writes them: by a shared mapping, or by ``pwrite``.

Network filesystems and FUSE refuse shared mappings that are written to, or do not keep them
coherent between machines; there, rows are written by ``pwrite``. The bytes are the same.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import output_errors
from .job import ArrayFile, Job
from .parts import start_writing
from .png import zlib  # ISA-L's where it is installed

__all__ = ["Rows", "is_safe_to_map"]

_MADV_POPULATE_WRITE = 23  # of Linux's mman-common.h
_UNSAFE = {
    *("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "lustre", "gpfs", "beegfs"),
    *("glusterfs", "pvfs2", "orangefs", "panfs", "virtiofs", "vboxsf", "prl_fs"),
}


class Rows:
    """The rows of one array that belong to one shard.

    A context manager; only these rows are mapped, and only as long as it lasts, so that a worker's
    memory does not grow with the number of samples.

    Attributes
    ----------
    checksum : int
        CRC-32 of the rows written, in their order.

    Raises
    ------
    OutputError
        On entering and in `row`, if the file cannot be written.
    """

    def __init__(self, job: Job, array: ArrayFile, rows: range) -> None:
        self._array = array
        self._rows = rows
        self._path = job.work_path(array.file_name)
        how = job.options.write_rows
        self._map = how == "mmap" or (how == "auto" and is_safe_to_map(job.folder))
        self.checksum = 0

    def __enter__(self) -> Rows:
        with output_errors(self._path):
            self._file = os.open(self._path, os.O_RDWR if self._map else os.O_WRONLY)
            shape = (len(self._rows) if self._map else 1, *self._array.row_shape)
            if self._map:
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
                if self._map:
                    size = len(self._rows) * self._array.row_bytes
                    start_writing(self._file, self._array.offset(self._rows.start), size)
                else:
                    os.fsync(self._file)
            finally:
                os.close(self._file)

    @contextmanager
    def row(self, row: int) -> Iterator[NDArray[Any]]:
        """Give the place to fill for a row; it is written when all went well."""
        if self._map:
            self._prepare_pages(row)
        values = self._values[row - self._rows.start if self._map else 0]
        yield values
        self.checksum = zlib.crc32(values, self.checksum)
        if not self._map:
            with output_errors(self._path):
                self._write(values, self._array.offset(row))

    def _prepare_pages(self, row: int) -> None:
        """Have the pages of a mapped row made ready at once: one by one they take 1 % longer.

        Where it fails, as on Linux before 5.14 and macOS, that is what happens.
        """
        size = self._array.row_bytes
        # As a mapping begins with a page, it has the end of the row before in it.
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


def is_safe_to_map(folder: str, mounts: str = "/proc/self/mounts") -> bool:
    """Whether the filesystem of a folder keeps shared mappings coherent, as far as one can see.

    Parameters
    ----------
    folder : str
    mounts : str, optional
        The table of mounts (man 5 fstab); where there is none, local disks are presumed.
    """
    try:
        with open(mounts, encoding="utf-8", errors="surrogateescape") as stream:
            table = [line.split()[1:3] for line in stream]
    except OSError:
        return True
    folder = os.path.join(os.path.realpath(folder), "")
    best, kind = "", ""
    for point, filesystem in table:
        # Blanks in paths are written in octal.
        path = os.path.join(point.replace("\\040", " "), "")
        if folder.startswith(path) and len(path) >= len(best):
            best, kind = path, filesystem
    return kind not in _UNSAFE and not kind.startswith("fuse")
