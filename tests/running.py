"""The real command, running, on this host or as if on another one."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import uuid
from functools import cache
from glob import glob
from pathlib import Path

import psutil

from tests.jobs import ROOT, catches, run, wait_until

FLAGS = ("--images", "--metadata", "--image-size", "64", "48", "--workers", "2")
# The longest that a run may take, on however busy a machine.
MAX_SECONDS = 120


class RunningCommand:
    """The real command, running; a mark in the environment identifies all its processes."""

    def __init__(self, folder: Path, *arguments: object, host: str = "") -> None:
        self.folder = folder
        self.mark = uuid.uuid4().hex
        self.parts_before = self.parts()
        self.process = subprocess.Popen(
            [
                *(on_host(host) if host else ()),
                *(sys.executable, "-m", "limbo_compress", "--prefix", "out", *FLAGS),
                *map(str, arguments),
            ],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(ROOT), "FAULT_MARK": self.mark},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.stderr = ""

    def wait(self) -> int:
        """Wait for the end; no process may be left, and no traceback be on stderr."""
        _, self.stderr = self.process.communicate(timeout=MAX_SECONDS)
        wait_until(lambda: not self.processes(), "all processes to end", MAX_SECONDS)
        assert "Traceback" not in self.stderr, self.stderr
        return self.process.returncode

    def is_running(self) -> bool:
        return self.process.poll() is None

    def processes(self) -> list[psutil.Process]:
        """All processes of the run."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("FAULT_MARK") == self.mark:
                    found.append(process)
            except psutil.Error:
                continue
        return found

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


def on_host(name: str) -> list[str]:
    """What runs a command as on a host of this name, as far as names go."""
    return ["unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', name]


@cache
def has_hosts() -> bool:
    """Whether commands can run as if on another host."""
    return bool(shutil.which("unshare")) and not run(*on_host("other"), "true").returncode
