"""The engine of this machine: a function runs over tasks in worker processes.

Each worker is a process with a pipe of its own. When a worker of `concurrent.futures` dies,
`BrokenProcessPool` fails every unfinished task and does not say which one the worker had. Here a
death is noticed at once and concerns one task only.
"""

from __future__ import annotations

import logging
import os
import resource
import selectors
import signal
import time
import traceback
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from typing import Any, Generic, Self

from ..errors import LimboError, WorkerError, shown
from .executor import AnyTask, Ending, Lost, Result
from .launch import DESCRIPTORS, NO_THREAD, Closable, Serve, launch

__all__ = ["ProcessEngine", "Worker", "serve"]

_log = logging.getLogger("limbo_compress")

_MAX_FAILED_STARTS = 8
_PAUSE_SECONDS = 0.05
# Signals by which the kernel and the C library end a process for what it does itself.
_CRASHES = {signal.SIGSEGV, signal.SIGABRT, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP}
_REASONS = {
    signal.SIGKILL: ", as when memory runs out (fewer workers need less)",
    signal.SIGBUS: ", as when a disk fails or a quota is reached",
}
# What this process needs besides its workers.
_RESERVED_DESCRIPTORS = 32
_JOIN_SECONDS = 5.0
# A worker that says nothing for so long is named.
_STILL_SECONDS = 60.0


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


class ProcessEngine(Generic[AnyTask, Result]):
    """Calls a function with tasks in worker processes.

    A context manager; on leaving, it kills the workers, whatever they are doing.

    Parameters
    ----------
    function : callable
        Picklable, because other processes call it. A generator function says what it begins by
        yielding it as text, and is watched: a worker that stands still is logged with that text.
    workers : int
        Number of processes. Where the system refuses to start as many, fewer do the work.
    initialize : callable, optional
        Called first in each of these processes; also picklable.

    Attributes
    ----------
    is_local : bool
    left_alive : bool
        See `Engine`.
    """

    is_local = True

    def __init__(
        self,
        function: Callable[[AnyTask], Result | Generator[str, None, Result]],
        workers: int,
        initialize: Callable[[], object] = _do_nothing,
    ) -> None:
        self._serve = partial(serve, function, initialize)
        self._size = min(workers, _affordable_workers(workers))
        self._workers: dict[Connection, Worker[AnyTask, Result]] = {}
        self._idle: dict[Connection, Worker[AnyTask, Result]] = {}
        # Kept, because making one for each message takes 1.35 microseconds a worker.
        self._selector = selectors.DefaultSelector()
        self._ready: deque[Worker[AnyTask, Result]] = deque()  # each has a message, or has ended
        self._looked = time.monotonic()
        # Tasks whose worker ended before it was ready: that was not their fault.
        self._unstarted: deque[tuple[int, AnyTask]] = deque()
        self._failed_starts = 0
        self.left_alive = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.dismiss()
        self._selector.close()

    def prepare(self, probe: Callable[[], str]) -> None:
        """Do nothing: this machine has what this process has."""

    @property
    def width(self) -> int:
        return self._size

    def expect(self, tasks: int) -> None:
        """Start the processes that this many tasks need, if they are not running yet.

        They import what they need while this process goes on.
        """
        while len(self._workers) < min(self._size, tasks) and self._spawn():
            pass

    def room(self) -> int:
        """Count the workers without a task. One that still starts has room: a task waits for it."""
        return max(0, len(self._idle) - len(self._unstarted))

    def give(self, ticket: int, task: AnyTask) -> None:
        """Send a task to a worker that has none."""
        self._idle.pop(next(iter(self._idle))).send(ticket, task)

    def next(self) -> tuple[int, Result | Lost] | None:
        """Wait for a message of any worker, or the end of one.

        Raises
        ------
        WorkerError
            If workers cannot be started.
        LimboError
            If the function raises one.
        """
        if self._unstarted:
            self.expect(len(self._workers) + 1)
            while self._idle and self._unstarted:
                self.give(*self._unstarted.popleft())
        if not self._ready:
            self._ready.extend(key.data for key, _ in self._selector.select(_STILL_SECONDS))
            self._complain_of_silent()
            if not self._ready:
                return None
        worker = self._ready.popleft()
        try:
            answer = worker.receive()
        except EOFError:
            return self._lose(worker)
        self._failed_starts = 0
        if worker.assigned is None:
            self._idle[worker.pipe] = worker
        return answer

    def dismiss(self) -> None:
        """Kill all workers at once; a resumed job does what they leave unfinished."""
        for worker in list(self._workers.values()):
            self._forget(worker)
            self.left_alive |= not worker.kill()
        self._ready.clear()
        self._unstarted.clear()

    def _complain_of_silent(self) -> None:
        """Let workers that stand still be named. Asking all of them each time would take long."""
        now = time.monotonic()
        if now - self._looked > _STILL_SECONDS / 60:
            self._looked = now
            for worker in self._workers.values():
                if worker not in self._ready:
                    worker.complain()

    def _forget(self, worker: Worker[AnyTask, Result]) -> None:
        self._selector.unregister(worker.pipe)
        del self._workers[worker.pipe]
        self._idle.pop(worker.pipe, None)

    def _spawn(self) -> bool:
        """Start a worker. If the system refuses, continue with those that run."""
        try:
            spawned = Worker[AnyTask, Result](self._serve, [*self._workers, self._selector])
        except OSError as error:
            if not self._workers:
                self._count_failed_start(f"could not be started: {error.strerror}")
                return False
            self._size = len(self._workers)
            _log.warning(
                "only %d worker processes could be started: %s", self._size, error.strerror
            )
            return False
        self._workers[spawned.pipe] = self._idle[spawned.pipe] = spawned
        self._selector.register(spawned.pipe, selectors.EVENT_READ, spawned)
        return True

    def _lose(self, worker: Worker[AnyTask, Result]) -> tuple[int, Lost] | None:
        """Remove a worker that is of no more use. Its task is lost, unless it never began."""
        self._forget(worker)
        ending = worker.ending()
        if worker.ready:
            return None if worker.assigned is None else (worker.assigned[0], Lost(ending))
        if worker.assigned is not None:
            self._unstarted.append(worker.assigned)
        self._count_failed_start(ending.text)
        return None

    def _count_failed_start(self, ending: str) -> None:
        self._failed_starts += 1
        if self._failed_starts == _MAX_FAILED_STARTS:
            raise WorkerError(
                f"worker processes do not even start: the last one {ending}",
                "",
                "if a limit was reached (ulimit -a), raise it, or use fewer `workers`",
            )
        time.sleep(self._failed_starts * _PAUSE_SECONDS)


