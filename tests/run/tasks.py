"""Tasks for the tests of executors: small numbers, and what workers do with them."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limbo_compress.errors import SampleError
from limbo_compress.run.executor import Ending
from tests.jobs import wait_until


@dataclass(frozen=True)
class Numbers:
    """A task: some numbers, and a folder for files of its own."""

    numbers: tuple[int, ...]
    folder: str = ""

    def __len__(self) -> int:
        return len(self.numbers)

    def divide(self) -> list[Numbers]:
        return [Numbers((number,), self.folder) for number in self.numbers]

    def give_up(self, ending: Ending) -> list[str]:
        assert len(self.numbers) == 1
        origin = " (from outside)" if ending.is_from_outside else ""
        return [f"{self.numbers[0]} {ending.text}{origin}"]


def tasks(count: int, folder: Path | str = "") -> list[Numbers]:
    """Make tasks of three numbers each, counted from 0."""
    return [Numbers((n, n + 1, n + 2), str(folder)) for n in range(0, 3 * count, 3)]


def double(task: Numbers) -> list[Any]:
    return [2 * number for number in task.numbers]


def describe_worker(task: Numbers) -> list[Any]:
    """Return the worker's process id and its thread limit, once three workers have a task."""
    Path(task.folder, str(os.getpid())).touch()
    wait_until(lambda: len(os.listdir(task.folder)) == 3, "three workers")
    return [(os.getpid(), os.environ.get("OPENBLAS_NUM_THREADS"))]


def no_user_site(task: Numbers) -> list[Any]:
    return [sys.flags.no_user_site]


def refuse(task: Numbers) -> list[Any]:
    raise SampleError("bad", f"/{task.numbers[0]}", "repair it")


def divide_by_zero(task: Numbers) -> list[Any]:
    return [1 / number for number in task.numbers]


def raise_once(task: Numbers) -> list[Any]:
    """Raise in the first process that does this task."""
    marker = Path(task.folder, str(task.numbers))
    if not marker.exists():
        marker.touch()
        raise LookupError
    return double(task)


_done_by_this_process: list[Numbers] = []


def raise_unless_fresh(task: Numbers) -> list[Any]:
    """Raise in every process that has already done a task."""
    _done_by_this_process.append(task)
    if len(_done_by_this_process) > 1:
        raise LookupError
    return double(task)


def raise_always(task: Numbers) -> list[Any]:
    for number in task.numbers:
        Path(task.folder, str(number)).touch()
    raise LookupError


def die_of_7_8_and_13(task: Numbers) -> list[Any]:
    if 7 in task.numbers:
        os.kill(os.getpid(), signal.SIGSEGV)
    if 8 in task.numbers:
        os.kill(os.getpid(), signal.SIGKILL)
    if 13 in task.numbers:
        os._exit(3)
    return double(task)


def die_once(task: Numbers) -> list[Any]:
    """Die in the first process that does this task."""
    marker = Path(task.folder, str(task.numbers))
    if not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return double(task)


def run_forever(task: Numbers) -> list[Any]:
    """Leave the process id in a file and never return, except with the number 0."""
    if task.numbers == (0,):
        return []
    draft = Path(task.folder, f"{task.numbers[0]}.draft")
    draft.write_text(str(os.getpid()))
    draft.rename(draft.with_suffix(".pid"))
    while True:
        time.sleep(60)


def lacks_nothing() -> str:
    return ""


def exit_at_once() -> None:
    os._exit(9)


def stand_still(task: Numbers) -> Generator[str, None, list[Any]]:
    """Stop this process at the second number, as a file on a network may."""
    for number in task.numbers:
        yield f"number {number}"
        if number == 1:
            os.kill(os.getpid(), signal.SIGSTOP)
    return [2 * number for number in task.numbers]
