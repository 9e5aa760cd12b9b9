"""Start a worker process: by a fork where that is safe, else as a fresh interpreter.

A fork takes milliseconds, but is safe only while this process has a single thread. A fresh
interpreter takes a tenth of a second, and works everywhere: in a notebook, in a script on standard
input, beside threads, and in a daemon of `multiprocessing`, which may have no children of that
kind. It never imports the caller's main module.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import Pipe, current_process, get_context, parent_process
from multiprocessing.connection import Connection, wait
from typing import Protocol

__all__ = ["DESCRIPTORS", "NO_THREAD", "ONE_THREAD", "Serve", "WorkerProcess", "launch"]

# Without these, libraries start a thread for each CPU in every worker.
ONE_THREAD = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
# File descriptors of this process for each worker: its pipe, and two by which each of them
# notices the end of the other.
DESCRIPTORS = 3
# Exit code of a worker that could not start its thread.
NO_THREAD = os.EX_TEMPFAIL
# A terminal or a scheduler sends these to all processes of a job.
_FOR_THE_COORDINATOR = {signal.SIGINT, signal.SIGHUP, signal.SIGUSR1}
_FRESH_INTERPRETER = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]);"
    "from limbo_compress.run.launch import _serve_in_fresh_interpreter as serve;"
    "serve(int(sys.argv[2]), int(sys.argv[3]))"
)

Serve = Callable[[Connection], object]


class WorkerProcess(Protocol):
    """A process that was started."""

    @property
    def exitcode(self) -> int | None:
        """Its exit code, minus the number of the signal that ended it, or None."""

    def join(self, timeout: float) -> None:
        """Wait for its end, but no longer than `timeout` seconds."""

    def kill(self) -> None:
        """Kill it."""


def launch(serve: Serve, siblings: Sequence[Connection]) -> tuple[WorkerProcess, Connection]:
    """Start a process that calls ``serve(pipe)``, and ends when this process does.

    Parameters
    ----------
    serve : callable
        Picklable.
    siblings : sequence of Connection
        Pipes to other workers, which the new process must not keep open.

    Returns
    -------
    process : WorkerProcess
    pipe : Connection
        The other end of its pipe.

    Raises
    ------
    OSError
        If the process cannot be started.
    """
    ours, theirs = Pipe()
    try:
        with _signals_blocked(_FOR_THE_COORDINATOR | {signal.SIGTERM}):
            if _may_fork():
                return _fork(serve, theirs, [ours, *siblings]), ours
            return _FreshInterpreter(serve, theirs, ours), ours
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()


def _may_fork() -> bool:
    return (
        sys.platform == "linux"
        and len(os.listdir("/proc/self/task")) == 1
        and not current_process().daemon
    )


def _fork(serve: Serve, pipe: Connection, inherited: Sequence[Connection]) -> WorkerProcess:
    process = get_context("fork").Process(
        target=_serve_in_fork, args=(serve, pipe, inherited), daemon=True
    )
    with _environment(ONE_THREAD):
        process.start()
    return process


def _serve_in_fork(serve: Serve, pipe: Connection, inherited: Sequence[Connection]) -> None:
    for other in inherited:
        other.close()
    # A fork inherits the coordinator's handler.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    parent = parent_process()
    assert parent is not None
    _serve_until_orphaned(serve, pipe, parent.sentinel)


def _serve_in_fresh_interpreter(pipe: int, lifeline: int) -> None:
    connection = Connection(pipe)
    _serve_until_orphaned(connection.recv(), connection, lifeline)


def _serve_until_orphaned(serve: Serve, pipe: Connection, lifeline: int) -> None:
    """Serve, but end at once when the lifeline tells that the coordinator is gone.

    A worker in the middle of a task would not notice it by its pipe.
    """
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})

    def end_with_the_coordinator() -> None:
        wait([lifeline])
        os._exit(1)

    try:
        threading.Thread(target=end_with_the_coordinator, daemon=True).start()
    except RuntimeError:  # the limit on processes counts threads, too
        os._exit(NO_THREAD)
    with suppress(EOFError, ConnectionError):
        serve(pipe)


class _FreshInterpreter:
    """A new Python that is told over its pipe what to serve."""

    def __init__(self, serve: Serve, theirs: Connection, ours: Connection) -> None:
        lifeline, self._lifeline = os.pipe()
        try:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-c", _FRESH_INTERPRETER, json.dumps(sys.path)),
                    *(str(theirs.fileno()), str(lifeline)),
                ],
                stdin=subprocess.DEVNULL,
                env=os.environ | ONE_THREAD,
                pass_fds=(theirs.fileno(), lifeline),
            )
        except BaseException:
            os.close(self._lifeline)
            raise
        finally:
            os.close(lifeline)
        with suppress(ConnectionError):  # whoever reads from the pipe notices a dead process
            ours.send(serve)

    @property
    def exitcode(self) -> int | None:
        return self._process.poll()

    def join(self, timeout: float) -> None:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout)
            self._close_lifeline()

    def kill(self) -> None:
        self._process.kill()

    def _close_lifeline(self) -> None:
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1


@contextmanager
def _signals_blocked(signals: set[signal.Signals]) -> Iterator[None]:
    """Start processes in which these signals are blocked."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
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
