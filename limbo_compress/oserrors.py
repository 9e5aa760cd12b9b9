"""What an OSError means: whose fault it is, and what to tell the user.

A fault of the data makes a bad sample; one of the machine ends the job.

A machine that is short of memory, lost a mount or has the wrong libraries fails on good samples.
To leave these out would lose them silently.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from .errors import MachineError, OutputError

__all__ = [
    "is_about_file",
    "is_folder",
    "machine_error",
    "machine_errors",
    "reading",
    "retry",
    "writing",
]

Value = TypeVar("Value")

# What a call says about one path: about its name, its kind, its permissions, or a link that leads
# nowhere. Everything else (no memory, no descriptors, a disk or a network that fails) would
# concern any file.
_ABOUT_ONE_FILE = {
    *(errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.ENODEV),
    *(errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL, errno.EACCES, errno.EPERM),
}
# A network filesystem that changes its server says these for a while.
_TRANSIENT = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EINTR, errno.EAGAIN}
_PAUSES_SECONDS = (0.1, 0.3, 1.0)
_HINTS = {
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
    errno.ENFILE: "the whole system has too many open files",
    errno.ENOMEM: "raise the limit (ulimit -v), or use fewer `workers`",
}
# They are the machine's only where `is_about_file` says so.
_HINTS |= dict.fromkeys(
    _ABOUT_ONE_FILE, "its folder is gone or closed, or says otherwise; is it still mounted?"
)
_DEFAULT_HINT = "this is the machine's fault, not the sample's"
_THREAD_HINT = "raise the limit on processes or memory (ulimit -u, ulimit -v)"
_REINSTALL = "if memory is not short (ulimit -v), install it again"
_OPENCV_NO_MEMORY = -4  # cv2.Error.StsNoMem


def retry(call: Callable[[], Value], path: str) -> Value:
    """Call a function; while it fails with a transient error, call it up to three times more.

    An error about `path` that the system contradicts when it is asked again may be transient, too.

    Raises
    ------
    OSError
        The error of the last call.
    """
    for pause in _PAUSES_SECONDS:
        try:
            return call()
        except OSError as error:
            if error.errno not in _TRANSIENT and not _is_contradicted(error, path):
                raise
        time.sleep(pause)
    return call()


def is_about_file(error: OSError, path: str) -> bool:
    """Whether an error speaks of the file or folder at `path` alone.

    If the folder that holds it is gone, or is empty although the path was found in it, a mount
    has gone. Nor is it about the file if the system says otherwise when it is asked again.
    """
    if error.errno not in _ABOUT_ONE_FILE or _is_contradicted(error, path):
        return False
    return _holds_anything(os.path.dirname(path))


def _is_contradicted(error: OSError, path: str) -> bool:
    """Whether there is a file or folder that may be read, although an error says otherwise."""
    if error.errno not in _ABOUT_ONE_FILE:
        return False
    try:
        mode = os.stat(path).st_mode
    except ValueError:  # no file has such a name
        return False
    except OSError:
        # A network client may remember that a name was missing; listing its folder asks the server.
        return _is_listed(path) and not os.path.islink(path)
    if stat.S_ISREG(mode):
        return os.access(path, os.R_OK)
    is_folder = stat.S_ISDIR(mode) and error.errno != errno.EISDIR
    return is_folder and os.access(path, os.R_OK | os.X_OK)


def _is_listed(path: str) -> bool:
    folder, name = os.path.split(path)
    try:
        return name in os.listdir(folder)
    except OSError:
        return False


def _holds_anything(folder: str) -> bool:
    try:
        # With the dot, a folder that can be listed but not entered fails, too.
        with os.scandir(os.path.join(folder, os.curdir)) as entries:
            return any(True for _ in entries)
    except OSError:
        return False


def machine_error(error: Exception, path: str = "") -> MachineError | None:
    """Return what ends the job because of an exception, or None if the machine is not to blame.

    An OSError counts as the machine's, so errors for which `is_about_file` holds do not
    belong here.

    Parameters
    ----------
    error : Exception
    path : str, optional
        The file or folder that was being worked on.
    """
    if isinstance(error, MemoryError) or _is_from_opencv_for_memory(error):
        text = f"out of memory: {error}" if str(error) else "out of memory"
        return MachineError(text, path, _HINTS[errno.ENOMEM])
    if isinstance(error, ImportError):
        return MachineError(f"cannot import a library: {_first_cause(error)}", path, _REINSTALL)
    if isinstance(error, OSError):
        hint = _HINTS.get(error.errno or 0, _DEFAULT_HINT)
        return MachineError(str(error.strerror or error), path or str(error.filename or ""), hint)
    if isinstance(error, RuntimeError) and "can't start new thread" in str(error):
        return MachineError(str(error), path, _THREAD_HINT)
    return None


def _first_cause(error: BaseException) -> BaseException:
    """Return the error that was raised first: numpy hides it below a page of advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _is_from_opencv_for_memory(error: Exception) -> bool:
    return type(error).__module__ == "cv2" and getattr(error, "code", None) == _OPENCV_NO_MEMORY


@contextmanager
def machine_errors(path: str = "") -> Iterator[None]:
    """Turn an exception into a MachineError about `path` if the machine is to blame."""
    try:
        yield
    except Exception as error:
        fault = machine_error(error, path)
        if fault is None:
            raise
        raise fault from error


@contextmanager
def writing(path: str) -> Iterator[None]:
    """Turn an operating system error while writing into an OutputError about `path`."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"cannot write it: {_reason(error, path)}", path) from error


@contextmanager
def reading(path: str) -> Iterator[None]:
    """Turn an operating system error while reading into an OutputError about `path`."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"cannot read it: {error.strerror or error}", path) from error


def _reason(error: OSError, path: str) -> str:
    """Say what the system refused, even if one error number means several limits."""
    reason = error.strerror or str(error)
    if error.errno == errno.ENOSPC and _has_no_inodes(os.path.dirname(path)):
        return f"{reason} (no inodes are left: the disk holds too many files)"
    if error.errno == errno.EFBIG:
        import resource  # here because only Unix has it, and only this error needs it

        limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
        if limit != resource.RLIM_INFINITY:
            return f"{reason} (ulimit -f allows {limit:,} bytes)"
        return f"{reason} (more than the filesystem allows)"
    return reason


def _has_no_inodes(folder: str) -> bool:
    try:
        status = os.statvfs(folder)
    except OSError:
        return False
    return status.f_files > 0 and status.f_favail == 0


def is_folder(path: str) -> bool:
    """Whether a path leads to a folder.

    Raises
    ------
    MachineError
        If the system cannot tell, which `os.path.isdir` takes for a no.
    """
    try:
        return stat.S_ISDIR(retry(lambda: os.stat(path), path).st_mode)
    except ValueError:  # no folder has such a name
        return False
    except OSError as error:
        if error.errno in _ABOUT_ONE_FILE:
            return False
        hint = _HINTS.get(error.errno or 0, "")
        raise MachineError(
            f"cannot tell whether it is a folder: {error.strerror}", path, hint
        ) from error
