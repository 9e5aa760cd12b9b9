"""What filesystems can do: reserve space, keep a shared mapping coherent, write early."""

from __future__ import annotations

import os

__all__ = ["is_safe_to_map", "reserve", "start_writing"]

_SYNC_FILE_RANGE_WRITE = 2  # from Linux's fs.h
# Network filesystems that refuse shared mappings for writing, or keep them incoherent.
_UNSAFE_TO_MAP = {
    *("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "lustre", "gpfs", "beegfs"),
    *("glusterfs", "pvfs2", "orangefs", "panfs", "virtiofs", "vboxsf", "prl_fs"),
}


def reserve(file: int, size: int) -> None:
    """Give a file its size and reserve the space, so that no later write can run out of it.

    Where a mapping finds the disk full, the process is killed by SIGBUS.

    Parameters
    ----------
    file : int
        A descriptor.
    size : int
        In bytes.
    """
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
    else:  # macOS
        os.ftruncate(file, size)


def start_writing(file: int, offset: int, size: int) -> None:
    """Start writing a range of a file to the disk while other work goes on.

    Otherwise Linux starts when a tenth of the memory is dirty, and a job would wait for most of
    its output at the end. Without sync_file_range(2), this does nothing.
    """
    import ctypes  # here because the coordinator starts faster without it

    start = getattr(ctypes.CDLL(None), "sync_file_range", None)
    if start is not None:
        start(file, ctypes.c_int64(offset), ctypes.c_int64(size), _SYNC_FILE_RANGE_WRITE)


def is_safe_to_map(folder: str, mounts: str = "/proc/self/mounts") -> bool:
    """Whether the filesystem of a folder keeps shared mappings coherent, as far as is known.

    Parameters
    ----------
    folder : str
    mounts : str, optional
        The table of mounts (man 5 fstab). Without one, local disks are assumed.
    """
    try:
        with open(mounts, encoding="utf-8", errors="surrogateescape") as stream:
            table = [line.split()[1:3] for line in stream]
    except OSError:
        return True
    folder = os.path.join(os.path.realpath(folder), "")
    best, kind = "", ""
    for point, filesystem in table:
        # The table writes spaces in paths as octal escapes.
        path = os.path.join(point.replace("\\040", " "), "")
        if folder.startswith(path) and len(path) >= len(best):
            best, kind = path, filesystem
    return kind not in _UNSAFE_TO_MAP and not kind.startswith("fuse")
