"""What filesystems can do: reserve space, keep mappings coherent, lock, write early or at once."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import time
from collections.abc import Iterable
from contextlib import suppress

from ..renaming import move

__all__ = [
    "forget_cached",
    "free_bytes",
    "is_safe_to_map",
    "is_written_elsewhere",
    "lock_for_writing",
    "reserve",
    "start_writing",
    "sync_folders",
    "sync_or_remove",
    "write_at",
    "write_synced",
]

_MOUNTS = "/proc/self/mounts"
# What filesystems say that keep no folders which could be synced.
_CANNOT_SYNC = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF}
# A killed worker keeps its files open for a moment.
_LATE_SECONDS = 2.0
_PAUSE_SECONDS = 0.05
_SYNC_FILE_RANGE_WRITE = 2  # from Linux's fs.h
# fallocate(2) found that the file cannot have its size. Anything else says only that this
# filesystem does not reserve space.
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
# Network filesystems that refuse shared mappings for writing, or keep them incoherent, and ZFS:
# its fallocate(2) succeeds without reserving anything.
_UNSAFE_TO_MAP = {
    *("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "lustre", "gpfs", "beegfs"),
    *("glusterfs", "pvfs2", "orangefs", "panfs", "dvs", "wekafs", "virtiofs", "vboxsf", "prl_fs"),
    "zfs",
}


def reserve(file: int, size: int) -> bool:
    """Give a file its size and reserve the space, where the filesystem can.

    `os.posix_fallocate` would not do: where the filesystem cannot, the C library writes a byte
    into every block instead.

    Parameters
    ----------
    file : int
        A descriptor, open for writing.
    size : int
        In bytes; not less than the file has.

    Returns
    -------
    bool
        Whether the space is reserved. If not, a later write may run out of it, and where a
        mapping does, the process is killed by SIGBUS.

    Raises
    ------
    OSError
        If there is no space, or a quota or a limit on file sizes forbids the size.
    """
    if _fallocate(file, size):
        return True
    os.ftruncate(file, size)
    return False


def _fallocate(file: int, size: int) -> bool:
    """Call fallocate(2); return False where the system or the filesystem has none."""
    import ctypes  # here because the coordinator starts faster without it

    library = ctypes.CDLL(None, use_errno=True)
    # glibc's plain fallocate takes 32 bits on a 32-bit system; musl and macOS lack the other.
    fallocate = getattr(library, "fallocate64", None) or getattr(library, "fallocate", None)
    if fallocate is None:
        return False
    while fallocate(file, 0, ctypes.c_int64(0), ctypes.c_int64(size)):
        error = ctypes.get_errno()
        if error in _NO_ROOM:
            raise OSError(error, os.strerror(error))
        if error != errno.EINTR:
            return False
    return True


def start_writing(file: int, offset: int, size: int) -> None:
    """Start writing a range of a file to the disk while other work goes on.

    Otherwise Linux starts when a tenth of the memory is dirty, and a job would wait for most of
    its output at the end. Without sync_file_range(2), this does nothing.
    """
    import ctypes  # here because the coordinator starts faster without it

    start = getattr(ctypes.CDLL(None), "sync_file_range", None)
    if start is not None:
        start(file, ctypes.c_int64(offset), ctypes.c_int64(size), _SYNC_FILE_RANGE_WRITE)


def write_at(file: int, data: memoryview, start: int) -> None:
    """Write all of some bytes at a place of a file, by its descriptor.

    Raises
    ------
    OSError
        If they cannot be written.
    """
    while data:
        written = os.pwrite(file, data, start)
        data, start = data[written:], start + written


def free_bytes(folder: str) -> int | None:
    """Space that is left on the filesystem of a folder, or None if it does not say.

    ramfs and many FUSE filesystems report 0 of 0 blocks, and some have no statvfs(3) at all.
    """
    try:
        status = os.statvfs(folder)
    except OSError:
        return None
    return status.f_bavail * status.f_frsize if status.f_blocks else None


def is_safe_to_map(folder: str, mounts: str = _MOUNTS) -> bool:
    """Whether the filesystem of a folder keeps shared mappings coherent, as far as is known.

    Parameters
    ----------
    folder : str
    mounts : str, optional
        The table of mounts (man 5 fstab). Without one, local disks are assumed.
    """
    folder = os.path.join(os.path.realpath(folder), "")
    best, kind = "", ""
    for point, filesystem in _mounts(mounts):
        path = os.path.join(point, "")
        if folder.startswith(path) and len(path) >= len(best):
            best, kind = path, filesystem
    return kind not in _UNSAFE_TO_MAP and not kind.startswith("fuse")


def lock_for_writing(file: int) -> bool:
    """Tell everyone on this machine that a file is being written; return whether that works.

    The lock, flock(2), stays until the file is closed and its last mapping is gone. Other clients
    of a network do not see it.
    """
    return _flock(file, fcntl.LOCK_SH)


def is_written_elsewhere(file: int) -> bool:
    """Whether another process holds `lock_for_writing`, or may; this one holds it afterwards."""
    deadline = time.monotonic() + _LATE_SECONDS
    while not (is_alone := _flock(file, fcntl.LOCK_EX)) and time.monotonic() < deadline:
        time.sleep(_PAUSE_SECONDS)
    lock_for_writing(file)
    return not is_alone


def _flock(file: int, how: int) -> bool:
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def sync_or_remove(path: str, file: int) -> None:
    """Write all of a file to the disk; remove it if that fails.

    After a failed fsync(2), Linux takes pages for clean that are not on the disk, and the next one
    succeeds. So nothing that was in memory only can be trusted from then on [1]_.

    Raises
    ------
    OSError
        If it cannot be written.

    References
    ----------
    .. [1] A. Rebello et al., "Can applications recover from fsync failures?", USENIX ATC 2020.
    """
    try:
        os.fsync(file)
    except OSError:
        with suppress(OSError):
            os.unlink(path)
        raise


def write_synced(path: str, text: str, draft: str) -> None:
    """Write a small file so that it is on the disk, under its name, when this returns.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    with open(draft, "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    move(draft, path)
    sync_folders([os.path.dirname(path)])


def sync_folders(folders: Iterable[str]) -> None:
    """Wait until the names in some folders are on the disk.

    Raises
    ------
    OSError
        If they cannot be written.
    """
    for folder in sorted(set(folders)):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno not in _CANNOT_SYNC:
                raise
        finally:
            os.close(descriptor)


def forget_cached(file: int) -> None:
    """Let later reads of a file that was synced come from the disk, as far as the system can."""
    if hasattr(os, "posix_fadvise"):  # macOS has none
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)


def _mounts(path: str) -> list[tuple[str, str]]:
    """Read a table of mounts; return the mount points and the types of their filesystems."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as stream:
            fields = [line.split(" ")[1:3] for line in stream]
    except OSError:
        return []
    return [(_unescape(point), kind) for point, kind in fields]


def _unescape(text: str) -> str:
    """Replace the octal escapes that the table writes for white space and backslashes."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
