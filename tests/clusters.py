"""A Dask cluster on this machine, of real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.jobs import ROOT, wait_until

# Without the current folder on the path, as the installed command.
DASK = (sys.executable, "-P", "-m", "dask")
NEAR = ("--host", "127.0.0.1", "--no-dashboard")


class DaskCluster:
    """A scheduler, whose file is in a folder, and workers that come and go.

    `tls` has flags for certificates; without them, there is no TLS.
    """

    def __init__(self, folder: Path, tls: Sequence[str] = ()) -> None:
        self._tls = tls
        self.file = folder / "scheduler.json"
        self._stack = ExitStack()
        self.workers: list[subprocess.Popen[bytes]] = []
        protocol = ("--protocol", "tls") if tls else ()
        self.scheduler = self._start("scheduler", "--port", "0", *protocol)
        wait_until(self._has_address, "the Dask scheduler")

    def _has_address(self) -> bool:
        try:
            return bool(self.address)
        except (OSError, ValueError):
            return False

    @property
    def address(self) -> str:
        address: str = json.loads(self.file.read_text())["address"]
        return address

    def add_worker(self, *arguments: str, before: Sequence[str] = ()) -> subprocess.Popen[bytes]:
        """Start a worker of one thread, without a nanny; `before` is what runs its command."""
        worker = self._start("worker", "--nthreads", "1", "--no-nanny", *arguments, before=before)
        self.workers.append(worker)
        return worker

    def wait_for_workers(self, count: int) -> None:
        """Wait until the scheduler lists this number of workers."""
        from distributed import Client

        with Client(self.address, set_as_default=False) as client:
            client.wait_for_workers(count, timeout=60)

    def _start(self, *arguments: str, before: Sequence[str] = ()) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [*before, *DASK, *arguments, *NEAR, *self._tls, "--scheduler-file", str(self.file)],
            cwd=self.file.parent,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)
        return process

    def close(self) -> None:
        """Kill all of it."""
        self._stack.close()


@contextmanager
def dask_cluster(workers: int) -> Iterator[str]:
    """Start a scheduler and workers; yield the scheduler's address once all are there."""
    with tempfile.TemporaryDirectory() as folder:
        cluster = DaskCluster(Path(folder))
        try:
            for _ in range(workers):
                cluster.add_worker()
            cluster.wait_for_workers(workers)
            yield cluster.address
        finally:
            cluster.close()
