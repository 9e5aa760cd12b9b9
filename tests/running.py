"""The real command, running, on this host or as if on another one."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from glob import glob
from pathlib import Path

import psutil

from tests.jobs import ROOT, catches, run, wait_until

FLAGS = ("--images", "--metadata", "--image-size", "64", "48", "--workers", "2")
# The longest that a run may take, on however busy a machine.
MAX_SECONDS = 120


class Running:
    """A command in a process group of its own, which runs in a folder."""

    def __init__(
        self, folder: Path, command: Sequence[object], env: dict[str, str] | None = None
    ) -> None:
        self.folder = folder
        self.parts_before = self.parts()
        # Not a pipe, which would stay open while any process is left.
        self._output = tempfile.TemporaryFile()  # noqa: SIM115
        self.process = subprocess.Popen(
            [*map(str, command)],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(ROOT)} | (env or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._output,
            process_group=0,
        )

    def __del__(self) -> None:
        self._output.close()

    @property
    def stderr(self) -> str:
        """What it has printed so far."""
        output = self._output.fileno()  # whose offset is that of the processes
        return os.pread(output, os.fstat(output).st_size, 0).decode(errors="replace")

    def wait(self) -> int:
        """Wait for the end; no process may be left, and no traceback be on stderr."""
        self.process.wait(MAX_SECONDS)
        wait_until(lambda: not self.states(), "all processes to end", MAX_SECONDS)
        assert "Traceback" not in self.stderr, self.stderr
        return self.process.returncode

    def is_running(self) -> bool:
        return self.process.poll() is None

    def states(self) -> dict[int, str]:
        """The states of its processes, as `psutil` names them, without those that have ended."""
        found = {}
        for pid in psutil.pids():
            with suppress(ProcessLookupError, psutil.NoSuchProcess):
                if os.getpgid(pid) == self.process.pid:
                    found[pid] = psutil.Process(pid).status()
        ended = (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
        return {pid: state for pid, state in found.items() if state not in ended}

    def send(self, number: signal.Signals) -> None:
        """Send a signal to all its processes."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def parts(self) -> set[str]:
        """The names of the shard records, each a shard that is done."""
        return set(glob(".out.partial/work-*/*.part", root_dir=self.folder))

    def wait_for_handlers(self) -> None:
        """Wait until signals are caught, or the run has ended."""
        wait_until(
            lambda: not self.is_running() or catches(self.process.pid, signal.SIGUSR1),
            "signal handlers",
            MAX_SECONDS,
        )

    def wait_for_shards(self, count: int) -> None:
        """Wait until this many more shards are done, or the run has ended."""
        wait_until(
            lambda: not self.is_running() or len(self.parts() - self.parts_before) >= count,
            f"{count} shards",
            MAX_SECONDS,
        )
        self.parts_before = self.parts()


class RunningCommand(Running):
    """The real command, with outputs ``out-*`` in its folder."""

    def __init__(self, folder: Path, *arguments: object, host: str = "") -> None:
        program = (sys.executable, "-m", "limbo_compress", "--prefix", "out")
        super().__init__(folder, [*on_host(host), *program, *FLAGS, *arguments])


def on_host(name: str) -> list[str]:
    """What runs a command as on a host of this name, as far as names go; without one, on this."""
    if not name:
        return []
    return ["unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', name]


@cache
def has_hosts() -> bool:
    """Whether commands can run as if on another host."""
    return bool(shutil.which("unshare")) and not run(*on_host("other"), "true").returncode
