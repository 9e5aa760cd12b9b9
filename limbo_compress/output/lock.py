"""One run at a time on a prefix, or on a partition of it.

flock would not do: many cluster filesystems ignore it.
"""

from __future__ import annotations

import errno
import itertools
import json
import logging
import math
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from ..errors import OutputError, shown
from ..formats.filestate import open_regular
from ..oserrors import reading, writing
from ..partition import job_id
from ..plan import Job
from ..renaming import rename_folder
from .owners import opened_work_folder

__all__ = ["Holder", "Lock", "holders", "partition_locks"]

_log = logging.getLogger("limbo_compress")

_BEAT_SECONDS = 10.0
_DEAD_SECONDS = 60.0
# The first number of a beat. All have as many digits, so that nobody reads a half-written file.
# Clients of FUSE with a cache for writes see new contents, but not a new time.
_BEATS = 10**7
# How often to look whether a run on another machine shows life.
_LOOK_SECONDS = 0.5
_TRIES = 200
# While others rename folders next to it, a client may miss a file for a moment.
_PAUSES_TO_CONFIRM = (0.05, 0.2, 0.5, 0.0)
_PAUSE_SECONDS = 0.02
# The longest to wait for others that start at the same time.
_CLAIMS_SECONDS = 300.0
_PARTITION = "partition-"
# What another client of a network filesystem removed may be stale instead of missing.
_GONE = (errno.ENOENT, errno.ESTALE)


