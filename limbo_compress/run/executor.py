"""The protocols of executors and their tasks. They know nothing about Limbo."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, Self, TypeVar

__all__ = ["AnyTask", "Executor", "Result", "Task"]

Result = TypeVar("Result")
Result_co = TypeVar("Result_co", covariant=True)
AnyTask = TypeVar("AnyTask", bound="Task[Any]")


class Task(Protocol[Result_co]):
    """A small picklable value that a worker turns into a result."""

    def divide(self) -> Sequence[Self]:
        """Divide the task into the smallest ones that do the same together."""

    def give_up(self, ending: str) -> Result_co:
        """Return the result of an indivisible task that kills its workers; `ending` says how."""


class Executor(Protocol[AnyTask, Result_co]):
    """Runs a function over tasks. A context manager that stops all work on leaving."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def expect(self, tasks: int) -> None:
        """Start preparing for this many tasks, if that has not begun; return at once."""

    def run(
        self, tasks: Sequence[AnyTask], complete: Callable[[AnyTask], AnyTask]
    ) -> Iterator[Result_co]:
        """Yield the result of each task, in any order.

        `complete` is called with a task just before a worker gets it. What it returns is sent.
        """
