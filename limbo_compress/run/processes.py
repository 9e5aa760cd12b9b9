"""Run a function over tasks in worker processes of this machine.

Each worker is a process with a pipe of its own. When a worker of `concurrent.futures` dies,
`BrokenProcessPool` fails every unfinished task and does not say which one the worker had. Here a
death is noticed at once and concerns one task only.
"""

from __future__ import annotations

import logging
import resource
import signal
import time
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from multiprocessing import connection
from multiprocessing.connection import Connection
from typing import Any, Generic, Self

from ..errors import CompressError, WorkerError
from .executor import AnyTask, Result
from .launch import DESCRIPTORS, NO_THREAD, Serve, launch

__all__ = ["ProcessExecutor"]

_log = logging.getLogger("limbo_compress")

_MAX_FAILED_STARTS = 8
# A task loses this many workers before it counts as the cause of their deaths.
_LOSSES_AMONG_OTHERS = 2
_LOSSES_ALONE = 3
_PAUSE_SECONDS = 0.05
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

        A worker that dies is replaced, and its task is divided and done again. A divided task
        that loses a worker, too, runs alone at the end. If it then loses three more, it is given
        up.

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
            If workers cannot be started, or the function raises an unexpected exception.
        CompressError
            If the function raises one.
        """
        try:
            suspects = yield from self._work(tasks, complete, self._size, _LOSSES_AMONG_OTHERS)
            self._shutdown()
            alone = [task for task, _ in suspects]
            suspects = yield from self._work(alone, complete, 1, _LOSSES_ALONE)
            for task, ending in suspects:
                yield task.give_up(ending)
        finally:
            self._shutdown()

    def _work(
        self,
        tasks: Iterable[AnyTask],
        complete: Callable[[AnyTask], AnyTask],
        size: int,
        max_losses: int,
    ) -> Generator[Result, None, list[tuple[AnyTask, str]]]:
        """Do tasks with `size` workers.

        Returns the tasks that lost `max_losses` workers, and how the last of these ended.
        """
        waiting = deque((task, 0) for task in tasks)
        lost: list[tuple[AnyTask, str]] = []
        while waiting or any(worker.assigned for worker in self._workers.values()):
            while len(self._workers) < min(size, self._size, len(waiting)):
                self._spawn()
            for worker in self._workers.values():
                if waiting and worker.ready and not worker.assigned:
                    task, losses = waiting.popleft()
                    worker.send(complete(task), losses)
            for pipe in connection.wait(list(self._workers)):
                worker = self._workers[pipe]  # type: ignore[index]  # only these are waited for
                try:
                    answer = worker.receive()
                except EOFError:
                    ending = self._reap(worker)
                    if worker.assigned:
                        task, losses = worker.assigned
                        if losses + 1 == max_losses:
                            lost.append((task, ending))
                        else:
                            waiting.extendleft((divided, losses + 1) for divided in task.divide())
                else:
                    self._failed_starts = 0
                    if not isinstance(answer, _Ready):
                        yield answer
        return lost

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

    def _reap(self, worker: _Worker[AnyTask, Result]) -> str:
        """Remove a dead worker and return how it ended."""
        del self._workers[worker.pipe]
        ending = worker.ending()
        _log.warning("a worker process %s; its work is done again", ending)
        if not worker.ready:
            self._count_failed_start(ending)
        return ending

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

    def send(self, task: AnyTask, losses: int) -> None:
        self.assigned = (task, losses)
        with suppress(ConnectionError):  # `receive` notices a dead worker
            self.pipe.send(task)

    def receive(self) -> Result | _Ready:
        """Read a message: that the worker is ready, or a result."""
        try:
            good, answer = self.pipe.recv()
        except ConnectionError as error:
            raise EOFError from error
        if not good:
            raise answer
        if not self.ready:
            self.ready = True
            return _Ready()
        self.assigned = None
        result: Result = answer
        return result

    def ending(self) -> str:
        """Wait for the end of the process, and say how it ended."""
        self._process.join(_JOIN_SECONDS)
        code = self._process.exitcode
        if code == -signal.SIGKILL:
            return "was killed by SIGKILL, as when memory runs out (fewer --workers need less)"
        if code == -signal.SIGBUS:
            return "was killed by SIGBUS, as when a disk fails or a quota is reached"
        if code == NO_THREAD:
            return "could not start a thread"
        if code is not None and code < 0:
            return f"was killed by {signal.Signals(-code).name}"
        return f"ended with exit code {code}"

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


def _answer(function: Callable[..., Any], *arguments: Any) -> tuple[bool, Any]:
    try:
        return True, function(*arguments)
    except CompressError as error:
        return False, error
    except Exception as error:
        failure = WorkerError(f"unexpected {type(error).__name__} in a worker: {error}")
        failure.add_note(traceback.format_exc())
        return False, failure