@dataclass(frozen=True)
class _Unforeseen:
    """What a worker sends if it met an exception that is not one of ours, in words."""

    text: str


@dataclass(frozen=True)
class _Begun:
    """What a worker sends when it begins something."""

    text: str
    pid: int


class Worker(Generic[AnyTask, Result]):
    """A worker process, seen from whoever gives it tasks.

    Parameters
    ----------
    serve : callable
        `serve`, bound to a function and an initializer.
    inherited : sequence
        What the new process must close: pipes to other workers, and the like.

    Attributes
    ----------
    pipe : Connection
        Readable once a message has arrived or the process has ended.
    ready : bool
        Whether it is initialized.
    assigned : tuple or None
        Its ticket and task.

    Raises
    ------
    OSError
        If the process cannot be started.
    """

    def __init__(self, serve: Serve, inherited: Sequence[Closable] = ()) -> None:
        self._process, self.pipe = launch(serve, inherited)
        self.ready = False
        self.assigned: tuple[int, AnyTask] | None = None
        self._unforeseen: _Unforeseen | None = None
        self._begun: _Begun | None = None
        self._since = 0.0

    def complain(self) -> None:
        """Log once if the worker has been at one thing for too long."""
        now = time.monotonic()
        if self._begun is not None and now - self._since > _STILL_SECONDS:
            _log.warning(
                "worker process %d has stood still for %.0f seconds, at %s",
                self._begun.pid,
                now - self._since,
                shown(self._begun.text),
            )
            self._begun = None

    def send(self, ticket: int, task: AnyTask) -> None:
        """Send a task. Before the worker is ready, the task waits in the pipe."""
        self.assigned = (ticket, task)
        with suppress(ConnectionError):  # `receive` notices a dead worker
            self.pipe.send(task)

    def receive(self) -> tuple[int, Result] | None:
        """Read a message: a ticket and its result, or None for any other.

        Others say that the worker is ready, or what it begins.

        Raises
        ------
        EOFError
            If the worker is of no more use.
        LimboError
            If the function raised one.
        """
        try:
            answer = self.pipe.recv()
        except ConnectionError as error:
            raise EOFError from error
        if isinstance(answer, LimboError):
            raise answer
        if isinstance(answer, _Unforeseen):
            self._unforeseen = answer
            raise EOFError
        if isinstance(answer, _Begun):
            self._begun, self._since = answer, time.monotonic()
            return None
        if not self.ready:
            self.ready = True
            return None
        self._begun = None
        assert self.assigned is not None  # nobody answers unasked
        ticket, _ = self.assigned
        self.assigned = None
        return ticket, answer

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

    def kill(self) -> bool:
        """Kill the process; return whether it has ended. One that waits for a disk may not."""
        self._process.kill()
        self._process.join(_JOIN_SECONDS)
        self.pipe.close()
        return self._process.exitcode is not None


def serve(
    function: Callable[[Any], Any],
    initialize: Callable[[], object],
    pipe: Connection,
    idle_seconds: float | None = None,
) -> None:
    """Serve tasks in a worker process until the other end of the pipe is closed.

    Or until none has come for some time, if `idle_seconds` is given.
    """
    pipe.send(_answer(initialize))
    while pipe.poll(idle_seconds):
        pipe.send(_answer(_call, function, pipe, pipe.recv()))


def _call(function: Callable[[Any], Any], pipe: Connection, task: Any) -> Any:
    """Call a function. If it is a generator function, send what it yields."""
    result = function(task)
    if not isinstance(result, Generator):
        return result
    while True:
        try:
            pipe.send(_Begun(next(result), os.getpid()))
        except StopIteration as end:
            return end.value


def _answer(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a function returns, or its exception as a value."""
    try:
        return function(*arguments)
    except LimboError as error:
        return error
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{os.path.basename(frame.filename)}:{frame.lineno}"
        return _Unforeseen(f"met an unexpected {type(error).__name__} at {place}: {error}")
