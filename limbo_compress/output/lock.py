"""One run at a time on a prefix. flock would not do: many cluster filesystems ignore it."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from contextlib import suppress

from ..errors import OutputError

__all__ = ["Lock"]

_BEAT_SECONDS = 10.0
_DEAD_SECONDS = 60.0
_BREAK_SECONDS = 0.02


class Lock:
    """A file that only one run can create.

    It names the machine and the process, so that the lock of a dead run on the same machine does
    not block. A run on another machine, or in another container, counts as dead once it has not
    touched its lock for a minute.

    Parameters
    ----------
    path : str
        The file, in a folder that exists.

    Raises
    ------
    OutputError
        On entering, if another run holds it.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._ended = threading.Event()

    def __enter__(self) -> Lock:
        holder = self._take()
        if holder is not None:
            raise OutputError(
                f"another run is at work on this prefix: process {holder.get('pid')}"
                f" on {holder.get('host')}",
                self._path,
                "wait for it, or choose another `prefix`",
            )
        self._beat = threading.Thread(target=self._keep_touching, daemon=True)
        self._beat.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._beat.join()
        self._remove()

    def _take(self) -> dict[str, object] | None:
        """Take the lock, if need be from a dead run, or return the living process that holds it."""
        while not self._create():
            found = self._read()
            if found is None:
                continue
            holder = _parse(found[0])
            if self._is_alive(holder, found[1]):
                return holder
            self._remove_dead(found)
        return None

    def _remove_dead(self, found: tuple[str, float]) -> None:
        """Remove a dead run's lock, if it is still the one that was found.

        Many runs may get here at once, and one could remove another's new lock. So they take
        turns, under a second lock of the same kind; if its holder dies, it is removed in the
        same way.
        """
        breaking = Lock(f"{self._path}.breaking")
        if breaking._take() is not None:
            time.sleep(_BREAK_SECONDS)
            return
        try:
            if self._read() == found:
                self._remove()
        finally:
            breaking._remove()

    def _remove(self) -> None:
        with suppress(FileNotFoundError):  # a finished job removes the whole folder
            os.unlink(self._path)

    def _create(self) -> bool:
        """Create the lock with its content in one step, so that a crash cannot leave it empty."""
        draft = f"{self._path}.{os.urandom(8).hex()}"
        with open(draft, "x", encoding="utf-8") as stream:
            json.dump(_this_process(), stream)
        try:
            os.link(draft, self._path)
        except (FileExistsError, FileNotFoundError):  # the winner removes others' drafts
            return False
        except OSError:  # no hard links here: write the content a moment later
            return self._create_empty()
        finally:
            with suppress(FileNotFoundError):
                os.unlink(draft)
        return True

    def _create_empty(self) -> bool:
        try:
            with open(self._path, "x", encoding="utf-8") as stream:
                json.dump(_this_process(), stream)
        except FileExistsError:
            return False
        return True

    def _read(self) -> tuple[str, float] | None:
        try:
            with open(self._path, encoding="utf-8") as stream:
                return stream.read(), os.fstat(stream.fileno()).st_mtime
        except FileNotFoundError:
            return None

    def _is_alive(self, holder: dict[str, object], touched: float) -> bool:
        mine = _this_process()
        if all(holder.get(key) == mine[key] for key in ("host", "boot", "namespace")):
            pid = holder.get("pid")
            return isinstance(pid, int) and _started(pid) == holder.get("started")
        return self._age(touched) < _DEAD_SECONDS

    def _age(self, touched: float) -> float:
        """Seconds since a file was touched, by the clock of its filesystem."""
        probe = f"{self._path}.{os.urandom(8).hex()}"
        with open(probe, "x") as stream:
            now = os.fstat(stream.fileno()).st_mtime
        os.unlink(probe)
        return now - touched

    def _keep_touching(self) -> None:
        while not self._ended.wait(_BEAT_SECONDS):
            try:
                os.utime(self._path)
            except OSError:
                return


def _parse(text: str) -> dict[str, object]:
    try:
        holder = json.loads(text)
    except ValueError:
        return {}
    return holder if isinstance(holder, dict) else {}


def _this_process() -> dict[str, object]:
    pid = os.getpid()
    return {
        "host": socket.gethostname(),
        "boot": _first_line("/proc/sys/kernel/random/boot_id"),
        "namespace": _namespace(),
        "pid": pid,
        "started": _started(pid),
    }


def _namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _started(pid: int) -> str | None:
    """When a process started, which tells reused pids apart; None if there is no such process."""
    if not os.path.isdir("/proc/self"):  # macOS
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return None
        return ""
    # man 5 proc: after the name in brackets come the state and, 19 fields later, the start.
    fields = _first_line(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return fields[19] if fields and fields[0] not in "ZX" else None


def _first_line(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.readline().strip()
    except OSError:
        return ""
