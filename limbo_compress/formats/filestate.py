"""Files that are read: how they were, by which a later run sees that they have changed."""

from __future__ import annotations

import errno
import os
import stat
from typing import BinaryIO, NamedTuple

__all__ = ["FileState", "open_regular"]

_SECOND = 10**9
# Some filesystems forget the fraction of a time that they have shown before: vfat keeps even
# seconds, others whole ones. Clients of a network may round in their own ways.
_COARSEST = 2 * _SECOND
_JITTER = _SECOND // 100


class FileState(NamedTuple):
    """How a file was when it was read."""

    name: str  # in its folder
    size: int  # in bytes
    mtime_ns: int
    checksum: int  # CRC-32 of the contents that were read

    @classmethod
    def of(cls, path: str, status: os.stat_result, checksum: int) -> FileState:
        """The state of a file with this path, status and CRC-32."""
        return cls(os.path.basename(path), status.st_size, status.st_mtime_ns, checksum)

    def holds(self, folder: str) -> bool:
        """Whether the file in this folder is still in this state, as far as its status tells."""
        try:
            status = os.stat(os.path.join(folder, self.name))
        except (OSError, ValueError):  # the name may come from a damaged record
            return False
        return status.st_size == self.size and _is_same_time(status.st_mtime_ns, self.mtime_ns)

    def is_exactly(self, folder: str) -> bool:
        """Whether the file in this folder has this size and time, to the nanosecond."""
        try:
            status = os.stat(os.path.join(folder, self.name))
        except (OSError, ValueError):
            return False
        return (status.st_size, status.st_mtime_ns) == (self.size, self.mtime_ns)


def open_regular(path: str, buffering: int = -1) -> BinaryIO:
    """Open a regular file for reading, or one that a link leads to; never wait for a pipe.

    Raises
    ------
    OSError
        If it cannot be opened, or is a folder, a pipe or a device.
    """
    stream = open(path, "rb", buffering, opener=_open_at_once)  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        stream.close()
        raise OSError(errno.EINVAL, "it is not a regular file", path)
    return stream


def _open_at_once(path: str, flags: int) -> int:
    # Without O_NONBLOCK, opening a pipe that nobody writes to would block forever.
    return os.open(path, flags | os.O_NONBLOCK)


def _is_same_time(one: int, other: int) -> bool:
    whole, exact = sorted((one, other), key=lambda time: time % _SECOND != 0)
    if whole % _SECOND == 0 and exact % _SECOND != 0:
        return 0 <= exact - whole < _COARSEST
    return abs(one - other) < _JITTER
