"""The engine of a Dask cluster. Each thread of its workers has a child process that does the work.

The work does not run in the Dask worker itself: a sample that crashes a decoder would end it, and
capturing what libraries print would take away its stderr. The child is a worker process as on one
machine, and ends with its pipe.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import logging
import os
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, Self, TypeVar
from urllib.parse import urlsplit

import cloudpickle
from distributed import Client, Future, Security

from ..errors import LimboError, WorkerError
from . import probe as probe_module
from .executor import AnyTask, Ending, Lost, Result
from .launch import Serve
from .processes import Worker, serve

__all__ = ["DaskEngine"]

_log = logging.getLogger("limbo_compress")

Answer = TypeVar("Answer")

_CONNECT_SECONDS = 10
_ASK_SECONDS = 1.0
_SAY_SECONDS = 10.0
_RESULT_SECONDS = 5.0
_END_SECONDS = 5.0
_CLOSE_SECONDS = 2.0
# Longer than to connect, and than a busy scheduler blocks its event loop.
_GONE_SECONDS = 15.0
# A worker is given up if a task takes this long, and this many times longer than any has taken.
_FROZEN_SECONDS = 60.0
_FROZEN_FACTOR = 10.0
# A child without work ends, in case that the coordinator was killed.
_IDLE_SECONDS = 20.0
_STARTS = 3


@dataclass
class _Given:
    """A task under way."""

    future: Future[Any]
    worker: str
    units: int
    since: float


@dataclass
class _Newcomer:
    """A worker that has not answered yet what it lacks."""

    threads: int
    answer: concurrent.futures.Future[str]
    since: float
    is_silent: bool = False


class DaskEngine(Generic[AnyTask, Result]):
    """Calls a function with tasks on the workers of a Dask cluster.

    A context manager; on leaving, the children of the workers are ended.

    Parameters
    ----------
    function : callable
        Importable on the workers, because their children call it.
    initialize : callable
        Called first in each child; picklable.
    address, scheduler_file : str or None
        Where the scheduler is: either its address, or the file that it has written.
    wait : float
        How long to wait for the file and for a worker, in seconds.

    Attributes
    ----------
    is_local : bool
    left_alive : bool
        See `Engine`.

    Raises
    ------
    WorkerError
        On entering, if the scheduler cannot be reached.
    """

    is_local = False

    def __init__(
        self,
        function: Callable[[AnyTask], Result | Generator[str, None, Result]],
        initialize: Callable[[], object],
        address: str | None,
        scheduler_file: str | None,
        wait: float,
    ) -> None:
        self._serve: Serve = partial(serve, function, initialize, idle_seconds=_IDLE_SECONDS)
        self._address = address or ""
        self._file = scheduler_file or ""
        self._wait = wait
        self._job = f"limbo-compress-{time.time_ns():x}"
        self._generation = 0
        self._question: Callable[[], str] = str
        self._threads: dict[str, int] = {}
        self._newcomers: dict[str, _Newcomer] = {}
        self._useless: set[str] = set()
        # Workers whose children have not been ended yet.
        self._employed: set[str] = set()
        self._given: dict[int, _Given] = {}
        self._arrived: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._answered: dict[str, float] = {}
        self._longest = 0.0
        self._asked = self._alone_since = 0.0
        self._has_said = False
        self.left_alive = False

    def __enter__(self) -> Self:
        self._address = self._address or self._read_address()
        self._check_tls()
        options = {"timeout": _CONNECT_SECONDS, "set_as_default": False, "name": self._job}
        try:
            self._client = _within(_GONE_SECONDS, lambda: Client(self._address, **options))
        except Exception as error:  # Dask raises what its comms raise
            raise self._unreachable(str(error) or type(error).__name__) from error
        self._alone_since = time.monotonic()
        self._has_said = False
        return self

    def __exit__(self, *_: object) -> None:
        self.dismiss()
        with suppress(Exception):
            _within(_CLOSE_SECONDS, partial(self._client.close, _CLOSE_SECONDS))

    def prepare(self, probe: Callable[[], str]) -> None:
        """Let every worker show that it can take part, by a function that says what it lacks.

        Raises
        ------
        WorkerError
            If one that is there already cannot, or none comes.
        """
        # By value, since the package may be missing there; and so is a function without a name.
        cloudpickle.register_pickle_by_value(probe_module)
        self._question = lambda: probe()
        while not self._threads:
            self._look_for_workers(may_lack=False)
            if not self._threads:
                self._complain_about_waiting("no Dask worker", "start some")
                time.sleep(_ASK_SECONDS)

    @property
    def width(self) -> int:
        return max(1, sum(self._threads.values()))

    def expect(self, tasks: int) -> None:
        """Do nothing: workers are started by others."""

    def room(self) -> int:
        """Count what the workers may take: a task for each thread, and one to go on with."""
        if time.monotonic() > self._asked + _ASK_SECONDS:
            self._look_for_workers(may_lack=True)
        return max(0, sum(self._free().values()))

    def give(self, ticket: int, task: AnyTask) -> None:
        """Submit a task to the worker with the most room."""
        worker, _ = self._free().most_common(1)[0]
        self._employed.add(worker)
        token = f"{self._job}-{self._generation}"
        try:
            future = self._client.submit(
                *(run_in_child, token, self._serve, task),
                # The dashboard shows the part before the name of the job.
                key=f"compress-shard-{ticket:06d}-{self._job}",
                workers=[worker],
                pure=False,
            )
        except Exception as error:  # Dask raises what its comms raise
            raise self._gone(error) from error
        self._given[ticket] = _Given(future, worker, len(task), time.monotonic())
        future.add_done_callback(lambda _: self._arrived.put(ticket))

    def next(self) -> tuple[int, Result | Lost] | None:
        """Wait for an answer, and look after the workers meanwhile.

        Raises
        ------
        WorkerError
            If the scheduler is gone, or there is no worker.
        LimboError
            If the function raised one.
        """
        try:
            ticket = self._arrived.get(timeout=_ASK_SECONDS)
        except queue.Empty:
            self._look_for_workers(may_lack=True)
            return self._find_lost()
        if ticket not in self._given:
            return None
        given = self._given.pop(ticket)
        try:
            answer = given.future.result(timeout=_RESULT_SECONDS)
        except Exception:  # Dask raises what its comms raise, besides its own
            return self._examine(ticket, given)
        given.future.release()
        if isinstance(answer, LimboError):
            raise answer
        now = time.monotonic()
        begun = max(given.since, self._answered.get(given.worker, 0.0))
        self._longest = max(self._longest, (now - begun) / given.units)
        self._answered[given.worker] = now
        return ticket, answer

    def dismiss(self) -> None:
        """Cancel all tasks and end all children."""
        futures = [given.future for given in self._given.values()]
        self._given.clear()
        if not self._employed:
            return
        # First of all the children: what was canceled would only wait for them.
        token, workers = f"{self._job}-{self._generation}", list(self._employed)
        end = partial(self._client.run, end_children, token, workers=workers, on_error="ignore")
        has_ended: dict[str, bool] = {}
        with suppress(Exception):
            has_ended = _within(_END_SECONDS, end)
        self.left_alive |= not all(map(has_ended.get, workers))
        self._employed.clear()
        self._generation += 1
        self._cancel(futures)

    def _cancel(self, futures: list[Future[Any]]) -> None:
        with suppress(Exception):
            _within(_CLOSE_SECONDS, partial(self._client.cancel, futures, force=True))

    def _free(self) -> Counter[str]:
        """How many more tasks each worker may get."""
        free = Counter({worker: threads + 1 for worker, threads in self._threads.items()})
        free.subtract(given.worker for given in self._given.values() if given.worker in free)
        return +free

    def _look_for_workers(self, may_lack: bool) -> None:
        """Ask who is there, and let those that are new show that they can take part."""
        self._asked = time.monotonic()
        try:
            found = _within(_GONE_SECONDS, self._client.nthreads)
        except Exception as error:  # Dask raises what its comms raise
            raise self._gone(error) from error
        self._threads = {w: n for w, n in found.items() if w in self._threads}
        for worker in self._newcomers.keys() - found.keys():
            self._newcomers.pop(worker).answer.cancel()
        # The machine of a worker that is gone may only have lost its network.
        self.left_alive |= not self._employed <= found.keys()
        self._employed &= found.keys()

        known = {*self._threads, *self._newcomers, *self._useless}
        for worker in [worker for worker in found if worker not in known]:
            loop = self._client.loop.asyncio_loop  # type: ignore[union-attr]  # it is asyncio's
            answer = asyncio.run_coroutine_threadsafe(self._ask(worker), loop)
            self._newcomers[worker] = _Newcomer(found[worker], answer, self._asked)
        if not may_lack:
            asked = [new.answer for new in self._newcomers.values() if not new.is_silent]
            concurrent.futures.wait(asked, _SAY_SECONDS)
        self._admit_workers(may_lack)

    async def _ask(self, worker: str) -> str:
        """Ask a worker what it lacks, even while it is busy, until it answers."""
        while True:
            try:
                answers = await self._client.run(self._question, workers=[worker])
                return str(answers[worker])
            except OSError:  # the scheduler does not reach it
                await asyncio.sleep(_ASK_SECONDS)
            except Exception as error:  # whatever the worker raised
                return f"does not answer: {error}"

    def _admit_workers(self, may_lack: bool) -> None:
        """Let the workers take part that have answered that they lack nothing."""
        now = time.monotonic()
        for worker, new in list(self._newcomers.items()):
            if new.answer.done():
                del self._newcomers[worker]
                problem = new.answer.result()
                if not problem:
                    self._threads[worker] = new.threads
                elif not may_lack:
                    raise WorkerError(f"the Dask worker {worker} {problem}")
                else:
                    self._useless.add(worker)
                    _log.warning("the Dask worker %s %s: it gets no work", worker, problem)
            elif now - new.since > _SAY_SECONDS and not new.is_silent:
                new.is_silent = True
                text = "the Dask worker %s shows no sign of life: it gets no work until it answers"
                _log.warning(text, worker)
        if self._threads:
            self._alone_since = now
            self._has_said = False

    def _find_lost(self) -> tuple[int, Lost] | None:
        """Find a task whose worker is gone or frozen."""
        if not self._threads:
            self._complain_about_waiting("no Dask worker", "start some")
        now = time.monotonic()
        for ticket, given in self._given.items():
            worker = given.worker
            begun = max(given.since, self._answered.get(worker, 0.0))
            most = max(_FROZEN_SECONDS, _FROZEN_FACTOR * self._longest * given.units)
            if worker in self._threads and now - begun > most:
                self._useless.add(worker)
                del self._threads[worker]
            if worker in self._useless:
                return self._lose(ticket, f"on the Dask worker {worker} shows no sign of life")
            if worker not in self._threads:
                return self._lose(ticket, f"on the Dask worker {worker}, which is gone, was lost")
        return None

    def _examine(self, ticket: int, given: _Given) -> tuple[int, Lost]:
        """Find out why a task has failed that should have returned any error as a value."""
        if given.future.status == "error":
            error = given.future.exception(timeout=_RESULT_SECONDS)
            self._given[ticket] = given
            if type(error).__name__ != "KilledWorker":
                raise WorkerError(f"the Dask worker {given.worker} failed: {error}")
            return self._lose(ticket, f"on the Dask worker {given.worker} was lost with it")
        self._look_for_workers(may_lack=True)
        self._given[ticket] = given
        return self._lose(ticket, f"on the Dask worker {given.worker} was lost")

    def _lose(self, ticket: int, text: str) -> tuple[int, Lost]:
        given = self._given.pop(ticket)
        self._cancel([given.future])
        return ticket, Lost(Ending(text, is_from_outside=True))

    def _complain_about_waiting(self, what: str, hint: str, path: str = "") -> None:
        waited = time.monotonic() - self._alone_since
        if waited > self._wait:
            problem = f"{what} for {self._wait:g} seconds"
            raise WorkerError(problem, path, f"{hint}, and run the same command again")
        if waited > _SAY_SECONDS and not self._has_said:
            self._has_said = True
            line = WorkerError(f"{what} yet: waiting up to {self._wait:g} seconds", path)
            _log.warning("%s (`wait`)", line)

    def _gone(self, error: Exception) -> WorkerError:
        self.left_alive |= bool(self._employed)
        self._employed.clear()  # nobody can reach them, they end by themselves
        return WorkerError(f"{self._scheduler} is gone: {error}")

    def _unreachable(self, reason: str) -> WorkerError:
        return WorkerError(f"cannot reach {self._scheduler}: {reason}")

    @property
    def _scheduler(self) -> str:
        """The scheduler, and where its address is from, if that may surprise."""
        variable = "DASK_SCHEDULER_ADDRESS"
        source = f" (from {variable})" if self._address == os.environ.get(variable) else ""
        return f"the Dask scheduler {self._address}{source}"

    def _read_address(self) -> str:
        """Wait until the scheduler has written its file, and return the address."""
        self._alone_since = time.monotonic()
        while True:
            try:
                with open(self._file, encoding="utf-8") as stream:
                    return str(json.load(stream)["address"])
            except FileNotFoundError:
                problem = "no Dask scheduler has written it"
            except ValueError:  # it is being written
                problem = "not the file of a Dask scheduler"
            except (OSError, LookupError, TypeError, RecursionError) as error:
                problem = f"not the file of a Dask scheduler: {error}"
                raise WorkerError(problem, self._file) from error
            self._complain_about_waiting(problem, "start one", self._file)
            time.sleep(_ASK_SECONDS)

    def _check_tls(self) -> None:
        """Check that there are certificates where they are needed, and warn where there are none.

        A client without them would fail, too, but print a traceback when Python ends.
        """
        address = urlsplit(self._address)
        if address.scheme == "tls":
            if Security().get_connection_args("client").get("ssl_context") is None:
                raise self._unreachable(
                    "Dask's configuration has no certificates (distributed.comm.tls)"
                )
            return
        host = address.hostname or ""
        is_near = host in ("localhost", "::1") or host.startswith("127.")
        if address.scheme in ("", "tcp") and not is_near:
            _log.warning(
                "%s is asked without TLS: anyone on this network can run code on its workers",
                self._scheduler,
            )


def _within(seconds: float, call: Callable[[], Answer]) -> Answer:
    """Call a function of Dask that may never return; raise TimeoutError if it has not by then."""
    answer: concurrent.futures.Future[Answer] = concurrent.futures.Future()

    def run() -> None:
        try:
            answer.set_result(call())
        except Exception as error:
            answer.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    if not concurrent.futures.wait([answer], seconds).done:
        raise TimeoutError(f"no answer for {seconds:g} seconds")
    return answer.result()


# The children of the threads of this Dask worker, and the tokens whose children were ended.
_children: dict[tuple[str, int], Worker[Any, Any]] = {}
_ended: set[str] = set()


def run_in_child(token: str, serve: Serve, task: Any) -> Any:
    """Do a task in the child of this thread, on a Dask worker.

    Parameters
    ----------
    token : str
        Names the job, and how often its children have been ended.
    serve : callable
        What a child does.
    task : Task

    Returns
    -------
    result, Lost or LimboError
        What the function returned, how the child ended, or the error that the function raised.
    """
    key = (token, threading.get_ident())
    for _ in range(_STARTS):
        try:
            child = _children.get(key) or Worker(serve)
            if child.ready and child.pipe.poll():  # an idle child that says something has ended
                child = Worker(serve)
            _children[key] = child
            if token in _ended:  # a task that waited may begin after that
                break
            child.send(0, task)
            while (message := child.receive()) is None:
                pass
        except LimboError as error:
            return error
        except EOFError:
            _children.pop(key, None)
            if child.ready:
                return Lost(child.ending())
        else:
            return message[1]
    if token in _ended:
        end_children(token)
        return Lost(Ending("was ended", is_from_outside=True))
    return WorkerError(f"worker processes do not even start: the last one {child.ending().text}")


def end_children(token: str) -> bool:
    """End all children of a job on a Dask worker, and start no more; return whether all have ended.

    Those that wait for a disk may not have.
    """
    _ended.add(token)
    have_ended = [_children.pop(key).kill() for key in list(_children) if key[0] == token]
    return all(have_ended)
