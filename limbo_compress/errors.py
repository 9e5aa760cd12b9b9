"""The package's exceptions. Each is one clear line: what was found, where, and what to do next.

::

    Exception
      LimboError          base of all that this package raises on purpose; alias CompressError
        UsageError        the options make no sense, or do not work on this machine
        InputError        no samples, or outputs that cannot be read back
          MissingError    there are no outputs of a prefix; also a FileNotFoundError
        SampleError       one sample is bad
        MachineError      the machine failed, not the data
        OutputError       an output cannot be created, written, verified or published
        WorkerError       a worker process ended without an answer
    BaseException
      Stopped             a signal asked the job to end

They take positional arguments only, so that they survive pickling on their way from a worker
to the coordinator. A message writes the name of a field of `Options` in backticks; the command
line prints the flag instead.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable
from functools import lru_cache

__all__ = [
    "CompressError",
    "InputError",
    "LimboError",
    "MachineError",
    "MissingError",
    "OutputError",
    "SampleError",
    "Stopped",
    "UsageError",
    "WorkerError",
    "missing_extra",
    "nearest",
    "nearest_names",
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


class LimboError(Exception):
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


CompressError = LimboError  # its name in version 0.1.0


class UsageError(LimboError):
    """The options make no sense, or do not work on this machine. No work was done."""

    exit_code = 2


def missing_extra(problem: str, extra: str) -> UsageError:
    """Make the error for a library that an extra of this package brings."""
    return UsageError(problem, "", f"pip install 'limbo-compress[{extra}]'")


class InputError(LimboError):
    """The directories cannot be listed or hold no sample, or outputs cannot be read back."""


class MissingError(InputError, FileNotFoundError):
    """There are no outputs of a prefix."""

    def __init__(self, problem: str, path: str = "", hint: str = "") -> None:
        super().__init__(problem, path, hint)
        self.errno, self.strerror, self.filename = errno.ENOENT, problem, path

    def __reduce__(self) -> tuple[type[MissingError], tuple[str, str, str]]:
        return type(self), (self.problem, self.path, self.hint)


class SampleError(LimboError):
    """One sample is bad: its metadata, its image, or its cryptomatte."""


class MachineError(LimboError):
    """The machine failed, not the data: its memory, a limit, a mount, or a library."""


class OutputError(LimboError):
    """An output could not be created, written, verified or published."""


class WorkerError(LimboError):
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
