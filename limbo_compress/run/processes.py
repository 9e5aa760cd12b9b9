"""Run a function over tasks in worker processes of this machine.

Each worker is a process with a pipe of its own. When a worker of `concurrent.futures` dies,
`BrokenProcessPool` fails every unfinished task and does not say which one the worker had. Here a
death is noticed at once and concerns one task only.
"""

from __future__ import annotations

import logging
import os
import resource
import signal
import time
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing import connection
from multiprocessing.connection import Connection
from typing import Any, Generic, Self

from ..errors import CompressError, WorkerError
from .executor import AnyTask, Ending, Result
from .launch import DESCRIPTORS, NO_THREAD, Serve, launch

__all__ = ["ProcessExecutor"]

_log = logging.getLogger("limbo_compress")

_MAX_FAILED_STARTS = 8
# A task loses this many workers before it counts as the cause of their deaths.
_LOSSES_AMONG_OTHERS = 2
_LOSSES_ALONE = 3
_PAUSE_SECONDS = 0.05
# So many suspects are a reason to look at them before the rest of the work.
_MAX_SUSPECTS = 8
# Signals by which the kernel and the C library end a process for what it does itself.
_CRASHES = {signal.SIGSEGV, signal.SIGABRT, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP}
_REASONS = {
    signal.SIGKILL: ", as when memory runs out (fewer --workers need less)",
    signal.SIGBUS: ", as when a disk fails or a quota is reached",
}
# What this process needs besides its workers.
_RESERVED_DESCRIPTORS = 32
_JOIN_SECONDS = 5.0


def _do_nothing() -> None:
    pass


