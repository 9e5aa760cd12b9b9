"""Run the real command on two hosts that share a network filesystem: ``make cluster``.

The hosts are two FUSE mounts of one folder on this machine, each with a page cache of its own that
it writes back later, as clients of NFS do. Each is seen at the same path, in a mount namespace of
its own. Job arrays and a Dask cluster work on both at once; some are killed and resumed from the
other host. One is looked at from the other host while it is alive, and after it was killed under
a wrong clock. The outputs must be those of the local disk, to the byte. It needs root and mergerfs;
what cannot be tried here is skipped, and a line says why.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from benchmarks.campaign import Campaign, write_campaign
from tests.clusters import DaskCluster
from tests.jobs import outputs, run, wait_until
from tests.running import Running

OPTIONS = (
    "cache.writeback=true,cache.files=auto-full,cache.attr=0,cache.entry=0,cache.negative_entry=0"
)
# Rows of several pages that begin inside of one; with a size of no pattern; far less than a page.
SIZES = ((224, 224), (299, 299), (7, 5))
PARTITIONS = 4
SAMPLES = 60
ROUNDS = 10
SECONDS = 120


class Hosts:
    """Two hosts, and a folder for the outputs that both see at the same path."""

    def __init__(self, folder: Path) -> None:
        self.share = folder / "share"
        self.backing = folder / "export"
        self._clients = [folder / "client0", folder / "client1"]
        for path in (self.share, self.backing, *self._clients):
            path.mkdir()

    @contextmanager
    def mounted(self) -> Iterator[Hosts]:
        """Mount the folder once for each host."""
        try:
            for client in self._clients:
                run("mergerfs", "-o", OPTIONS, self.backing, client, check=True)
            yield self
        finally:
            for client in self._clients:
                run("umount", "--lazy", client)

    def on(self, host: int) -> list[str]:
        """What runs a command on a host, under its name."""
        script = 'hostname "host$0" && mount --bind "$1" "$2" && shift 2 && exec "$@"'
        namespaces = ["unshare", "--mount", "--uts", "--propagation", "private"]
        return [
            *(*namespaces, "sh", "-c", script, str(host)),
            *(str(self._clients[host]), str(self.share)),
        ]

    def start(self, host: int, folder: str, *arguments: object) -> Running:
        """Start the command on a host, with a prefix in a folder of the share."""
        prefix = self.share / folder / "out"
        flags = ("--prefix", prefix, "--images", "--metadata", "--quiet")
        program = (sys.executable, "-m", "limbo_compress")
        return Running(self.backing / folder, [*self.on(host), *program, *flags, *arguments])

    def locks(self, folder: str) -> list[Path]:
        """The locks in a folder, by their paths in the share."""
        work = self.backing / folder / ".out.partial"
        paths = (*work.glob("lock/*"), *work.glob("partition-*/*"))
        return [path.relative_to(self.backing) for path in paths]

    def forget(self, folder: str, touched: float = 0) -> None:
        """Let the locks in a folder look as if nobody had touched them for a minute, or since then.

        On both hosts: a client that writes back later believes its own times.
        """
        locks = self.locks(folder)
        touch = ("touch", "--no-create", f"--date=@{touched:.0f}")
        for host in (0, 1) if locks else ():
            run(*self.on(host), *touch, *(self.share / lock for lock in locks), check=True)


def finish(run: Running, *codes: int) -> str:
    """Wait for the end of a run, check its exit code, and return what it said."""
    assert run.wait() in (codes or (0,)), run.stderr
    return run.stderr


def kill_after(run: Running, hosts: Hosts, folder: str, parts: int) -> None:
    """Kill a command once there are this many parts, or it has ended."""
    run.wait_for_shards(parts)
    run.process.kill()
    finish(run, 0, -signal.SIGKILL)
    hosts.forget(folder)


def run_array(hosts: Hosts, folder: str, flags: tuple[object, ...], rng: random.Random) -> None:
    """Do four partitions on both hosts at once, one of them twice; publish from either host."""

    def start(index: int, host: int) -> Running:
        partition = f"{index}/{PARTITIONS}"
        return hosts.start(host, folder, "--workers", "1", "--partition", partition, *flags)

    tasks = [start(index, index % 2) for index in range(PARTITIONS)]
    killed = rng.randrange(PARTITIONS)
    others = [task for index, task in enumerate(tasks) if index != killed]
    tasks[killed].wait_for_shards(8)
    tasks[killed].process.kill()
    for task in others:
        finish(task)
    finish(tasks[killed], 0, -signal.SIGKILL)
    hosts.forget(folder)
    if rng.random() < 0.5:  # else the run that publishes does it
        finish(start(killed, 1 - killed % 2))
    finish(hosts.start(rng.randrange(2), folder, "--workers", "2", *flags))


def run_dask(hosts: Hosts, folder: str, flags: tuple[object, ...], rng: random.Random) -> None:
    """Do a job on a worker of each host, kill its coordinator, and resume on the other host."""
    scheduler = Path(tempfile.mkdtemp())
    cluster = DaskCluster(scheduler)
    try:
        for host in (0, 1):
            cluster.add_worker(before=hosts.on(host))
        flags = ("--scheduler-file", cluster.file, *flags)
        host = rng.randrange(2)
        kill_after(hosts.start(host, folder, *flags), hosts, folder, rng.randrange(2, 8))
        finish(hosts.start(1 - host, folder, *flags))
    finally:
        cluster.close()
        shutil.rmtree(scheduler)


def outlive_a_wrong_clock(hosts: Hosts, folder: str, flags: tuple[object, ...]) -> None:
    """Refuse a second run while the first shows life; take over after a minute without any."""
    first = hosts.start(0, folder, "--workers", "1", *flags)
    coordinator = psutil.Process(first.process.pid)
    wait_until(lambda: bool(hosts.locks(folder) and coordinator.children()), "a worker", SECONDS)
    workers = coordinator.children(recursive=True)
    for worker in workers:  # so that the run lasts
        worker.suspend()
    stderr = finish(hosts.start(1, folder, *flags), 1)
    assert "another run is at work on this prefix" in stderr, stderr
    first.process.kill()
    for worker in workers:
        worker.kill()
    finish(first, -signal.SIGKILL)
    hosts.forget(folder, time.time() + 2 * 86400)
    begun = time.monotonic()
    finish(hosts.start(1, folder, *flags))
    assert time.monotonic() - begun >= 60


def expected_outputs(folder: Path, flags: tuple[object, ...]) -> dict[str, bytes]:
    """The outputs of an undisturbed run on the local disk."""
    folder.mkdir()
    command = (sys.executable, "-m", "limbo_compress", "--prefix", folder / "out", "--quiet")
    run(*command, "--images", "--metadata", *flags, check=True)
    return outputs(folder)


def why_not() -> str:
    """Why hosts cannot be made here; empty if they can."""
    for tool in ("mergerfs", "unshare"):
        if shutil.which(tool) is None:
            return f"{tool} is not installed (apt-get install {tool})"
    if os.geteuid():
        return "mounting needs root"
    return ""


def main(rounds: int, seed: int) -> None:
    """Do this many rounds of each kind and size."""
    if problem := why_not():
        print(f"skipped, nothing was tried: {problem}")
        return
    counts: Counter[str] = Counter()

    def check(trial: str, expected: dict[str, bytes]) -> None:
        assert outputs(hosts.backing / trial) == expected, f"{trial}: other bytes"
        left = set(os.listdir(hosts.backing / trial))
        names = {f"out-{name}" for name in expected}
        assert left == {".out.state", *names}, f"{trial}: left {left}"
        print(trial, "is byte-identical", flush=True)
        counts[trial.partition("-")[0]] += 1

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        campaign = folder / "campaign"
        write_campaign(campaign, Campaign(SAMPLES, distinct=12, photographs=4, size=(480, 360)))
        hosts = Hosts(folder)
        with hosts.mounted():
            for width, height in SIZES:
                flags = ("--image-size", width, height, "--mask", "m", "^48", "--", campaign)
                expected = expected_outputs(folder / f"{width}x{height}", flags)
                for kind in (run_array, run_dask):
                    for number in range(rounds):
                        trial = f"{kind.__name__}-{width}x{height}-{number}"
                        (hosts.backing / trial).mkdir()
                        kind(hosts, trial, flags, random.Random(f"{seed} {trial}"))
                        check(trial, expected)
            trial = outlive_a_wrong_clock.__name__
            (hosts.backing / trial).mkdir()
            outlive_a_wrong_clock(hosts, trial, flags)
            check(trial, expected)
    print(f"byte-identical to the local disk, on two hosts: {dict(counts)}")


if __name__ == "__main__":
    main(
        int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS,
        int(sys.argv[2]) if len(sys.argv) > 2 else 0,
    )
