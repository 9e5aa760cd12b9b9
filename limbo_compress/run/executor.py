"""The protocols of executors and their tasks. They know nothing about Limbo."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self, TypeVar

__all__ = ["AnyTask", "Ending", "Executor", "Result", "Task"]

Result = TypeVar("Result")
Result_co = TypeVar("Result_co", covariant=True)
AnyTask = TypeVar("AnyTask", bound="Task[Any]")


@dataclass(frozen=True)
class Ending:
    """How a worker ended.

    Attributes
    ----------
    text : str
        Such as "was killed by SIGSEGV".
    is_from_outside : bool
        Whether the system or a user ended it, not what it was doing.
    is_exception : bool
        Whether it raised one that nobody foresaw.
    """

    text: str
    is_from_outside: bool = False
    is_exception: bool = False


class Task(Protocol[Result_co]):
    """A small picklable value that a worker turns into a result."""

    def divide(self) -> Sequence[Self]:
        """Divide the task into the smallest ones that do the same together."""

    def give_up(self, ending: Ending) -> Result_co:
        """Return the result of an indivisible task that loses every worker, the last one so."""


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