def _affordable_workers(wanted: int) -> int:
    """How many of the wanted workers the limit on open files leaves room for."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return wanted
    affordable = max(1, (limit - _RESERVED_DESCRIPTORS) // DESCRIPTORS)
    if affordable < wanted:
        _log.warning(
            "starting %d of %d workers: more would exceed the limit of %d open files (ulimit -n)",
            affordable,
            wanted,
            limit,
        )
    return affordable


class ProcessExecutor(Generic[AnyTask, Result]):
    """Calls a function with tasks in worker processes.

    A context manager; on leaving, it kills the workers, whatever they are doing.

    Parameters
    ----------
    function : callable
        Picklable, because other processes call it.
    workers : int
        Number of processes. Where the system refuses to start as many, fewer do the work.
    initialize : callable, optional
        Called first in each of these processes; also picklable.
    """

    def __init__(
        self,
        function: Callable[[AnyTask], Result],
        workers: int,
        initialize: Callable[[], object] = _do_nothing,
    ) -> None:
        self._serve = partial(_serve, function, initialize)
        self._size = min(workers, _affordable_workers(workers))
        self._workers: dict[Connection, _Worker[AnyTask, Result]] = {}
        self._failed_starts = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._shutdown()

    def expect(self, tasks: int) -> None:
        """Start the processes that this many tasks need, if they are not running yet.

        They import what they need while this process goes on.
        """
        while len(self._workers) < min(self._size, tasks):
            self._spawn()

    def run(
        self, tasks: Sequence[AnyTask], complete: Callable[[AnyTask], AnyTask]
    ) -> Iterator[Result]:
        """Call the function with each task.

        A worker that dies, or whose function raises what nobody foresaw, is replaced, and its
        task is divided and done again. A divided task that loses a worker, too, is a suspect.
        Suspects run alone, each in a fresh worker. One that raises again, or loses three more, is
        given up.

        Parameters
        ----------
        tasks : sequence of Task
            Small picklable values.
        complete : callable
            Called in this process with a task just before a worker gets it. What it returns is
            sent.

        Yields
        ------
        result
            In the order in which they arrive. Closing the generator ends all workers.

        Raises
        ------
        WorkerError
            If workers cannot be started.
        CompressError
            If the function raises one.
        """
        waiting = deque((task, 0) for task in tasks)
        try:
            while waiting:
                suspects = yield from self._work(
                    waiting, complete, self._size, _LOSSES_AMONG_OTHERS
                )
                for suspect, _ in suspects:
                    yield from self._work_alone(suspect, complete)
        finally:
            self._shutdown()

    def _work_alone(
        self, task: AnyTask, complete: Callable[[AnyTask], AnyTask]
    ) -> Generator[Result, None, None]:
        """Do a suspect in a fresh worker; give it up if that fails, too."""
        for _ in range(_LOSSES_ALONE):
            self._shutdown()
            lost = yield from self._work(deque([(task, 0)]), complete, 1, 1)
            if not lost:
                return
            ((task, ending),) = lost
            if ending.is_exception:  # unlike a death, it is no accident
                break
        yield task.give_up(ending)

    def _work(
        self,
        waiting: deque[tuple[AnyTask, int]],
        complete: Callable[[AnyTask], AnyTask],
        size: int,
        max_losses: int,
    ) -> Generator[Result, None, list[tuple[AnyTask, Ending]]]:
        """Do tasks with `size` workers until none is waiting, or some are lost.

        `waiting` has for each task how many workers it has lost. Returns the tasks that lost
        `max_losses` workers, and how the last of these ended.
        """
        lost: list[tuple[AnyTask, Ending]] = []
        while self._is_busy() or (waiting and len(lost) < _MAX_SUSPECTS):
            if len(lost) < _MAX_SUSPECTS:
                self._hand_out(waiting, complete, size)
            for pipe in connection.wait(list(self._workers)):
                worker = self._workers[pipe]  # type: ignore[index]  # only these are waited for
                try:
                    answer = worker.receive()
                except EOFError:
                    lost += self._lose(worker, waiting, max_losses)
                else:
                    self._failed_starts = 0
                    if not isinstance(answer, _Ready):
                        yield answer
        return lost

    def _is_busy(self) -> bool:
        return any(worker.assigned for worker in self._workers.values())

    def _hand_out(
        self,
        waiting: deque[tuple[AnyTask, int]],
        complete: Callable[[AnyTask], AnyTask],
        size: int,
    ) -> None:
        """Give waiting tasks to idle workers, of which there are up to `size`."""
        while len(self._workers) < min(size, self._size, len(waiting)):
            self._spawn()
        for worker in self._workers.values():
            if waiting and worker.ready and not worker.assigned:
                task, losses = waiting.popleft()
                worker.send(complete(task), losses)

    def _spawn(self) -> None:
        """Start a worker. If the system refuses, continue with those that run."""
        try:
            spawned = _Worker[AnyTask, Result](self._serve, list(self._workers))
        except OSError as error:
            if not self._workers:
                self._count_failed_start(f"could not be started: {error.strerror}")
                return
            self._size = len(self._workers)
            _log.warning(
                "only %d worker processes could be started: %s", self._size, error.strerror
            )
        else:
            self._workers[spawned.pipe] = spawned

    def _lose(
        self,
        worker: _Worker[AnyTask, Result],
        waiting: deque[tuple[AnyTask, int]],
        max_losses: int,
    ) -> list[tuple[AnyTask, Ending]]:
        """Remove a worker that is of no more use; divide its task, or return it as lost."""
        del self._workers[worker.pipe]
        ending = worker.ending()
        if not worker.ready:
            self._count_failed_start(ending.text)
        if worker.assigned is None:
            return []
        task, losses = worker.assigned
        if losses + 1 == max_losses:
            return [(task, ending)]
        if not losses:
            _log.warning("a worker process %s; its work is done again", ending.text)
        waiting.extendleft((divided, losses + 1) for divided in task.divide())
        return []

    def _count_failed_start(self, ending: str) -> None:
        self._failed_starts += 1
        if self._failed_starts == _MAX_FAILED_STARTS:
            raise WorkerError(
                f"worker processes do not even start: the last one {ending}",
                "",
                "if a limit was reached (ulimit -a), raise it, or use fewer `workers`",
            )
        time.sleep(self._failed_starts * _PAUSE_SECONDS)

    def _shutdown(self) -> None:
        """Kill all workers at once; a resumed job does what they leave unfinished."""
        for worker in self._workers.values():
            worker.kill()
        self._workers.clear()


class _Ready:
    """What a worker sends once it is initialized."""


@dataclass(frozen=True)
class _Unforeseen:
    """What a worker sends if it met an exception that is not one of ours, in words."""

    text: str


class _Worker(Generic[AnyTask, Result]):
    """A worker process, seen from the coordinator.

    Attributes
    ----------
    pipe : Connection
        Readable once a message has arrived or the process has ended.
    ready : bool
        Whether it is initialized.
    assigned : tuple or None
        Its task, and how many workers that task has lost so far.
    """

    def __init__(self, serve: Serve, siblings: Sequence[Connection]) -> None:
        self._process, self.pipe = launch(serve, siblings)
        self.ready = False
        self.assigned: tuple[AnyTask, int] | None = None
        self._unforeseen: _Unforeseen | None = None

    def send(self, task: AnyTask, losses: int) -> None:
        self.assigned = (task, losses)
        with suppress(ConnectionError):  # `receive` notices a dead worker
            self.pipe.send(task)

    def receive(self) -> Result | _Ready:
        """Read a message: that the worker is ready, or a result.

        Raises
        ------
        EOFError
            If the worker is of no more use.
        """
        try:
            answer = self.pipe.recv()
        except ConnectionError as error:
            raise EOFError from error
        if isinstance(answer, CompressError):
            raise answer
        if isinstance(answer, _Unforeseen):
            self._unforeseen = answer
            raise EOFError
        if not self.ready:
            self.ready = True
            return _Ready()
        self.assigned = None
        result: Result = answer
        return result

    def ending(self) -> Ending:
        """Wait for the end of the process, and say how it ended."""
        if self._unforeseen is not None:
            self.kill()
            return Ending(self._unforeseen.text, is_exception=True)
        self._process.join(_JOIN_SECONDS)
        code = self._process.exitcode
        if code == NO_THREAD:
            return Ending("could not start a thread")
        if code is None or code >= 0:
            return Ending(f"ended with exit code {code}")
        number = signal.Signals(-code)
        text = f"was killed by {number.name}{_REASONS.get(number, '')}"
        return Ending(text, is_from_outside=number not in _CRASHES)

    def kill(self) -> None:
        self._process.kill()
        self._process.join(_JOIN_SECONDS)
        self.pipe.close()


def _serve(
    function: Callable[[Any], Any], initialize: Callable[[], object], pipe: Connection
) -> None:
    """Serve tasks in a worker process until the coordinator closes the pipe."""
    pipe.send(_answer(initialize))
    while True:
        pipe.send(_answer(function, pipe.recv()))


def _answer(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a function returns, or its exception as a value."""
    try:
        return function(*arguments)
    except CompressError as error:
        return error
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{os.path.basename(frame.filename)}:{frame.lineno}"
        return _Unforeseen(f"met an unexpected {type(error).__name__} at {place}: {error}")
