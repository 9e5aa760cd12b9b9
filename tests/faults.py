"""Do to the real command what happens to long jobs, many times: ``make faults``.

Each round ends with the same questions: are the outputs absent, or those of an undisturbed run, to
the byte? Is no process left, and no file but the documented ones? `test_faults.py` runs a
few rounds of each kind.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil

from benchmarks.campaign import Campaign, write_campaign

NAMES = ("images.npy", "masks-m.npy", "metadata.pickle")
FLAGS = ("--images", "--metadata", "--image-size", "64", "48", "--workers", "2")
MASK = ("--mask", "m", "^48", "--")
SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129, signal.SIGUSR1: 138}
TRIES = 40
ROOT = Path(__file__).parents[1]


class Ground:
    """A campaign, its undisturbed outputs, and a folder for each round."""

    def __init__(self, folder: Path, samples: int = 200) -> None:
        self.folder = folder
        self.campaign = folder / "campaign"
        made = Campaign(samples, distinct=12, photographs=4, size=(480, 360), instances=5)
        write_campaign(self.campaign, made)
        (folder / "whole").mkdir()
        assert Command(folder / "whole", *MASK, self.campaign).wait() == 0
        self.whole = outputs(folder / "whole")
        assert tuple(self.whole) == NAMES

    @contextmanager
    def round(self) -> Iterator[Path]:
        place = Path(tempfile.mkdtemp(dir=self.folder))
        yield place
        shutil.rmtree(place)

    def check(self, place: Path, finished: bool) -> None:
        """Ask the questions that are the same after every round."""
        found = outputs(place)
        assert all(found[name] == self.whole[name] for name in found), f"other bytes in {place}"
        if finished:
            assert tuple(found) == NAMES, f"missing outputs in {place}"
        left = set(os.listdir(place)) - {f"out-{name}" for name in NAMES}
        assert left <= (set() if finished else {".out.partial"}), f"left in {place}: {left}"


class Command:
    """The real command, under way; its processes are known by a mark in their environment."""

    def __init__(self, place: Path, *arguments: object, crash_on: str = "") -> None:
        program = ["tests.crashing", crash_on] if crash_on else ["limbo_compress"]
        self.mark = uuid.uuid4().hex
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", *program, "--prefix", "out", *FLAGS),
                *map(str, arguments),
            ],
            cwd=place,
            env=os.environ | {"PYTHONPATH": str(ROOT), "FAULT_MARK": self.mark},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.said = ""

    def wait(self, seconds: float = 60) -> int:
        """Wait for the end, which leaves no process, and no traceback on stderr."""
        _, self.said = self.process.communicate(timeout=seconds)
        deadline = time.monotonic() + 5
        while self.processes():
            assert time.monotonic() < deadline, f"processes are left: {self.processes()}"
            time.sleep(0.02)
        assert "Traceback" not in self.said, self.said
        return self.process.returncode

    def processes(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("FAULT_MARK") == self.mark:
                    found.append(process)
            except psutil.Error:
                continue
        return found


def outputs(place: Path) -> dict[str, bytes]:
    paths = sorted(place.glob("out-*"))
    return {path.name.removeprefix("out-"): path.read_bytes() for path in paths}


def kill_coordinator(ground: Ground, rng: random.Random, counts: Counter[str]) -> None:
    """Any signal at any moment, again and again, until a run comes through."""
    with ground.round() as place:
        for number in range(TRIES):
            command = Command(place, *MASK, ground.campaign)
            sent = rng.choice([*SIGNALS, signal.SIGKILL, signal.SIGKILL])
            # While Python itself starts, Ctrl-C is Python's to answer.
            time.sleep(rng.uniform(0 if sent == signal.SIGKILL else 0.3, 2))
            if number == TRIES - 1:
                command.wait()
            command.process.send_signal(sent)
            asked = time.monotonic()
            code = command.wait()
            assert time.monotonic() - asked < 10, "it took too long to end"
            if code == 0:
                break
            # Before the handlers are there, a signal ends Python in its own way.
            assert code in (-sent, SIGNALS.get(sent)), f"{sent!r} gave {code}: {command.said}"
            counts[f"coordinator: {sent.name}"] += 1
            ground.check(place, finished=False)
        assert code == 0, "no run came through"
        ground.check(place, finished=True)


def kill_workers(ground: Ground, rng: random.Random, counts: Counter[str]) -> None:
    """Workers, or the process that forks them, die at any moment; the run goes on."""
    with ground.round() as place:
        command = Command(place, *MASK, ground.campaign)
        done: set[str] = set()
        while command.process.poll() is None:
            # Deaths are survived as long as there is some progress between them.
            if done >= (done := _parts(place)):
                time.sleep(0.01)
                continue
            time.sleep(rng.uniform(0, 0.3))
            others = [p for p in command.processes() if p.pid != command.process.pid]
            if others and command.process.poll() is None:
                sent = rng.choice([signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
                try:
                    rng.choice(others).send_signal(sent)
                except psutil.NoSuchProcess:
                    continue
                counts[f"worker: {sent.name}"] += 1
        assert command.wait() == 0, command.said
        ground.check(place, finished=True)


def _parts(place: Path) -> set[str]:
    return {path.name for path in place.glob(".out.partial/*.part")}


def crash_on_samples(ground: Ground, rng: random.Random, counts: Counter[str]) -> None:
    """Some samples kill every process that decodes them: they are named, the rest is there."""
    with ground.round() as place:
        text = f"{rng.randrange(10)}{rng.randrange(10)}.json"
        bad = [n for n, p in enumerate(sorted(ground.campaign.rglob("*.json"))) if text in str(p)]
        flags = ("--on-error", "skip", ground.campaign)
        command = Command(place, *flags, crash_on=text)
        assert command.wait() == 0, command.said
        lines = (place / "out-failures.jsonl").read_text().splitlines()
        assert [json.loads(line)["row"] for line in lines] == bad
        assert all("SIGSEGV" in line for line in lines)
        assert len(np.load(place / "out-images.npy")) == 200 - len(bad)
        counts["sample that kills"] += len(bad)


def damage_files(ground: Ground, rng: random.Random, counts: Counter[str]) -> None:
    """Truncate and flip: every sample is a row or a named failure, and rows match metadata."""
    with ground.round() as place:
        data = place / "data"
        shutil.copytree(ground.campaign, data)
        for path in sorted(data.rglob("*.*")):
            if not path.is_file() or rng.random() < 0.3:
                continue
            content = bytearray(path.read_bytes())
            if rng.random() < 0.3:
                del content[rng.randrange(len(content)) :]
            for _ in range(rng.choice([1, 1, 10])):
                if content:
                    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
            path.write_bytes(content)
            counts[f"damaged {path.suffix}"] += 1
        command = _skip(place, data)
        assert command.wait(120) == 0, command.said
        _check_rows(place, len(list(data.rglob("*.json"))))


def _skip(place: Path, data: Path) -> Command:
    return Command(place, "--on-error", "skip", *MASK, data)


def _check_rows(place: Path, samples: int) -> int:
    """Rows of all outputs match, and with the failures, each of which is named, are all samples."""
    lines = (place / "out-failures.jsonl").read_text().splitlines()
    rows = len(np.load(place / "out-images.npy"))
    assert rows == len(np.load(place / "out-masks-m.npy"))
    assert rows == len(np.load(place / "out-metadata.pickle", allow_pickle=True))
    assert rows + len(lines) == samples
    for line in lines:
        assert "unexpected" not in json.loads(line)["reason"], line
    assert os.listdir(place).count(".out.partial") == 0
    return len(lines)


def hostile_tree(ground: Ground, rng: random.Random, counts: Counter[str]) -> None:
    """A thousand samples made to do harm, among good ones."""
    makers: list[Callable[[Path], object]] = [
        lambda path: os.mkfifo(path),
        lambda path: path.symlink_to("/dev/zero") if path.stem == "1" else path.touch(),
        lambda path: path.symlink_to(path),
        lambda path: path.symlink_to(f"/nowhere/{path.name}"),
        _bind,
        lambda path: path.write_text(""),
        lambda path: path.write_text("[" * 100_000),
        lambda path: path.write_text('{"a":' * 990 + "1" + "}" * 990),
        lambda path: path.write_text('{"image": ' + "9" * 5000 + "}"),
        lambda path: path.write_bytes(bytes(rng.randrange(256) for _ in range(300))),
        lambda path: path.write_text('{"image": {"filename": "../../../etc/passwd"}}'),
        lambda path: path.write_text('{"image": {"filename": "/etc/passwd"}}'),
        lambda path: path.write_text('{"image": {"filename": ".."}}'),
        lambda path: path.write_text('{"image": {"filename": "pipe"}}'),
        lambda path: path.write_text('{"image": {"filename": "folder"}}'),
        lambda path: path.write_text('{"image": {"filename": "bomb.png"}}'),
        lambda path: path.write_text('{"image": {"filename": "\\u0000"}}'),
        lambda path: path.write_text('{"image": {"filename": "\\ud800"}}'),
        lambda path: path.write_text('{"image": {"filename": 7}}'),
        lambda path: path.write_text('{"image": {"filename": "sparse"}}'),
    ]
    with ground.round() as place:
        data = place / "data"
        data.mkdir()
        os.mkfifo(data / "pipe")
        (data / "folder").mkdir()
        (data / "bomb.png").write_bytes(
            b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\x7f\xff\xff\xff\x7f\xff\xff\xff\x08\x02\0\0\0"
        )
        with open(data / "sparse", "wb") as stream:
            stream.truncate(1 << 42)
        here = os.getcwd()
        os.chdir(place)  # a socket's path is short
        for number in range(1000):
            makers[number % len(makers)](data / f"{number}.json")
        os.chdir(here)
        (data / "loop").symlink_to(data)
        shutil.copytree(ground.campaign, data / "good")
        command = _skip(place, data)
        assert command.wait(120) == 0, command.said
        assert _check_rows(place, 1200) == 1000
        counts["hostile sample"] += 1000


def fill_disk(ground: Ground, rng: random.Random, counts: Counter[str]) -> None:
    """A disk that is full before, and one that fills meanwhile; with space, it goes on."""
    with ground.round() as place, _small_disk(place) as disk:
        if disk is None:
            counts["full disk: NOT DONE, mounting is not possible here"] += 1
            return
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(92 << 20))
        command = Command(disk, *MASK, ground.campaign)
        assert command.wait() == 1
        assert "bytes needed" in command.said
        assert command.said.count("\n") == 1
        assert os.listdir(disk) == ["ballast"]
        counts["disk full before"] += 1
        ballast.unlink()
        # The arrays fit and are reserved; after them there is space for some metadata only.
        arrays = sum(len(ground.whole[name]) for name in NAMES[:2])
        ballast.write_bytes(
            bytes(shutil.disk_usage(disk).free - arrays - rng.randrange(300_000, 900_000))
        )
        command = Command(disk, *MASK, ground.campaign)
        assert command.wait() == 1, command.said
        assert "No space left on device" in command.said
        assert command.said.count("\n") == 1, command.said
        assert outputs(disk) == {}
        counts["disk full meanwhile"] += 1
        ballast.unlink()
        # Both workers may have filled it at once, with none of them done.
        done = any(disk.glob(".*.partial/*.part"))
        command = Command(disk, *MASK, ground.campaign)
        assert command.wait() == 0, command.said
        assert ("were already done" in command.said) == done
        ground.check(disk, finished=True)


def _bind(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(path))


@contextmanager
def _small_disk(place: Path) -> Iterator[Path | None]:
    disk = place / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        yield None
        return
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


KINDS: dict[Callable[[Ground, random.Random, Counter[str]], None], int] = {
    kill_coordinator: 25,
    kill_workers: 25,
    crash_on_samples: 4,
    damage_files: 6,
    hostile_tree: 1,
    fill_disk: 2,
}


def main(seed: int) -> None:
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        ground = Ground(Path(folder))
        for kind, rounds in KINDS.items():
            for number in range(rounds):
                kind(ground, random.Random(f"{seed} {kind.__name__} {number}"), counts)
                print(f"{kind.__name__}: {number + 1} of {rounds} rounds", flush=True)
    print(f"{sum(KINDS.values())} rounds survived; faults injected:")
    for fault, count in sorted(counts.items()):
        print(f"  {count:6} {fault}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