class Lock:
    """The right to work in a folder, which only one run has at a time.

    The lock is a folder ``lock`` with one file, which has the random name of the run that holds
    it. A run takes the lock by renaming a draft of that folder, with its file in it. Every
    filesystem lets only one such rename succeed, since none replaces a folder that holds a file.
    As each run touches and removes only the file with its own name, a run that lost its lock
    cannot disturb the next one, and two runs can remove the file of a dead one without harm.

    The file says which process holds the lock, so that a dead run on the same machine does not
    block. If that process cannot be seen, as on another machine or in another container, the run
    counts as dead once it has not touched its file for a minute. Until then, a run that needs the
    lock waits to see whether it does.

    The work folder is created with the lock, and removed with it if it is empty. Whoever does not
    hold the lock changes nothing else there.

    The tasks of a job array work in one folder at once. Each holds the lock of its partition, and
    the lock of the whole folder only for the moment of its start, as a claim, for which the others
    wait. A run without a partition holds the lock of the folder from start to end.

    Parameters
    ----------
    folder : str
        The work folder.
    run : str
        The random name of this run.
    partition : int, optional
        The partition to be locked, instead of the folder.
    is_claim : bool
        Whether the lock is held for a moment only.
    wait : float
        How long to wait at most, in seconds, to see whether a run is alive whose process cannot be
        seen.

    Raises
    ------
    OutputError
        On entering, if another run holds the lock, or it cannot be created.
    """

    NAME = "lock"

    def __init__(
        self,
        folder: str,
        run: str,
        partition: int | None = None,
        is_claim: bool = False,
        wait: float = 0.0,
    ) -> None:
        self._folder = folder
        self._run = run
        self._name = self.NAME if partition is None else f"{_PARTITION}{partition}"
        self._is_claim = is_claim
        self._wait = wait
        self._lock = os.path.join(folder, self._name)
        self._file = os.path.join(self._lock, run)
        self._draft = os.path.join(folder, f"{self._name}-{run}")
        self._ended = threading.Event()

    @classmethod
    def of(cls, job: Job) -> Lock:
        """Make the lock that a run of this job holds from start to end."""
        partition = job.partition.index if job.partition else None
        return cls(job.root, job.run, partition, wait=job.options.wait)

    @property
    def name(self) -> str:
        """Its name in the work folder."""
        return self._name

    def __enter__(self) -> Lock:
        try:
            with writing(self._folder):
                self._take()
        except BaseException:
            self._remove()
            raise
        self._touch(_BEATS + 1)  # the rename may have taken long
        self._beat = threading.Thread(target=self._keep_touching, daemon=True)
        self._beat.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._beat.join()
        self._remove()

    def check(self) -> None:
        """Check that this run still holds the lock. Any process of the run may ask.

        Raises
        ------
        OutputError
            If it does not.
        """
        with writing(self._folder):
            for pause in _PAUSES_TO_CONFIRM:
                if self._is_held():
                    return
                time.sleep(pause)
            raise OutputError(
                "another run took over this prefix, because this one had shown no sign of"
                " life for a minute",
                self._folder,
                "wait for that run, or choose another `prefix`",
            )

    def _is_held(self) -> bool:
        with _may_be_gone():
            # Opening asks the server; stat may answer from the client's cache.
            os.close(os.open(self._file, os.O_RDONLY | os.O_CLOEXEC))
            return True
        return False

    def _take(self) -> None:
        """Take the lock, from a dead run if need be, or raise an error that names the holder."""
        failure: OSError | None = None
        tries = 0
        claims_end = time.monotonic() + _CLAIMS_SECONDS
        found: list[Holder] = []
        since, has_said = time.monotonic(), False
        while tries < _TRIES:
            tries += 1
            now = self._write_draft()
            failure = self._rename_draft()
            if failure is None or self._is_held():  # the reply to a rename may get lost
                return
            before, found = found, list(holders(self._folder, self._name))
            if found != before:
                since = time.monotonic()
            seconds = time.monotonic() - since
            is_claimed = any(holder.is_claim and holder.is_alive(now) for holder in found)
            # The time of a claim may be in the future, by a wrong clock.
            if is_claimed and time.monotonic() < claims_end and seconds < _DEAD_SECONDS:
                tries -= 1
                if seconds > _BEAT_SECONDS and not has_said:
                    has_said = True
                    _log.warning("waiting for a start: %s", found[0].describe("may be"))
            else:
                self._bury(found, now, since)
            # At random, so that many partitions that start at once do not keep in step.
            time.sleep(2 * _PAUSE_SECONDS * os.urandom(1)[0] / 255)
        assert failure is not None
        raise failure

    def bury_partitions(self) -> None:
        """Remove the locks of all partitions whose runs are dead.

        Raises
        ------
        OutputError
            If one is alive.
        """
        with writing(self._folder):
            now = self._write_draft()
            self._bury(self._partition_holders(), now, time.monotonic())
            for name in partition_locks(self._folder):
                with suppress(OSError):
                    os.rmdir(os.path.join(self._folder, name))

    def has_other_partitions(self) -> bool:
        """Whether a run is alive that holds the lock of another partition."""
        now = self._write_draft()
        return any(holder.is_alive(now) for holder in self._partition_holders())

    def _partition_holders(self) -> list[Holder]:
        """Read who holds the locks of other partitions, dead or alive."""
        names = set(partition_locks(self._folder)) - {self._name}
        return [holder for name in names for holder in holders(self._folder, name)]

    def _bury(self, found: list[Holder], now: float, since: float) -> None:
        """Remove the files of runs that are dead, or turn out to be.

        They have been as they were found since a time.

        Raises
        ------
        OutputError
            If one is alive, or may be after all the waiting.
        """
        for holder in found:
            if self._is_dead(holder, now, since):
                with _may_be_gone():
                    os.unlink(holder.path)

    def _is_dead(self, holder: Holder, now: float, since: float) -> bool:
        """Watch a run, as it was found at `since`, until it is dead; False if it ended."""
        for look in itertools.count():
            waited = time.monotonic() - since
            others = holders(self._folder, holder.lock)
            found = next((other for other in others if other.path == holder.path), None)
            if found is None:  # it released the lock
                break
            seconds = found.seconds_left(now)
            if seconds == math.inf or found != holder:
                hint = "wait for it, end it, or choose another `prefix`"
                raise OutputError(holder.describe("is"), self._folder, hint)
            if waited >= seconds:
                return True
            if waited >= self._wait:
                hint = f"set `wait` to {_DEAD_SECONDS:g} to see whether it is"
                raise OutputError(holder.describe("may be"), self._folder, hint)
            if look == 0:
                most, who = min(seconds, self._wait) - waited, holder.describe("may be")
                _log.warning("waiting up to %.0f seconds (`wait`): %s", most, who)
            time.sleep(_LOOK_SECONDS)
        return False

    def _write_draft(self) -> float:
        """Write the draft, and return the time by the clock of its filesystem."""
        for _ in range(_TRIES):
            with _may_be_gone():  # a run that ended, or lost its lock, removed the folder
                return self._write_draft_once()
        return self._write_draft_once()

    def _write_draft_once(self) -> float:
        with opened_work_folder(self._folder) as folder, suppress(FileExistsError):
            os.mkdir(os.path.basename(self._draft), dir_fd=folder)
        with open(os.path.join(self._draft, self._run), "w", encoding="utf-8") as stream:
            json.dump({"beats": _BEATS} | _this_process() | {"claim": self._is_claim}, stream)
            stream.flush()
            return os.fstat(stream.fileno()).st_mtime

    def _rename_draft(self) -> OSError | None:
        with suppress(OSError):  # if it is empty, its last holder is about to remove it, or died
            os.rmdir(self._lock)
        try:
            rename_folder(self._draft, self._lock)
        except OSError as error:  # what a folder in the way is called depends on the filesystem
            return error
        return None

    def _remove(self) -> None:
        """Remove the lock and, if they are empty, the folders."""
        for path in (self._file, os.path.join(self._draft, self._run)):
            with suppress(OSError):
                os.unlink(path)
        for folder in (self._draft, self._lock, self._folder):
            with suppress(OSError):  # another run is there
                os.rmdir(folder)

    def _keep_touching(self) -> None:
        for beat in itertools.count(_BEATS + 2):
            if self._ended.wait(_BEAT_SECONDS):
                return
            self._touch(beat)

    def _touch(self, beat: int) -> None:
        # A full disk refuses the one, some mounts the other, and a network both for a moment.
        with suppress(OSError), open(self._file, "r+b", buffering=0) as stream:
            stream.write(b'{"beats": %d' % beat)  # as the file begins
        with suppress(OSError):
            os.utime(self._file)


