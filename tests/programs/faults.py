"""Do to the real command what happens to long jobs, many times: ``make faults``.

Each round ends with the same questions: are the outputs absent, or those of an undisturbed run, to
the byte? Is no process left, and no file but the documented ones? `test_faults.py` runs one round
of each kind.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from glob import glob
from pathlib import Path

import numpy as np
import psutil

from benchmarks.campaign import Campaign, write_campaign
from tests.hostile import write_hostile_samples
from tests.jobs import catches, outputs, wait_until

__all__ = ["ROUNDS", "Testbed"]

NAMES = ("images.npy", "masks-m.npy", "metadata.pickle")
FLAGS = ("--images", "--metadata", "--image-size", "64", "48", "--workers", "2")
MASK = ("--mask", "m", "^48", "--")
EXIT_CODES = {
    signal.SIGINT: 130,
    signal.SIGTERM: 143,
    signal.SIGHUP: 129,
    signal.SIGUSR1: 138,
    signal.SIGKILL: -signal.SIGKILL,
}
ATTEMPTS = 40
# The longest that a run may take, on however busy a machine.
MAX_SECONDS = 120
ROOT = Path(__file__).parents[2]


class Testbed:
    """A campaign, the outputs of an undisturbed run, and a folder for each round."""

    __test__ = False

    def __init__(self, folder: Path, samples: int = 200) -> None:
        self.folder = folder
        self.campaign = folder / "campaign"
        small = Campaign(samples, distinct=12, photographs=4, size=(480, 360), instances=5)
        write_campaign(self.campaign, small)
        (folder / "undisturbed").mkdir()
        assert RunningCommand(folder / "undisturbed", *MASK, self.campaign).wait() == 0
        self.expected = outputs(folder / "undisturbed")
        assert tuple(self.expected) == NAMES
        self._expected_of: dict[tuple[object, ...], dict[str, bytes]] = {}

    def expected_of(self, *flags: object) -> dict[str, bytes]:
        """The outputs of an undisturbed run with more flags."""
        if flags not in self._expected_of:
            with self.round() as folder:
                assert RunningCommand(folder, *flags, *MASK, self.campaign).wait() == 0
                self._expected_of[flags] = outputs(folder)
        return self._expected_of[flags]

    @contextmanager
    def round(self) -> Iterator[Path]:
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        yield folder
        shutil.rmtree(folder)

    def check(self, folder: Path, finished: bool) -> None:
        """Ask the questions that are the same after every round."""
        found = outputs(folder)
        assert all(found[name] == self.expected[name] for name in found), f"wrong bytes in {folder}"
        if finished:
            assert tuple(found) == NAMES, f"missing outputs in {folder}"
        left = set(os.listdir(folder)) - {f"out-{name}" for name in NAMES}
        assert left <= (set() if finished else {".out.partial"}), f"left in {folder}: {left}"


class RunningCommand:
    """The real command, running; a mark in the environment identifies all its processes."""

    def __init__(
        self, folder: Path, *arguments: object, crash_on: str = "", host: str = ""
    ) -> None:
        program = ["tests.programs.crashing", crash_on] if crash_on else ["limbo_compress"]
        self.folder = folder
        self.mark = uuid.uuid4().hex
        self.parts_before = self.parts()
        self.process = subprocess.Popen(
            [
                *(on_host(host) if host else ()),
                *(sys.executable, "-m", *program, "--prefix", "out", *FLAGS),
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
    tried = [*on_host("other"), "true"]
    return bool(shutil.which("unshare")) and not subprocess.run(tried, check=False).returncode


def kill_coordinator(testbed: Testbed, rng: random.Random, counts: Counter[str]) -> None:
    """Send any signal at any moment, again and again, until a run comes through."""
    with testbed.round() as folder:
        for _ in range(ATTEMPTS):
            command = RunningCommand(folder, *MASK, testbed.campaign)
            sent = rng.choice(_signals())
            if sent == signal.SIGKILL:
                time.sleep(rng.uniform(0, 2))  # any moment will do
            else:
                command.wait_for_handlers()
                command.wait_for_shards(rng.randrange(10))
            command.process.send_signal(sent)
            code = command.wait()
            if code == 0:
                break
            assert code == EXIT_CODES[sent], f"{sent!r} gave {code}: {command.stderr}"
            counts[f"coordinator: {sent.name}"] += 1
            testbed.check(folder, finished=False)
        else:
            assert RunningCommand(folder, *MASK, testbed.campaign).wait() == 0
        testbed.check(folder, finished=True)


def send_storms(testbed: Testbed, rng: random.Random, counts: Counter[str]) -> None:
    """Send all signals without a pause, from any moment until the process is gone."""
    heeded = [number for number in _signals() if number != signal.SIGKILL]
    with testbed.round() as folder:
        for _ in range(ATTEMPTS):
            command = RunningCommand(folder, *MASK, testbed.campaign)
            command.wait_for_handlers()
            command.wait_for_shards(rng.randrange(10))
            while command.is_running():
                command.process.send_signal(rng.choice(heeded))
                counts["coordinator: one of a storm of signals"] += 1
            code = command.wait()
            assert "Exception ignored" not in command.stderr, command.stderr
            said = [line for line in command.stderr.splitlines() if "stopped by" in line]
            assert len(said) == bool(code), f"exit code {code}: {command.stderr}"
            if not code:
                break
            name = said[0].partition("stopped by ")[2].partition(";")[0]
            assert code == EXIT_CODES[signal.Signals[name]], f"exit code {code}: {said}"
            testbed.check(folder, finished=False)
        else:
            assert RunningCommand(folder, *MASK, testbed.campaign).wait() == 0
        testbed.check(folder, finished=True)


def _signals() -> list[signal.Signals]:
    """The signals to choose from, but none that is ignored here, as in a job in the background."""
    heeded = [number for number in EXIT_CODES if signal.getsignal(number) != signal.SIG_IGN]
    return [*heeded, signal.SIGKILL]


def kill_workers(testbed: Testbed, rng: random.Random, counts: Counter[str]) -> None:
    """Kill workers at any moment: others do their work.

    Between two kills some work gets done, or the command would rightly give up.
    """
    with testbed.round() as folder:
        command = RunningCommand(folder, *MASK, testbed.campaign)
        while command.is_running():
            command.wait_for_shards(rng.randrange(1, 6))
            workers = [p for p in command.processes() if p.pid != command.process.pid]
            if workers and command.is_running():
                sent = rng.choice([signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
                try:
                    rng.choice(workers).send_signal(sent)
                except psutil.NoSuchProcess:
                    continue
                counts[f"worker: {sent.name}"] += 1
        assert command.wait() == 0, command.stderr
        testbed.check(folder, finished=True)


def crash_on_samples(testbed: Testbed, rng: random.Random, counts: Counter[str]) -> None:
    """Crash every worker that decodes certain samples: these are named, the others are written."""
    with testbed.round() as folder:
        text = f"{rng.randrange(10)}{rng.randrange(10)}.json"
        bad = [n for n, p in enumerate(sorted(testbed.campaign.rglob("*.json"))) if text in str(p)]
        flags = ("--on-error", "skip", testbed.campaign)
        command = RunningCommand(folder, *flags, crash_on=text)
        assert command.wait() == 0, command.stderr
        lines = (folder / "out-failures.jsonl").read_text().splitlines()
        assert [json.loads(line)["row"] for line in lines] == bad
        assert all("SIGSEGV" in line for line in lines)
        assert len(np.load(folder / "out-images.npy")) == 200 - len(bad)
        counts["sample that crashes"] += len(bad)


def damage_files(testbed: Testbed, rng: random.Random, counts: Counter[str]) -> None:
    """Truncate files and flip bits: every sample is a row of all outputs or a named failure."""
    with testbed.round() as folder:
        data = folder / "data"
        shutil.copytree(testbed.campaign, data)
        for path in sorted(data.rglob("*.*")):
            if path.is_file() and rng.random() < 0.7:
                path.write_bytes(_damage(path.read_bytes(), rng))
                counts[f"damaged {path.suffix}"] += 1
        command = _skip_bad_samples(folder, data)
        assert command.wait() == 0, command.stderr
        _check_rows(folder, len(list(data.rglob("*.json"))))


def _damage(content: bytes, rng: random.Random) -> bytes:
    damaged = bytearray(content)
    if rng.random() < 0.3:
        del damaged[rng.randrange(len(damaged)) :]
    for _ in range(rng.choice([1, 1, 10])):
        if damaged:
            damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def _skip_bad_samples(folder: Path, data: Path) -> RunningCommand:
    flags = ("--on-error", "skip", "--max-failures", "100%")
    return RunningCommand(folder, *flags, *MASK, data)


def _check_rows(folder: Path, samples: int) -> int:
    """Check that outputs have the same rows, and that all other samples are named failures.

    Returns their number.
    """
    lines = (folder / "out-failures.jsonl").read_text().splitlines()
    rows = len(np.load(folder / "out-images.npy"))
    assert rows == len(np.load(folder / "out-masks-m.npy"))
    assert rows == len(np.load(folder / "out-metadata.pickle", allow_pickle=True))
    assert rows + len(lines) == samples
    for line in lines:
        # "unexpected" alone is also in what Python says about damaged UTF-8.
        assert "met an unexpected" not in json.loads(line)["reason"], line
    assert os.listdir(folder).count(".out.partial") == 0
    return len(lines)


def read_hostile_samples(testbed: Testbed, rng: random.Random, counts: Counter[str]) -> None:
    """Put a thousand samples made to do harm among good ones."""
    with testbed.round() as folder:
        data = folder / "data"
        write_hostile_samples(data, 1000)
        shutil.copytree(testbed.campaign, data / "good")
        command = _skip_bad_samples(folder, data)
        assert command.wait() == 0, command.stderr
        assert _check_rows(folder, 1200) == 1000
        counts["hostile sample"] += 1000


def fill_disk(testbed: Testbed, rng: random.Random, counts: Counter[str]) -> None:
    """Fill the disk before a run and during one; once there is space, the job is resumed."""
    with testbed.round() as folder, _small_disk(folder) as disk:
        if disk is None:
            counts["full disk: NOT DONE, mounting is not possible here"] += 1
            return
        _run_on_full_disk(testbed, disk)
        counts["disk full before"] += 1
        _run_on_filling_disk(testbed, disk, rng.randrange(300_000, 900_000))
        counts["disk full meanwhile"] += 1
        # Both workers may have filled it at once, with none of their shards done.
        some_done = any(disk.glob(".*.partial/work-*/*.part"))
        command = RunningCommand(disk, *MASK, testbed.campaign)
        assert command.wait() == 0, command.stderr
        assert ("were already done" in command.stderr) == some_done
        testbed.check(disk, finished=True)


def _run_on_full_disk(testbed: Testbed, disk: Path) -> None:
    """Run where not even the arrays fit: nothing is written."""
    with _free_space(disk, 4 << 20):
        command = RunningCommand(disk, *MASK, testbed.campaign)
        assert command.wait() == 1
        assert "bytes needed" in command.stderr
        assert command.stderr.count("\n") == 1
        assert os.listdir(disk) == ["ballast"]


def _run_on_filling_disk(testbed: Testbed, disk: Path, metadata_bytes: int) -> None:
    """Run where the arrays fit, which are reserved, but only some of the metadata does."""
    arrays = sum(len(testbed.expected[name]) for name in NAMES[:2])
    with _free_space(disk, arrays + metadata_bytes):
        command = RunningCommand(disk, *MASK, testbed.campaign)
        assert command.wait() == 1, command.stderr
        assert "No space left on device" in command.stderr
        assert command.stderr.count("\n") == 1, command.stderr
        assert outputs(disk) == {}


@contextmanager
def _free_space(disk: Path, free: int) -> Iterator[None]:
    """Leave only so many bytes of a disk free."""
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(shutil.disk_usage(disk).free - free))
    yield
    ballast.unlink()


@contextmanager
def _small_disk(folder: Path) -> Iterator[Path | None]:
    disk = folder / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        yield None
        return
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def start_at_once(testbed: Testbed, rng: random.Random, counts: Counter[str]) -> None:
    """Start runs on one prefix at once, equal ones or not, on one host or as if on two.

    Some win, at once or one after the other, and publish their own outputs; the others are
    refused.
    """
    ranges = [("--start", start, "--end", start + 12) for start in (0, 40, 80)]
    if rng.random() < 0.5:
        ranges = [rng.choice(ranges)]
    hosts = ["", "other"] if has_hosts() and rng.random() < 0.5 else [""]
    jobs = [(rng.choice(ranges), rng.choice(hosts)) for _ in range(rng.randrange(2, 9))]
    with testbed.round() as folder:
        commands = [
            RunningCommand(folder, *flags, *MASK, testbed.campaign, host=host)
            for flags, host in jobs
        ]
        winners = []
        for command, (flags, _) in zip(commands, jobs, strict=True):
            if command.wait() == 0:
                winners.append(flags)
                continue
            counts["run refused beside another one"] += 1
            assert command.process.returncode == 1, command.stderr
            *waiting, refused = command.stderr.splitlines()
            assert "at work on this prefix" in refused
            # For a sign of life of one on another host.
            assert all("waiting up to " in line for line in waiting), command.stderr
        assert outputs(folder) in [testbed.expected_of(*flags) for flags in winners]
        assert len(os.listdir(folder)) == len(NAMES), f"left: {os.listdir(folder)}"
        counts["run that won beside others"] += len(winners)


def suspend_and_take_over(testbed: Testbed, rng: random.Random, counts: Counter[str]) -> None:
    """Stop a run, as if on another host, let another one take over and publish, and wake it."""
    if not has_hosts():
        counts["run taken over: NOT DONE, a host name cannot be changed here"] += 1
        return
    flags = rng.choice([(), ("--fresh", "--start", 40, "--end", 52)])
    with testbed.round() as folder:
        late = RunningCommand(folder, *MASK, testbed.campaign, host="other")
        late.wait_for_shards(rng.randrange(1, 6))
        processes = late.processes()
        for process in processes:
            process.suspend()
        (lock,) = folder.glob(".out.partial/lock/*")
        os.utime(lock, (0, 0))
        assert RunningCommand(folder, *flags, *MASK, testbed.campaign).wait() == 0
        assert outputs(folder) == testbed.expected_of(*flags)
        for process in processes:
            process.resume()
        assert late.wait() == 1, late.stderr
        assert "another run took over this prefix" in late.stderr
        assert outputs(folder) == testbed.expected_of(*flags)
        assert len(os.listdir(folder)) == len(NAMES), f"left: {os.listdir(folder)}"
        counts["run taken over"] += 1


def wake_late_worker(testbed: Testbed, rng: random.Random, counts: Counter[str]) -> None:
    """Stop a worker, kill the coordinator, resume and publish, and wake the worker."""
    with testbed.round() as folder:
        dead = RunningCommand(folder, *MASK, testbed.campaign)
        dead.wait_for_shards(rng.randrange(1, 6))
        workers = [p for p in dead.processes() if p.pid != dead.process.pid]
        for worker in workers:
            worker.suspend()
        dead.process.kill()
        command = RunningCommand(folder, *MASK, testbed.campaign)
        assert command.wait() == 0, command.stderr
        testbed.check(folder, finished=True)
        for worker in workers:
            # The kernel may have woken it: those whose session has lost its last parent.
            with suppress(psutil.NoSuchProcess):
                worker.resume()
                counts["worker woken after publication"] += 1
        dead.wait()
        testbed.check(folder, finished=True)


ROUNDS: dict[Callable[[Testbed, random.Random, Counter[str]], None], int] = {
    kill_coordinator: 25,
    send_storms: 10,
    kill_workers: 25,
    crash_on_samples: 4,
    damage_files: 6,
    read_hostile_samples: 1,
    fill_disk: 2,
    start_at_once: 200,
    suspend_and_take_over: 20,
    wake_late_worker: 20,
}


def main(seed: int) -> None:
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        testbed = Testbed(Path(folder))
        for do_round, rounds in ROUNDS.items():
            for number in range(rounds):
                do_round(testbed, random.Random(f"{seed} {do_round.__name__} {number}"), counts)
                print(f"{do_round.__name__}: {number + 1} of {rounds} rounds", flush=True)
    print(f"{sum(ROUNDS.values())} rounds survived; faults injected:")
    for fault, count in sorted(counts.items()):
        print(f"  {count:6} {fault}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
