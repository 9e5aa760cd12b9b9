"""A program for `test_launch.py`: it prints how workers start and what they inherit."""

from __future__ import annotations

import threading

import psutil

from limbo_compress.run.executor import Executor
from limbo_compress.run.processes import ProcessEngine
from tests.run import launched
from tests.run.tasks import Numbers, tasks

seen: list[str] = []


def look(task: Numbers) -> list[int]:
    """How much this process remembers of what the coordinator did before."""
    return [len(seen)]


def started_and_inherited() -> tuple[int, list[int]]:
    with ProcessEngine(launched.look, 8) as engine:
        for count in (0, 1, 2, 2):
            engine.expect(count)
        started = len(psutil.Process().children())
        return started, [item for result in Executor(engine).run(tasks(2)) for item in result]


if __name__ == "__main__":
    launched.seen.append("before")
    print(started_and_inherited())
    threading.Thread(target=threading.Event().wait, daemon=True).start()
    print(started_and_inherited())
