"""Rename files and folders, or say at once that a filesystem cannot.

gcsfuse and other views of object stores can rename files only, and say so in odd ways. On a network
the reply may get lost; then the client asks again, and hears that there is no such file.
"""

from __future__ import annotations

import errno
import os
import shutil

from .errors import OutputError

__all__ = ["check_renaming", "move", "rename_folder"]

# What filesystems say that cannot. For gcsfuse there are too many objects, not files.
_CANNOT = {errno.EMFILE, errno.ENOSYS, errno.EOPNOTSUPP, errno.EXDEV}
_TRIES = 3


def move(source: str, target: str) -> None:
    """Rename a file or folder, once, whether or not the reply arrives.

    Raises
    ------
    OSError
        If it still has its old name.
    """
    before = os.lstat(source)
    try:
        os.rename(source, target)
    except OSError:
        if os.path.lexists(source) or not os.path.samestat(before, os.lstat(target)):
            raise


def rename_folder(source: str, target: str) -> None:
    """Rename a folder.

    Raises
    ------
    OutputError
        If the filesystem cannot.
    OSError
        If something else prevents it.
    """
    for _ in range(_TRIES):
        try:
            move(source, target)
            return
        except OSError as error:
            # Of something in the way, mergerfs says EXDEV; it may be gone by now.
            if error.errno not in _CANNOT or os.path.lexists(target):
                raise
            problem = f"this filesystem cannot rename a folder: {error.strerror}"
    hint = "write to another one, and copy the outputs"
    raise OutputError(problem, os.path.dirname(target), hint)


def check_renaming(folder: str) -> None:
    """Rename a folder inside another one, as hours of work would end in.

    Raises
    ------
    OutputError
        If the filesystem cannot.
    OSError
        If something else prevents it.
    """
    draft, renamed = os.path.join(folder, "draft"), os.path.join(folder, "renamed")
    os.mkdir(draft)
    with open(os.path.join(draft, "file"), "x"):
        pass  # some filesystems rename empty folders only
    rename_folder(draft, renamed)
    shutil.rmtree(renamed)
