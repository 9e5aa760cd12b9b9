"""What filesystems can do: reserve space, keep a shared mapping coherent, write early."""

from __future__ import annotations

import errno
import os
import re
from contextlib import suppress

__all__ = [
    "free_bytes",
    "is_safe_to_map",
    "is_written_anywhere",
    "reserve",
    "start_writing",
]

_PROCESSES = "/proc"
_MOUNTS = f"{_PROCESSES}/self/mounts"
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


def is_written_anywhere(folder: str) -> bool:
    """Whether a process on this machine has a file open for writing in a folder.

    Without procfs(5), the answer is that one may have. Processes of other users are not seen.
    """
    try:
        processes = [name for name in os.listdir(_PROCESSES) if name.isdecimal()]
    except OSError:
        return True
    inside = os.path.join(os.path.realpath(folder), "")
    return any(_writes(os.path.join(_PROCESSES, process), inside) for process in processes)


def _writes(process: str, inside: str) -> bool:
    """Whether a process, by its folder in procfs(5), writes a file whose path begins so."""
    files: list[str] = []
    with suppress(OSError):  # it has ended, or is another user's
        files = os.listdir(os.path.join(process, "fd"))
    for file in files:
        with suppress(OSError):
            if os.readlink(os.path.join(process, "fd", file)).startswith(inside):
                with open(os.path.join(process, "fdinfo", file), encoding="ascii") as stream:
                    flags = re.search(r"^flags:\s*([0-7]+)", stream.read(), re.MULTILINE)
                if flags is None or int(flags[1], 8) & os.O_ACCMODE != os.O_RDONLY:
                    return True
    return False


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
