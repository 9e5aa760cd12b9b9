"""Start a worker process: by a fork where that is safe, else as a fresh interpreter.

A fork takes milliseconds, but is safe only while this process has a single thread. A fresh
interpreter takes a tenth of a second, and works everywhere: in a notebook, in a script on standard
input, alongside threads, and in a daemon of `multiprocessing`, which may have no children of that
kind. It never imports the caller's main module, and no module from a folder where this process
would not look for it: the current folder may be a download with a ``json.py`` in it.
"""

from __future__ import annotations

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

from ..errors import MachineError

__all__ = ["DESCRIPTORS", "NO_THREAD", "ONE_THREAD", "Closable", "Serve", "WorkerProcess", "launch"]

# Without these, libraries start a thread for each CPU in every worker.
ONE_THREAD = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
# File descriptors of this process for each worker: its pipe, and two by which each of them
# notices the end of the other.
DESCRIPTORS = 3
# Exit code of a worker that could not start its thread.
NO_THREAD = os.EX_TEMPFAIL
# A terminal or a scheduler sends these to all processes of a job.
_FOR_THE_COORDINATOR = {signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2}
# Where this package is. A fresh interpreter imports the same copy, not another one on its path.
_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_FRESH_INTERPRETER = (
    "import importlib, sys;"
    "sys.path.insert(0, sys.argv[1]); import limbo_compress; del sys.path[0];"
    "from limbo_compress.run.launch import _serve_in_fresh_interpreter as serve;"
    "serve(int(sys.argv[2]), int(sys.argv[3]))"
)

Serve = Callable[[Connection], object]


class Closable(Protocol):
    """What holds a file descriptor."""

    def close(self) -> object:
        """Close it."""


class WorkerProcess(Protocol):
    """A process that was started."""

    @property
    def exitcode(self) -> int | None:
        """Its exit code, minus the number of the signal that ended it, or None."""

    def join(self, timeout: float) -> None:
        """Wait for its end, but no longer than `timeout` seconds."""

    def kill(self) -> None:
        """Kill it."""


def launch(serve: Serve, inherited: Sequence[Closable]) -> tuple[WorkerProcess, Connection]:
    """Start a process that calls ``serve(pipe)``, and ends when this process does.

    Parameters
    ----------
    serve : callable
        Picklable.
    inherited : sequence
        What the new process must close: pipes to other workers, and the like.

    Returns
    -------
    process : WorkerProcess
    pipe : Connection
        The other end of its pipe.

    Raises
    ------
    OSError
        If the process cannot be started.
    MachineError
        If there is no interpreter to start.
    """
    ours, theirs = Pipe()
    try:
        with _signals_blocked(_FOR_THE_COORDINATOR | {signal.SIGTERM}):
            if _may_fork():
                return _fork(serve, theirs, [ours, *inherited]), ours
            process = _FreshInterpreter(theirs)
            theirs.close()  # else nobody would notice a dead process while sending much
            process.instruct(serve, ours)
            return process, ours
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


def _fork(serve: Serve, pipe: Connection, inherited: Sequence[Closable]) -> WorkerProcess:
    process = get_context("fork").Process(
        target=_serve_in_fork, args=(serve, pipe, inherited), daemon=True
    )
    process.start()
    return process


def _serve_in_fork(serve: Serve, pipe: Connection, inherited: Sequence[Closable]) -> None:
    for other in inherited:
        other.close()
    os.environ.update(ONE_THREAD)
    # A fork inherits the coordinator's handler.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    parent = parent_process()
    assert parent is not None
    _serve_until_orphaned(serve, pipe, parent.sentinel)


def _serve_in_fresh_interpreter(pipe: int, lifeline: int) -> None:
    connection = Connection(pipe)
    with suppress(EOFError, ConnectionError):
        sys.path[:] = connection.recv()
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
    """A new Python that is told over its pipe where modules are, and what to serve."""

    def __init__(self, theirs: Connection) -> None:
        if not os.access(sys.executable or "", os.X_OK):
            hint = "set it to the path of this Python"
            raise MachineError("sys.executable names no interpreter", sys.executable or "", hint)
        lifeline, self._lifeline = os.pipe()
        try:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, *_flags(), "-P", "-c", _FRESH_INTERPRETER, _ROOT),
                    *(str(theirs.fileno()), str(lifeline)),
                ],
                stdin=subprocess.DEVNULL,
                env=os.environ | ONE_THREAD | {"PYTHONPATH": _known_part_of_pythonpath()},
                pass_fds=(theirs.fileno(), lifeline),
            )
        except BaseException:
            os.close(self._lifeline)
            raise
        finally:
            os.close(lifeline)

    def instruct(self, serve: Serve, ours: Connection) -> None:
        """Send where modules are, and then what to serve, which may be in one of them."""
        with suppress(ConnectionError):  # whoever reads from the pipe notices a dead process
            ours.send(_import_path())
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


def _flags() -> list[str]:
    """Return the flags of this interpreter, of which -I, -s and -S keep others' modules away."""
    # multiprocessing does the same; there is no public function for it.
    return subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined,no-any-return]


def _known_part_of_pythonpath() -> str:
    """Return what `sys.path` has, too; Python made the other entries absolute when it started.

    An interpreter that starts in another folder would find other modules by these.
    """
    entries = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return os.pathsep.join(e for e in entries if os.path.isabs(e) and e in sys.path)


def _import_path() -> list[str]:
    """Return `sys.path` without what Python ignores, such as a `pathlib.Path`.

    An empty entry is the current folder. It stays only if this package is there.
    """
    is_here = os.path.exists(os.curdir) and os.path.samefile(os.curdir, _ROOT)
    entries = (str(entry) for entry in sys.path if isinstance(entry, str))
    return [entry for entry in entries if entry or is_here]


@contextmanager
def _signals_blocked(signals: set[signal.Signals]) -> Iterator[None]:
    """Start processes in which these signals are blocked."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
