"""Whose files these are, where others may write to the folder of the outputs.

In such a folder anyone may plant a work folder with forged shard records, or a link that leads to a
file of ours. Everywhere else who may write is trusted, and owners say little: a colleague may
resume a job, and a mount may give all files to one user.
"""

from __future__ import annotations

import os
import stat
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ..errors import OutputError, shown

__all__ = ["check_link", "opened_work_folder"]

_HINT = "choose another `prefix`, in a folder to which only you may write"
_NOT_OURS = stat.S_IRWXG | stat.S_IRWXO
# From Linux's posix_acl_xattr.h: a version, then tag, permissions and id of each entry.
_ACL = "system.posix_acl_access"
_ACL_VERSION = struct.Struct("<I")
_ACL_ENTRY = struct.Struct("<HHI")
_ACL_USER, _ACL_GROUP, _ACL_MASK = 0x02, 0x08, 0x10
_ACL_WRITE = 0x02


@contextmanager
def opened_work_folder(path: str) -> Iterator[int]:
    """Make a work folder if it is missing, and yield a descriptor of it.

    Where others may write to the folder around it, it is for this user alone.

    Raises
    ------
    OSError
        If it cannot be made, or is a link.
    OutputError
        If others may have written to it.
    """
    around = os.path.dirname(path)
    is_private = _is_open_to_others(around)
    with suppress(FileExistsError):
        os.mkdir(path, 0o700 if is_private else 0o777)
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags)
    try:
        if is_private:
            _check_private(path, os.fstat(descriptor))
        yield descriptor
    finally:
        os.close(descriptor)


def check_link(path: str) -> None:
    """Check that no link on the way to an output was planted by someone else.

    Raises
    ------
    OSError
        If the system does not follow it (a loop, or protected_symlinks).
    OutputError
        If the link, or one to which it leads, is another user's, where others may write.
    """
    with suppress(FileNotFoundError):
        os.stat(path)
    while True:
        around, status = os.path.dirname(path), os.lstat(path)
        if _is_open_to_others(around) and status.st_uid not in _owners(around):
            owner = _user_name(status.st_uid)
            raise OutputError(f"a link of {owner} has the name of this output", path, _HINT)
        path = os.path.join(around, os.readlink(path))
        if not os.path.islink(path):
            return


def _check_private(path: str, found: os.stat_result) -> None:
    """Check that a work folder was made by us, and that nobody else could write to it since."""
    if found.st_uid == os.geteuid() and not found.st_mode & _NOT_OURS:
        return
    made = _made_in(os.path.dirname(path))
    if found.st_uid != made.st_uid:
        owner = _user_name(found.st_uid)
        raise OutputError(f"unfinished work of {owner}, and others may write here", path, _HINT)
    if found.st_mode & _NOT_OURS & ~made.st_mode:
        raise OutputError("others may have written to this work folder", path, "remove it")


def _owners(folder: str) -> tuple[int, ...]:
    return os.geteuid(), _made_in(folder).st_uid


def _made_in(folder: str) -> os.stat_result:
    """Return what a new folder of ours looks like: some mounts give all to one user, or mode."""
    with tempfile.TemporaryDirectory(prefix=".limbo-", dir=folder) as made:
        return os.stat(made)


def _is_open_to_others(folder: str) -> bool:
    """Whether users other than us, and those of the folder's owner and group, may write to it."""
    if os.stat(folder).st_mode & stat.S_IWOTH:
        return True
    try:
        acl = os.getxattr(folder, _ACL)
    except (OSError, AttributeError):  # it has none, or the system has none
        return False
    entries = list(_ACL_ENTRY.iter_unpack(acl[_ACL_VERSION.size :]))
    mask = next((allowed for tag, allowed, _ in entries if tag == _ACL_MASK), _ACL_WRITE)
    us = {_ACL_USER: {0, os.geteuid()}, _ACL_GROUP: {os.getegid(), *os.getgroups()}}
    return any(
        tag in us and number not in us[tag] and allowed & mask & _ACL_WRITE
        for tag, allowed, number in entries
    )


def _user_name(user: int) -> str:
    import pwd  # here because only an error needs it

    try:
        return f"the user {shown(pwd.getpwuid(user).pw_name)}"
    except KeyError:
        return f"the user {user}"