@dataclass(frozen=True)
class Holder:
    """A run that holds the lock: its file, the process that the file names, its last touch."""

    path: str
    process: dict[str, Any]
    touched: float

    def is_running(self) -> bool | None:
        """Whether its process runs; None if this process cannot tell."""
        mine = _this_process()
        same = [self.process.get(key) == mine[key] for key in ("host", "boot", "namespace")]
        # Some sandboxes do not say which they are.
        is_known = sys.platform != "linux" or (mine["boot"] and mine["namespace"])
        if not (is_known and all(same)):
            return None
        return _is_running(self.process["pid"], self.process.get("started"))

    def seconds_left(self, now: float) -> float:
        """After how many seconds without a touch it is dead; infinite if its process runs.

        `now` is by the clock of the filesystem. A touch in the future may be that of a wrong clock.
        """
        if (is_running := self.is_running()) is not None:
            return math.inf if is_running else 0.0
        return max(0.0, _DEAD_SECONDS - max(0.0, now - self.touched))

    def is_alive(self, now: float) -> bool:
        """Whether the run is alive, as far as can be told at once; see `seconds_left`."""
        return self.seconds_left(now) > 0

    @property
    def lock(self) -> str:
        """The name of the lock in the work folder."""
        return os.path.basename(os.path.dirname(self.path))

    @property
    def is_claim(self) -> bool:
        """Whether it is held for a moment only."""
        return self.process.get("claim") is True

    @property
    def name(self) -> str:
        """The process that holds the lock, and its job, as far as they are known."""
        if not self.process:
            return ""
        name = f"process {self.process['pid']} on {self.process['host']}"
        job = self.process.get("job")
        return shown(f"{name}, {job}" if job else name)

    def describe(self, verb: str) -> str:
        """Say that the run is at work, on what, and which process it is."""
        number = self.lock.removeprefix(_PARTITION)
        part = "" if self.lock == Lock.NAME else f"partition {number} of "
        who = f": {self.name}" if self.name else ""
        return f"another run {verb} at work on {part}this prefix{who}"


def partition_locks(folder: str) -> list[str]:
    """Return the names of the locks of partitions in a work folder."""
    names: list[str] = []
    with _may_be_gone():
        names = os.listdir(folder)
    return [name for name in names if name.removeprefix(_PARTITION).isdecimal()]


def holders(folder: str, lock: str) -> Iterator[Holder]:
    """Read who holds a lock, dead or alive; nobody if it was released meanwhile."""
    names: list[str] = []
    with _may_be_gone():
        os.listdir(folder)  # or a network client may go on saying that there is no lock
        names = os.listdir(os.path.join(folder, lock))
    for name in names:
        path = os.path.join(folder, lock, name)
        with reading(path), _may_be_gone(), open_regular(path) as stream:
            touched = os.fstat(stream.fileno()).st_mtime
            yield Holder(path, _parse(stream.read()), touched)


@contextmanager
def _may_be_gone() -> Iterator[None]:
    """Ignore that another run removed a file or folder."""
    try:
        yield
    except OSError as error:
        if error.errno not in _GONE:
            raise


def _parse(text: bytes) -> dict[str, Any]:
    """Read which process holds a lock; empty if its file is damaged, or still being written."""
    try:
        process = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(process, dict):
        return {}
    pid, host = process.get("pid"), process.get("host")
    is_whole = type(pid) is int and 0 < pid < 1 << 31 and isinstance(host, str)
    return process if is_whole else {}


def _this_process() -> dict[str, object]:
    return {
        "host": socket.gethostname(),
        "boot": _first_line("/proc/sys/kernel/random/boot_id"),
        "namespace": _link("/proc/self/ns/pid"),
        "pid": os.getpid(),
        "started": _state("self")[1],
        "job": job_id(),
    }


def _is_running(pid: int, started: object) -> bool | None:
    """Whether a process of this pid namespace runs; None if that cannot be told."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is another user's
        pass
    if sys.platform != "linux":
        return True
    is_ours = _link("/proc/self") == str(os.getpid())  # /proc, and not another pid namespace's
    state, found = _state(str(pid)) if is_ours else ("", "")
    if not (found and started):  # with hidepid, /proc hides what is another user's
        return None
    return state not in "ZX" and found == started


def _state(process: str) -> tuple[str, str]:
    """State and start time of a process, which tells reused pids apart; empty if not to be seen."""
    # man 5 proc: after the name in brackets come the state and, 19 fields later, the start.
    fields = _first_line(f"/proc/{process}/stat").rpartition(")")[2].split()
    return (fields[0], fields[19]) if fields else ("", "")


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _first_line(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.readline().strip()
    except OSError:
        return ""
