"""Run a function over tasks in worker processes; it knows nothing of images.

A process and a pipe for each worker, rather than `concurrent.futures`: when a worker dies, its
`BrokenProcessPool` fails all that is under way and does not tell whose task it was. Here
a worker's death is seen at once, and concerns one task only.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import connection, get_context, parent_process
from multiprocessing.connection import Connection
from typing import Any, Generic, Protocol, Self, TypeVar

from .errors import CompressError, WorkerError

__all__ = ["ONE_THREAD", "Crew", "Task"]

_log = logging.getLogger(__package__)

Result = TypeVar("Result")
Result_co = TypeVar("Result_co", covariant=True)
AnyTask = TypeVar("AnyTask", bound="Task[Any]")

# What a terminal or a scheduler sends to all processes of a job.
_FOR_THE_COORDINATOR = {signal.SIGINT, signal.SIGHUP, signal.SIGUSR1}
_MOST_FAILED_STARTS = 8
# Enough that what dies by chance now and then is not taken for what ends its workers.
_LOSSES_AMONG_OTHERS = 2
_LOSSES_ALONE = 3
_PAUSE_SECONDS = 0.05
_PATIENCE_SECONDS = 5.0
# A worker is one thread: left alone, the libraries start one for each CPU in every worker.
ONE_THREAD = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")


class Task(Protocol[Result_co]):
    """What the pool has to know of a task."""

    def divide(self) -> Sequence[Self]:
        """Cut the task into the smallest ones that do the same together."""

    def give_up(self, ending: str) -> Result_co:
        """Give the result of a smallest task that ends every worker; `ending` says how."""


def _as_it_is(task: AnyTask) -> AnyTask:
    return task


class Crew(Generic[AnyTask, Result]):
    """Processes that call a function with tasks.

    A context manager; on leaving, they are ended at once, whatever they do.

    Parameters
    ----------
    function : callable
        Of the top level of a module, for it is called in other processes.
    workers : int
        Number of processes; 1 means this one.
    initialize : callable, optional
        Called first in each of these processes; picklable as well.
    """

    def __init__(
        self,
        function: Callable[[AnyTask], Result],
        workers: int,
        initialize: Callable[[], object] = bool,
    ) -> None:
        self._function = function
        self._size = workers
        self._initialize = initialize
        self._workers: dict[Connection, _Worker[AnyTask, Result]] = {}
        self._failed_starts = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._dismiss()

    def expect(self, tasks: int) -> None:
        """Start as many processes as so many tasks need, if they are not there yet.

        They load what they need while this process goes on.
        """
        while len(self._workers) < min(self._size, tasks) and self._size > 1:
            self._hire()

    def run(
        self, tasks: Sequence[AnyTask], complete: Callable[[AnyTask], AnyTask] = _as_it_is
    ) -> Iterator[Result]:
        """Call the function with each task.

        A worker that dies is replaced, and its task divided and done over. A piece that loses a
        worker as well runs alone at the end; if it then loses three more, it is given up.

        Parameters
        ----------
        tasks : sequence of Task
            Small picklable values.
        complete : callable, optional
            Called with a task just before a worker gets it, here; what it returns goes instead.

        Yields
        ------
        result
            In the order in which they come. Closing the generator ends all workers.

        Raises
        ------
        WorkerError
            If workers die again and again, whatever they do, or the function fails in a way
            that it does not foresee.
        CompressError
            Whatever of these the function raises.
        """
        if self._size == 1:
            self._initialize()
            yield from (self._function(complete(task)) for task in tasks)
            return
        try:
            suspects = yield from self._work(tasks, complete, self._size, _LOSSES_AMONG_OTHERS)
            self._dismiss()
            alone = [task for task, _ in suspects]
            guilty = yield from self._work(alone, complete, 1, _LOSSES_ALONE)
            for task, ending in guilty:
                yield task.give_up(ending)
        finally:
            self._dismiss()

    def _work(
        self,
        tasks: Iterable[AnyTask],
        complete: Callable[[AnyTask], AnyTask],
        size: int,
        most_losses: int,
    ) -> Generator[Result, None, list[tuple[AnyTask, str]]]:
        """Do tasks with so many workers.

        Return those that lost the most workers they may, and how the last one ended.
        """
        waiting = deque((task, 0) for task in tasks)
        lost: list[tuple[AnyTask, str]] = []
        while waiting or any(worker.job for worker in self._workers.values()):
            while len(self._workers) < min(size, len(waiting)):
                self._hire()
            for worker in self._workers.values():
                if waiting and worker.ready and not worker.job:
                    task, losses = waiting.popleft()
                    worker.give(complete(task), losses)
            for pipe in connection.wait(list(self._workers)):
                worker = self._workers[pipe]  # type: ignore[index]  # only these are waited for
                try:
                    results = worker.take()
                except EOFError:
                    ending = self._bury(worker)
                    if worker.job:
                        task, losses = worker.job
                        if losses + 1 == most_losses:
                            lost.append((task, ending))
                        else:
                            waiting.extendleft((piece, losses + 1) for piece in task.divide())
                else:
                    self._failed_starts = 0
                    yield from results
        return lost

    def _hire(self) -> None:
        try:
            hired = _Worker[AnyTask, Result](self._function, self._initialize)
        except (EOFError, OSError) as error:  # the process that forks workers was killed
            self._count_failed_start(f"could not be forked: {error}")
        else:
            self._workers[hired.pipe] = hired

    def _bury(self, worker: _Worker[AnyTask, Result]) -> str:
        """Take leave of a dead worker; say how it ended."""
        del self._workers[worker.pipe]
        ending = worker.ending()
        _log.warning("a worker process %s; its work is done over", ending)
        if not worker.ready:
            self._count_failed_start(ending)
        return ending

    def _count_failed_start(self, ending: str) -> None:
        self._failed_starts += 1
        if self._failed_starts == _MOST_FAILED_STARTS:
            raise WorkerError(f"worker processes do not even start: the last one {ending}")
        time.sleep(self._failed_starts * _PAUSE_SECONDS)

    def _dismiss(self) -> None:
        """End all workers at once; what they had not finished is done over another time."""
        for worker in self._workers.values():
            worker.end()
        self._workers.clear()


class _Worker(Generic[AnyTask, Result]):
    """A worker process, seen from the coordinator.

    Attributes
    ----------
    pipe : Connection
        Readable when a message is there, or the process has ended.
    ready : bool
        Whether it has started well.
    job : tuple or None
        The task that it has, and how many workers that has cost so far.
    """

    def __init__(
        self, function: Callable[[AnyTask], Result], initialize: Callable[[], object]
    ) -> None:
        context = get_context(_start_method())
        self.pipe, theirs = context.Pipe()
        self.ready = False
        self.job: tuple[AnyTask, int] | None = None
        self._process = context.Process(  # type: ignore[attr-defined]
            target=_serve, args=(theirs, function, initialize), daemon=True
        )
        with _signals_blocked(_FOR_THE_COORDINATOR | {signal.SIGTERM}), _environment(ONE_THREAD):
            self._process.start()
        theirs.close()

    def give(self, task: AnyTask, losses: int) -> None:
        self.job = (task, losses)
        with suppress(ConnectionError):  # a dead worker is noticed by take
            self.pipe.send(task)

    def take(self) -> list[Result]:
        """Read a message: the greeting of a worker that is ready, or a result."""
        try:
            good, answer = self.pipe.recv()
        except ConnectionError as error:
            raise EOFError from error
        if not good:
            raise answer
        if not self.ready:
            self.ready = True
            return []
        self.job = None
        return [answer]

    def ending(self) -> str:
        """How the process ended."""
        self._process.join(_PATIENCE_SECONDS)
        code = self._process.exitcode
        if code == -signal.SIGKILL:
            return "was killed by SIGKILL, as when memory runs out (fewer --workers need less)"
        if code == -signal.SIGBUS:
            return "was killed by SIGBUS, as when a disk fails or a quota is reached"
        if code is not None and code < 0:
            return f"was killed by {signal.Signals(-code).name}"
        return f"ended with exit code {code}"

    def end(self) -> None:
        self._process.kill()
        self._process.join(_PATIENCE_SECONDS)
        self.pipe.close()


def _start_method() -> str:
    """How to start a process.

    To fork this one is the quickest by 0.1 s, and safe as long as it has one thread, so has
    none of OpenCV's. Else a server forks that has none, either.
    """
    if sys.platform != "linux":
        return "spawn"
    return "fork" if len(os.listdir("/proc/self/task")) == 1 else "forkserver"


@contextmanager
def _signals_blocked(signals: set[signal.Signals]) -> Iterator[None]:
    """Start processes that these signals do not reach."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        with warnings.catch_warnings():
            # multiprocessing warns when one of its helpers was killed; it replaces it, too.
            warnings.simplefilter("ignore")
            yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _serve(
    pipe: Connection, function: Callable[[Any], Any], initialize: Callable[[], object]
) -> None:
    """What a worker does: answer tasks until the coordinator is gone."""
    # It may have been forked with the coordinator's own handler, which is not for it.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with suppress(EOFError, ConnectionError):
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


def _end_with_parent() -> None:
    """A worker busy with its task would not notice that the coordinator was killed."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
