"""The real command, but a signal arrives just before a chosen change to a file.

``python -m tests.programs.interrupted MARKER MOMENT COUNT DEED [arguments of limbo-compress]``

MOMENT says which changes below the current folder count: those of the ``coordinator``, those of a
``worker``, or the coordinator's at ``final`` names, whose prefix must be ``out``. Just before
change number COUNT, DEED is done, once: the file MARKER appears, and a signal is sent. So the same
arguments kill or stop a run at the same place, whatever else the machine does.
"""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from typing import Any, Literal

from limbo_compress.cli.start import main

Moment = Literal["coordinator", "worker", "final"]
Deed = Literal["kill", "kill coordinator", "kill group", "terminate", "stop group", "orphan"]

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class Interruption:
    """An audit hook that does a deed before a change to a file."""

    def __init__(self, marker: str, moment: str, count: int, deed: str) -> None:
        self._marker = marker
        self._moment = moment
        self._count = count
        self._deed = deed
        self._folder = os.getcwd()
        self._coordinator = os.getpid()
        self._changes: Counter[int] = Counter()

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        if not self._counts(_changed(event, args)):
            return
        self._changes[os.getpid()] += 1
        if self._changes[os.getpid()] == self._count and self._is_first():
            self._act()

    def _counts(self, changed: list[str]) -> bool:
        paths = [os.path.join(self._folder, path) for path in changed]
        if not any(path.startswith(f"{self._folder}/") for path in paths):
            return False
        final = os.path.join(self._folder, "out-")
        if self._moment == "final" and not any(path.startswith(final) for path in paths):
            return False
        return (os.getpid() == self._coordinator) != (self._moment == "worker")

    def _is_first(self) -> bool:
        """Whether no other worker has been here; each of them counts for itself."""
        try:
            os.close(os.open(self._marker, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return False
        return True

    def _act(self) -> None:
        match self._deed:
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "kill coordinator":
                os.kill(self._coordinator, signal.SIGKILL)
            case "kill group":
                os.killpg(0, signal.SIGKILL)
            case "terminate":
                os.kill(self._coordinator, signal.SIGTERM)
            case "stop group":
                os.killpg(0, signal.SIGSTOP)
            case "orphan":
                os.kill(self._coordinator, signal.SIGKILL)
                os.kill(os.getpid(), signal.SIGSTOP)


def _changed(event: str, args: tuple[Any, ...]) -> list[str]:
    """Paths that an audited call is about to change; names in open folders as they are."""
    match event, args:
        case "open", (path, _, int(flags)) if flags & _WRITES:
            paths = [path]
        case "os.rename", (source, target, *_):
            paths = [source, target]
        case (("os.mkdir" | "os.remove" | "os.rmdir"), (path, *_)):
            paths = [path]
        case _:
            return []
    return [os.fsdecode(path) for path in paths if isinstance(path, str | bytes | os.PathLike)]


if __name__ == "__main__":
    marker, moment, count, deed, *arguments = sys.argv[1:]
    sys.addaudithook(Interruption(marker, moment, int(count), deed))
    sys.exit(main(arguments))
