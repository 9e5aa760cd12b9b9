"""Run a function over tasks in worker processes; it knows nothing of images.

A process and a pipe for each worker, rather than `concurrent.futures`: when a worker dies, its
`BrokenProcessPool` fails all that is under way and does not tell whose task it was. Here
a worker's death is seen at once, and concerns one task only.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import connection, forkserver, get_context, parent_process
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from typing import Any, Generic, TypeVar

from .errors import CompressError, WorkerError

__all__ = ["ONE_THREAD", "prepare", "run"]

Task = TypeVar("Task")
Result = TypeVar("Result")

# A worker is one thread: left alone, the libraries start one for each CPU in every worker.
ONE_THREAD = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def prepare(modules: Sequence[str]) -> None:
    """Begin to load what all workers need, once for all of them, and go on meanwhile.

    Parameters
    ----------
    modules : sequence of str
        Names of modules.
    """
    if sys.platform == "linux":
        _context().set_forkserver_preload(list(modules))
        with _signals_blocked(), _environment(ONE_THREAD):
            forkserver.ensure_running()


def _context() -> BaseContext:
    """How to start processes: OpenCV is not safe after a plain fork."""
    return get_context("forkserver" if sys.platform == "linux" else "spawn")


def run(
    function: Callable[[Task], Result],
    tasks: Iterable[Task],
    workers: int,
    initialize: Callable[[], object] = bool,
) -> Iterator[Result]:
    """Call a function with each task, in as many processes as asked for.

    Parameters
    ----------
    function : callable
        Of the top level of a module, for it is called in other processes.
    tasks : iterable
        Small picklable values.
    workers : int
        Number of processes; 1 means this one.
    initialize : callable, optional
        Called first in each of these processes; of the top level of a module as well.

    Yields
    ------
    result
        In the order in which they come. Closing the generator ends all workers.

    Raises
    ------
    WorkerError
        If a worker dies, or the function fails in a way that it does not foresee.
    CompressError
        Whatever of these the function raises.
    """
    if workers == 1:
        initialize()
        yield from map(function, tasks)
        return
    waiting = deque(tasks)
    crew: dict[Connection, _Worker[Task, Result]] = {}
    try:
        while waiting or any(worker.task is not None for worker in crew.values()):
            while waiting and len(crew) < workers:
                hired = _Worker[Task, Result](function, initialize)
                crew[hired.pipe] = hired
            for worker in crew.values():
                if waiting and worker.task is None:
                    worker.give(waiting.popleft())
            for pipe in connection.wait(crew):
                yield crew[pipe].take()  # type: ignore[index]  # it waits for connections only
    finally:
        for worker in crew.values():
            worker.end()


class _Worker(Generic[Task, Result]):
    """A worker process, seen from the coordinator.

    Attributes
    ----------
    pipe : Connection
        Readable when an answer is there, or the process has ended.
    task : object or None
        What it is doing.
    """

    def __init__(
        self, function: Callable[[Task], Result], initialize: Callable[[], object]
    ) -> None:
        context = _context()
        self.pipe, theirs = context.Pipe()
        self.task: Task | None = None
        self._process = context.Process(  # type: ignore[attr-defined]
            target=_serve, args=(theirs, function, initialize), daemon=True
        )
        with _signals_blocked(), _environment(ONE_THREAD):
            self._process.start()
        theirs.close()

    def give(self, task: Task) -> None:
        self.task = task
        self.pipe.send(task)

    def take(self) -> Result:
        try:
            good, answer = self.pipe.recv()
        except (EOFError, ConnectionError) as error:
            raise WorkerError(f"a worker process {self._ending()}") from error
        self.task = None
        if not good:
            raise answer
        result: Result = answer
        return result

    def _ending(self) -> str:
        self._process.join()
        code = self._process.exitcode
        if code is not None and code < 0:
            return f"was killed by {signal.Signals(-code).name}"
        return f"ended by itself with exit code {code}"

    def end(self) -> None:
        """End the process at once; work is done over where it was not finished."""
        self._process.kill()
        self._process.join()
        self.pipe.close()


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Start processes that Ctrl-C does not reach: it is for the coordinator to end them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
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
    threading.Thread(target=_end_with_parent, daemon=True).start()
    initialize()
    while True:
        try:
            task = pipe.recv()
        except EOFError:
            return
        pipe.send(_answer(function, task))


def _answer(function: Callable[[Any], Any], task: Any) -> tuple[bool, Any]:
    try:
        return True, function(task)
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
