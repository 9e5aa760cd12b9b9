"""Run tasks on an engine, whatever happens to its workers. Nothing here knows about Limbo.

The policy is here, once: how many tasks are under way, what happens to those whose worker is
lost, and when a task is given up. An engine only carries tasks to workers and answers back.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, Self, TypeVar

__all__ = ["AnyTask", "Ending", "Engine", "Executor", "Lost", "Progress", "Result", "Task"]

_log = logging.getLogger("limbo_compress")

# A task loses this many workers before it counts as the cause of their deaths.
_LOSSES_AMONG_OTHERS = 2
_LOSSES_ALONE = 3
# This many suspects are a reason to look at them before the rest of the work.
_MAX_SUSPECTS = 8

Result = TypeVar("Result")
Result_co = TypeVar("Result_co", covariant=True)
AnyTask = TypeVar("AnyTask", bound="Task[Any]")
AnyTask_contra = TypeVar("AnyTask_contra", bound="Task[Any]", contravariant=True)

# Called with how much is done, and of how much.
Progress = Callable[[int, int], object]


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


@dataclass(frozen=True)
class Lost:
    """What an engine answers if it lost the worker that had a task."""

    ending: Ending


class Task(Protocol[Result_co]):
    """A small picklable value that a worker turns into a result."""

    def __len__(self) -> int:
        """How much work it is, in units that take about equally long."""

    def divide(self) -> Sequence[Self]:
        """Divide the task into the smallest ones that do the same together."""

    def give_up(self, ending: Ending) -> Result_co:
        """Return the result of an indivisible task that loses every worker, the last one so."""


class Engine(Protocol[AnyTask_contra, Result_co]):
    """Carries tasks to workers, and their answers back.

    A context manager; on leaving, no worker does anything more.

    Attributes
    ----------
    is_local : bool
        Whether all workers share the memory and the page cache of this machine.
    left_alive : bool
        Whether a worker could not be ended, or nobody knows that it has: it may still write.
    """

    is_local: bool
    left_alive: bool

    @property
    def width(self) -> int:
        """How many tasks run at once."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def expect(self, tasks: int) -> None:
        """Start preparing for this many tasks, if that has not begun; return at once."""

    def prepare(self, probe: Callable[[], str]) -> None:
        """Let every other machine show that it can take part.

        Parameters
        ----------
        probe : callable
            Picklable; called there, it says what the machine lacks, or nothing.

        Raises
        ------
        WorkerError
            If one cannot.
        """

    def room(self) -> int:
        """How many more tasks can be given now. Workers come and go, so ask each time."""

    def give(self, ticket: int, task: AnyTask_contra) -> None:
        """Take a task, of which there is room for at least one.

        Parameters
        ----------
        ticket : int
            A number that comes back with the answer.
        task : Task
        """

    def next(self) -> tuple[int, Result_co | Lost] | None:
        """Wait for the next answer, or None where only the room has changed.

        Raises
        ------
        LimboError
            If the function raised one, or there are no workers.
        """

    def dismiss(self) -> None:
        """End all workers, whatever they are doing. Fresh ones do what is given afterwards."""


class Executor(Generic[AnyTask, Result]):
    """Does tasks on an engine, each once, and survives what happens to its workers.

    A worker that is lost, or whose function raises what nobody foresaw, concerns one task: it is
    divided and done again. A divided task that loses a worker, too, is a suspect. Suspects run
    alone, each in a fresh worker. One that raises again, or loses three more, is given up.

    Parameters
    ----------
    engine : Engine
    complete : callable, optional
        Called in this process with a task just before a worker gets it. What it returns is sent.
    """

    def __init__(
        self,
        engine: Engine[AnyTask, Result],
        complete: Callable[[AnyTask], AnyTask] = lambda task: task,
    ) -> None:
        self._engine = engine
        self._complete = complete
        self._tickets = 0
        # For each task under way, how many workers it has lost.
        self._under_way: dict[int, tuple[AnyTask, int]] = {}

    def run(self, tasks: Sequence[AnyTask]) -> Generator[Result, None, None]:
        """Do each task.

        Parameters
        ----------
        tasks : sequence of Task
            Small picklable values.

        Yields
        ------
        result
            In the order in which they arrive. Closing the generator ends all workers.

        Raises
        ------
        WorkerError
            If there are no workers.
        LimboError
            If the function raises one.
        """
        waiting = deque((task, 0) for task in tasks)
        try:
            while waiting:
                suspects = yield from self._work(waiting, _LOSSES_AMONG_OTHERS)
                for suspect, _ in suspects:
                    yield from self._work_alone(suspect)
        finally:
            self._under_way.clear()
            self._engine.dismiss()

    def _work_alone(self, task: AnyTask) -> Generator[Result, None, None]:
        """Do a suspect in a fresh worker; give it up if that fails, too."""
        for _ in range(_LOSSES_ALONE):
            self._engine.dismiss()
            lost = yield from self._work(deque([(task, 0)]), 1)
            if not lost:
                return
            ((task, ending),) = lost
            if ending.is_exception:  # unlike a death, it is not an accident
                break
        yield task.give_up(ending)

    def _work(
        self, waiting: deque[tuple[AnyTask, int]], max_losses: int
    ) -> Generator[Result, None, list[tuple[AnyTask, Ending]]]:
        """Do tasks until none is waiting, or some are lost.

        `waiting` has for each task how many workers it has lost. Returns the tasks that lost
        `max_losses` workers, and how the last of these ended.
        """
        lost: list[tuple[AnyTask, Ending]] = []
        while self._under_way or (waiting and len(lost) < _MAX_SUSPECTS):
            if len(lost) < _MAX_SUSPECTS:
                self._hand_out(waiting)
            message = self._engine.next()
            if message is None:
                continue
            ticket, answer = message
            task, losses = self._under_way.pop(ticket)
            if not isinstance(answer, Lost):
                yield answer
            elif losses + 1 == max_losses:
                lost.append((task, answer.ending))
            else:
                if not losses:
                    _log.warning("a worker process %s; its work is done again", answer.ending.text)
                waiting.extendleft((divided, losses + 1) for divided in task.divide())
        return lost

    def _hand_out(self, waiting: deque[tuple[AnyTask, int]]) -> None:
        self._engine.expect(len(waiting) + len(self._under_way))
        while waiting and self._engine.room():
            task, losses = waiting.popleft()
            task = self._complete(task)
            self._tickets += 1
            self._under_way[self._tickets] = (task, losses)
            self._engine.give(self._tickets, task)
