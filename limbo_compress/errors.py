"""The package's exceptions. Each is one clear line: what was found, where, and what to do next.

They take positional arguments only, so that they survive pickling on their way from a worker
to the coordinator. A message writes the name of a field of `Options` in backticks; the command
line prints the flag instead.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache

__all__ = [
    "CompressError",
    "InputError",
    "MachineError",
    "OutputError",
    "SampleError",
    "Stopped",
    "UsageError",
    "WorkerError",
    "nearest",
    "nearest_names",
    "output_errors",
    "reading_errors",
    "shown",
]

# Longer paths and messages are shortened in the middle, so that they stay one readable line.
_MAX_SHOWN = 300
_MAX_MESSAGE = 2000
# More names than this make no better advice.
_MAX_NEAREST = 20


def shown(text: str, limit: int = _MAX_SHOWN) -> str:
    r"""Write a text so that it fits a line: no control characters, and not too long.

    Escaped is what `str.isprintable` excludes: control characters, including those that change the
    direction of the text, and separators other than the space.

    Examples
    --------
    >>> print(shown("/data/a\nb.json"))
    /data/a\nb.json
    """
    if len(text) > 2 * limit:  # of a text of any length, the ends are enough
        text = f"{text[:limit]}…{text[-limit:]}"
    line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    if len(line) <= limit:
        return line
    half = (limit - 1) // 2
    return f"{line[:half]}…{line[-half:]}"


def nearest(wanted: Iterable[str], known: Iterable[str]) -> str:
    """List the known names for a message, the most similar to the wanted ones first, at most 20.

    Examples
    --------
    >>> nearest(["30b"], ["48G", "background", "30B"])
    '30B, background, 48G'
    >>> nearest(["30b"], [])
    'none'
    """
    return ", ".join(nearest_names(wanted, known)) or "none"


def nearest_names(wanted: Iterable[str], known: Iterable[str]) -> tuple[str, ...]:
    """Return the names that `nearest` lists, as it shows them.

    The names nearest to one wanted name, chosen from parts of the known ones and then from what
    was chosen, are those chosen from all of them.
    """
    wanted = list(map(shown, wanted))
    ranked = sorted(
        sorted(set(map(shown, known))),
        key=lambda name: max(_similarity(text, name) for text in wanted),
        reverse=True,
    )
    return tuple(ranked[:_MAX_NEAREST])


@lru_cache(1 << 12)  # the same labels occur in shard after shard
def _similarity(one: str, other: str) -> float:
    from difflib import SequenceMatcher  # here because only a warning needs it

    return SequenceMatcher(None, one.casefold(), other.casefold()).ratio()


class CompressError(Exception):
    """Base of every error that this package raises on purpose.

    Parameters
    ----------
    problem : str
        What was found, and what was expected where that is not obvious.
    path : str, optional
        The file or folder concerned.
    hint : str, optional
        What to do next.

    Attributes
    ----------
    exit_code : int
        The exit status of the command for this error.
    """

    exit_code = 1

    def __init__(self, problem: str, path: str = "", hint: str = "") -> None:
        super().__init__(problem, path, hint)
        self.problem = problem
        self.path = path
        self.hint = hint

    def add_hint(self, hint: str) -> None:
        """Append to what the error tells the user to do."""
        self.hint = f"{self.hint}; {hint}" if self.hint else hint

    def __str__(self) -> str:
        line = f"{shown(self.path)}: {self.problem}" if self.path else self.problem
        return shown(f"{line}; {self.hint}" if self.hint else line, _MAX_MESSAGE)


class UsageError(CompressError):
    """The options make no sense, or do not work on this machine. No work was done."""

    exit_code = 2


class InputError(CompressError):
    """The directories cannot be listed or hold no sample, or outputs cannot be read back."""


class SampleError(CompressError):
    """One sample is bad: its metadata, its image, or its cryptomatte."""


class MachineError(CompressError):
    """The machine failed, not the data: its memory, a limit, a mount, or a library."""


class OutputError(CompressError):
    """An output could not be created, written, verified or published."""


class WorkerError(CompressError):
    """A worker process ended without an answer."""


class Stopped(BaseException):
    """A signal asked the job to end. Like KeyboardInterrupt, ``except Exception`` ignores it.

    Parameters
    ----------
    name : str
        Name of the signal.
    exit_code : int
        128 plus the signal's number, as shells report it.
    """

    def __init__(self, name: str, exit_code: int) -> None:
        super().__init__(name, exit_code)
        self.name = name
        self.exit_code = exit_code
        self.hint = ""

    def add_hint(self, hint: str) -> None:
        """Append to what the message tells the user to do."""
        self.hint = f"{self.hint}; {hint}" if self.hint else hint

    def __str__(self) -> str:
        return f"stopped by {self.name}; {self.hint}" if self.hint else f"stopped by {self.name}"


@contextmanager
def output_errors(path: str) -> Iterator[None]:
    """Turn an operating system error while writing into an OutputError about `path`."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"cannot write it: {_reason(error, path)}", path) from error


@contextmanager
def reading_errors(path: str) -> Iterator[None]:
    """Turn an operating system error while reading into an OutputError about `path`."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"cannot read it: {error.strerror or error}", path) from error


def _reason(error: OSError, path: str) -> str:
    """Say what the system refused, also where one error number stands for several limits."""
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
