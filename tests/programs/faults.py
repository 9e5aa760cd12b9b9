"""Do to the real command what happens to long jobs, many times: ``make faults``.

Each round ends with the same questions: are the outputs absent, or those of an undisturbed run, to
the byte? Is no process left, and no file but the documented ones? `test_faults.py` runs a few
rounds of each kind. What goes wrong at a certain file call is in `enumerate`, and what happens to a
run that is stopped, in ``tests/test_states.py``.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from benchmarks.campaign import Campaign, write_campaign
from tests.jobs import outputs
from tests.programs.hostile import write_hostile_samples
from tests.running import RunningCommand, has_hosts

NAMES = ("images.npy", "masks-m.npy", "metadata.pickle")
MASK = ("--mask", "m", "^48", "--")
EXIT_CODES = {
    signal.SIGINT: 130,
    signal.SIGTERM: 143,
    signal.SIGHUP: 129,
    signal.SIGUSR1: 138,
}
ATTEMPTS = 40


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
        left = set(os.listdir(folder)) - {".out.state", *(f"out-{name}" for name in NAMES)}
        assert left <= (set() if finished else {".out.partial"}), f"left in {folder}: {left}"


def send_storms(testbed: Testbed, rng: random.Random, counts: Counter[str]) -> None:
    """Send signals without a pause, from any moment until the process is gone."""
    # None that is ignored here, as in a job in the background.
    heeded = [number for number in EXIT_CODES if signal.getsignal(number) != signal.SIG_IGN]
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


def kill_workers(testbed: Testbed, rng: random.Random, counts: Counter[str]) -> None:
    """Kill workers at any moment: others do their work.

    Between two kills some work gets done, or the command would rightly give up.
    """
    with testbed.round() as folder:
        command = RunningCommand(folder, *MASK, testbed.campaign)
        while command.is_running():
            command.wait_for_shards(rng.randrange(1, 6))
            workers = [pid for pid in command.states() if pid != command.process.pid]
            if workers and command.is_running():
                sent = rng.choice([signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
                try:
                    os.kill(rng.choice(workers), sent)
                except ProcessLookupError:
                    continue
                counts[f"worker: {sent.name}"] += 1
        assert command.wait() == 0, command.stderr
        testbed.check(folder, finished=True)


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
            counts["run refused alongside another one"] += 1
            assert command.process.returncode == 1, command.stderr
            *waiting, refused = command.stderr.splitlines()
            assert "at work on this prefix" in refused
            # For a sign of life of one on another host.
            assert all("waiting up to " in line for line in waiting), command.stderr
        assert outputs(folder) in [testbed.expected_of(*flags) for flags in winners]
        assert len(os.listdir(folder)) == 1 + len(NAMES), f"left: {os.listdir(folder)}"
        counts["run that won against others"] += len(winners)


Round = Callable[[Testbed, random.Random, Counter[str]], None]

ROUNDS: dict[Round, int] = {
    send_storms: 25,
    kill_workers: 25,
    damage_files: 6,
    read_hostile_samples: 1,
    start_at_once: 200,
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
