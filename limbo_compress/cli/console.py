"""Standard streams that cannot end a job: they may be full, closed, or without a reader."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress

TYPE_CHECKING = False  # importing it from typing takes long, and no signal is caught yet
if TYPE_CHECKING:
    from typing import TextIO

__all__ = [
    "escaped",
    "flush",
    "name_command",
    "open_missing_streams",
    "print_error",
    "print_output",
]

_command = "limbo-compress"
_MAX_MESSAGE = 2000


def name_command(name: str) -> None:
    """Say which command this process is; its name stands before errors."""
    global _command
    _command = name


def open_missing_streams() -> None:
    """Open the null device for each standard stream that is closed.

    Otherwise the next file that is opened would get its descriptor, and what libraries print to
    stderr would land in an output.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it gets the lowest descriptor that is free
    # Python itself sets closed ones to None.
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # like stderr: a name may be any bytes


def print_output(line: str) -> None:
    """Print a line to stdout, if it can be printed."""
    _print(line, sys.stdout)


def print_error(line: str) -> None:
    """Print a line to stderr, after the name of the command, if it can be printed."""
    if len(line) > _MAX_MESSAGE:
        line = f"{line[: _MAX_MESSAGE // 2]}…{line[-_MAX_MESSAGE // 2 :]}"
    _print(f"{_command}: {line}", sys.stderr)


def escaped(text: str) -> str:
    """Escape control characters of any kind: a name may hold any, but a message is one line."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def flush() -> None:
    """Flush both streams, so that Python has nothing left that could fail at its exit."""
    for stream in (sys.stdout, sys.stderr):
        _print("", stream, end="")


def _print(line: str, stream: TextIO, end: str = "\n") -> None:
    try:
        print(escaped(line), file=stream, end=end, flush=True)
    except (OSError, ValueError):
        # What is still in the buffer would fail again at exit, and change the exit code.
        with suppress(OSError, ValueError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, stream.fileno())
            os.close(null)
