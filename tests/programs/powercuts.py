"""Cut the power under the real command, and fill the disk under its writes: ``make powercuts``.

A filesystem is in an image file. A copy of that file is what a power cut at that moment leaves on
the disk: what was not synced is lost. Before each change of a file (see `moments`) and in between,
a clone is taken if the disk has changed, while the job runs or is stopped. As a kernel may at any
time, some rounds also sync single files early. Some clones are then mounted. At the final names
may be outputs of one job only, whole. The plain command, as after a reboot, must exit with 0 and
give the right bytes, keep the finished work that earlier clones had on the disk, and, if the power
is cut again right away, its outputs must be there.

Where a disk fills during writeback, the kernel has taken writes that never reach the disk. The
command that later exits with 0 must have left the right bytes there.

``--filesystem ext4 --scenario resumed --round 1 --keep build/cuts`` does one round again, and keeps
the images of what failed.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import random
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.jobs import ROOT, outputs
from tests.programs.faults import MASK, Testbed
from tests.programs.filesystems import SkippedError, fill, mounted, run, sparse_file, unmount
from tests.running import FLAGS, MAX_SECONDS, Running

SAMPLES = 96
OLDER = ("--start", 0, "--end", 40)
ROUNDS = 3
# How many cuts of the first, second and last third of a job are examined.
CUTS_OF_THIRDS = (3, 1, 2)
FULL_ROUNDS = 10
TICK_SECONDS = 0.1
MOMENTS = Path(__file__).parent / "moments"
HOUR = 3600 * 10**9
FICLONE = 0x40049409
BOOT_ID = "/proc/sys/kernel/random/boot_id"
# After a reboot: what tells a boot from another is new.
REBOOTED = ("unshare", "--mount", "sh", "-c", f'mount --bind "$0" {BOOT_ID} && exec "$@"')


@dataclass(frozen=True)
class Kind:
    """A filesystem: how it is made, and the size of its image."""

    make: tuple[str, ...]
    megabytes: int


KINDS = {
    "ext4": Kind(("mkfs.ext4", "-q"), 64),
    "xfs": Kind(("mkfs.xfs", "-q"), 320),
    "btrfs": Kind(("mkfs.btrfs", "-q"), 128),
}


@dataclass(frozen=True)
class Scenario:
    """What is on the disk before the job whose power is cut, and how that job runs."""

    has_older: bool = False
    is_resumed: bool = False
    has_partitions: bool = False
    is_linked: bool = False

    @property
    def disks(self) -> int:
        return 2 if self.is_linked else 1


SCENARIOS = {
    "plain": Scenario(),
    "over older": Scenario(has_older=True),
    "resumed": Scenario(is_resumed=True),
    "resumed over older": Scenario(has_older=True, is_resumed=True),
    "partitions": Scenario(has_partitions=True),
    "two disks": Scenario(has_older=True, is_linked=True),
}
EXIT = "exit 0, then cut"
# How rows are written, and whether the job is killed once the disk is full.
FULL = {
    "filled, mmap": ("mmap", False),
    "filled, pwrite": ("pwrite", False),
    "filled and killed, mmap": ("mmap", True),
    "filled and killed, pwrite": ("pwrite", True),
}
MAX_RUNS = 5
HOST_BYTES = 16 << 30


@dataclass(frozen=True)
class Cut:
    """The disks as a power cut left them."""

    images: tuple[Path, ...]
    moment: str


class Results:
    """What held and what failed, by filesystem and scenario."""

    def __init__(self) -> None:
        self.held: dict[tuple[str, str], int] = defaultdict(int)
        self.failed: dict[tuple[str, str], list[str]] = defaultdict(list)

    def add(self, kind: str, scenario: str, problem: str) -> None:
        if problem:
            self.failed[kind, scenario].append(problem)
            print(f"FAILED: {problem}", flush=True)
        else:
            self.held[kind, scenario] += 1

    def table(self) -> str:
        keys = sorted({*self.held, *self.failed})
        lines = [
            "| filesystem | scenario | tried | held | failed |",
            "| --- | --- | --- | --- | --- |",
        ]
        for key in keys:
            held, failed = self.held[key], len(self.failed[key])
            lines.append(f"| {key[0]} | {key[1]} | {held + failed} | {held} | {failed} |")
        return "\n".join(lines)


class Bed:
    """The samples, the outputs that are right, and a filesystem that clones files at once."""

    def __init__(self, folder: Path, host: Path, keep: Path | None) -> None:
        self.folder = folder
        self.host = host
        self.keep = keep
        self.testbed = Testbed(folder / "testbed", SAMPLES)
        self.new = self.testbed.expected
        self.old = self.testbed.expected_of(*OLDER)
        self.points = tuple(folder / f"disk{number}" for number in range(2))
        for point in self.points:
            point.mkdir()
        self.socket = str(folder / "socket")
        self.boot = folder / "boot"
        job = self.start()
        self.moments = sum(map(bool, job.moments()))
        assert job.wait() == 0, job.stderr
        for path in self.points[0].iterdir():
            path.unlink()

    def make(self, kind: Kind, number: int) -> Path:
        """A new filesystem; made only once, and then cloned."""
        pristine = self.host / f"{kind.make[0]}-{number}"
        if not pristine.exists():
            run(*kind.make, sparse_file(pristine, kind.megabytes << 20))
        return self.clone(pristine)

    def clone(self, image: Path) -> Path:
        """Copy an image as it is at this instant."""
        copy = self.host / uuid.uuid4().hex
        with open(image, "rb") as source, open(copy, "wb") as target:
            fcntl.ioctl(target, FICLONE, source.fileno())
        return copy

    @contextmanager
    def mounted(self, images: Sequence[Path]) -> Iterator[None]:
        """Mount images where the job expects its disks."""
        points = []
        try:
            for image, point in zip(images, self.points, strict=False):
                run("mount", "-o", "loop", image, point)
                points.append(point)
            yield
        finally:
            for point in points:
                unmount(point)

    def command(self, *arguments: object) -> list[str]:
        command = (sys.executable, "-m", "limbo_compress", "--prefix", "out", *FLAGS)
        return [*map(str, (*command, *arguments, *MASK, self.testbed.campaign))]

    def start(self, *arguments: object, is_rebooted: bool = False) -> Job:
        self.boot.write_text(f"{uuid.uuid4()}\n")
        before = [*REBOOTED, str(self.boot)] if is_rebooted else []
        return Job([*before, *self.command(*arguments)], self.points[0], self.socket)

    def let_an_hour_pass(self) -> None:
        """Make all files an hour older: a lock that was touched a moment ago may be another's."""
        for point in self.points:
            for path in (point, *point.rglob("*")):
                state = path.lstat()
                times = (state.st_atime_ns - HOUR, state.st_mtime_ns - HOUR)
                os.utime(path, ns=times, follow_symlinks=False)


class Job(Running):
    """The real command, and a socket on which it reports each moment and waits for an answer."""

    def __init__(self, command: list[str], folder: Path, path: str) -> None:
        self.listener = socket.socket(socket.AF_UNIX)
        with suppress(FileNotFoundError):
            os.unlink(path)
        self.listener.bind(path)
        self.listener.listen(64)
        moments = {"MOMENTS_FOLDER": str(folder.parent / "disk"), "MOMENTS_SOCKET": path}
        super().__init__(folder, command, moments | {"PYTHONPATH": f"{MOMENTS}:{ROOT}"})

    def moments(self) -> Iterator[str]:
        """Each moment, at which the process that comes to it waits; "" from time to time."""
        ended, listener = os.pidfd_open(self.process.pid), self.listener.fileno()
        try:
            deadline = time.monotonic() + MAX_SECONDS
            while time.monotonic() < deadline:
                ready, _, _ = select.select([listener, ended], [], [], TICK_SECONDS)
                if listener in ready:
                    connection, _ = self.listener.accept()
                    with connection, suppress(OSError):
                        yield connection.recv(4096).decode("utf-8", "replace")
                elif ready:
                    return
                else:
                    yield ""
            self.send(signal.SIGKILL)
            raise AssertionError(f"no end after {MAX_SECONDS} seconds")
        finally:
            os.close(ended)

    def wait(self) -> int:
        """Answer at once to whatever still reports, and wait for the end of all processes."""
        for _ in self.moments():
            pass
        self.listener.close()
        return super().wait()

    def kill(self) -> None:
        self.send(signal.SIGKILL)
        self.wait()

    @contextmanager
    def stopped(self, is_stopped: bool) -> Iterator[None]:
        if is_stopped:
            self.send(signal.SIGSTOP)
        try:
            yield
        finally:
            if is_stopped:
                self.send(signal.SIGCONT)


class Camera:
    """Clones the disks of a running job whenever something was written to them."""

    def __init__(self, bed: Bed, images: Sequence[Path], rng: random.Random, syncs: float) -> None:
        self.bed = bed
        self.images = images
        self.points = bed.points[: len(images)]
        self.rng = rng
        self.syncs = syncs
        self.devices = [_device_of(point) for point in self.points]
        self.seen: list[str] = []
        self.cuts: list[Cut] = []
        self.number = 0

    def shoot(self, job: Job, moment: str) -> None:
        """Clone the disks, if they have changed; stop the job for it, at every second moment."""
        self.number += 1
        if moment and self.rng.random() < self.syncs:
            self._sync_something()
        with job.stopped(self.number % 2 == 0 or len(self.images) > 1):
            found = [_writes(device) for device in self.devices]
            if found != self.seen:
                self.seen = found
                images = tuple(map(self.bed.clone, self.images))
                self.cuts.append(Cut(images, f"{self.number}, before {moment or 'a tick'}"))

    def _sync_something(self) -> None:
        """Sync a file or a folder, as the kernel may at any time."""
        point = self.rng.choice(self.points)
        path = self.rng.choice([point, *sorted(point.rglob("*"))])
        with suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _device_of(point: Path) -> str:
    return os.path.basename(run("findmnt", "--noheadings", "--output", "SOURCE", point).strip())


def _writes(device: str) -> str:
    """What changes with each write to a device."""
    fields = Path(f"/sys/block/{device}/stat").read_text().split()
    return " ".join((*fields[4:7:2], fields[8], *fields[11:12]))


def record(
    bed: Bed,
    kind: Kind,
    scenario: Scenario,
    rng: random.Random,
    flags: Sequence[object],
    syncs: float,
) -> list[Cut]:
    """Run a job, and return the disks at its moments; the last one is right after its end."""
    images = [bed.make(kind, number) for number in range(scenario.disks)]
    with bed.mounted(images):
        if scenario.is_linked:
            (bed.points[0] / "out-images.npy").symlink_to(bed.points[1] / "images.npy")
        if scenario.has_older:
            job = bed.start(*OLDER)
            assert job.wait() == 0, job.stderr
        if scenario.is_resumed:
            _kill_halfway(bed, flags, rng)
        run("sync", "--file-system", *bed.points[: scenario.disks])
        camera = Camera(bed, images, rng, syncs)
        shares = [("--partition", "0/2"), ("--partition", "1/2")]
        for share in (*(shares if scenario.has_partitions else ()), ()):
            job = bed.start(*flags, *share)
            for moment in job.moments():
                camera.shoot(job, moment)
            camera.seen.clear()
            camera.shoot(job, "anything after the end")
            assert job.wait() == 0, job.stderr
        assert outputs(bed.points[0]) == bed.new, "wrong outputs without a cut"
    for image in images:
        image.unlink()
    return camera.cuts


def _kill_halfway(bed: Bed, flags: Sequence[object], rng: random.Random) -> None:
    """Kill a job of which about a half is done."""
    job, last = bed.start(*flags), bed.moments * rng.uniform(0.4, 0.8)
    for number, _ in enumerate(filter(None, job.moments())):
        if number > last:
            job.kill()
            return
    raise AssertionError(f"it ended before it was killed: {job.stderr}")


def choose(cuts: list[Cut], rng: random.Random) -> list[Cut]:
    """Choose the first and the last cut, and some of each third, in which a job starts and ends."""
    first, *others, last = cuts
    third = -(-len(others) // 3)
    chosen = []
    for number, wanted in enumerate(CUTS_OF_THIRDS):
        cuts = others[number * third : (number + 1) * third]
        chosen += rng.sample(cuts, min(wanted, len(cuts)))
    return [first, *sorted(chosen, key=others.index), last]


class Examiner:
    """Looks at what cuts of one job left, in their order, and runs the plain command on it."""

    def __init__(self, bed: Bed, scenario: Scenario, flags: Sequence[object]) -> None:
        self.bed = bed
        self.flags = flags
        self.old = bed.old if scenario.has_older else {}
        self.resumed = 0
        self.cut_again: Cut | None = None

    def examine(self, cut: Cut) -> str:
        """Return what is wrong with what a cut left."""
        with self.bed.mounted(cut.images):
            before = self._found()
            if problem := self._judge(before):
                return problem
            self.bed.let_an_hour_pass()
            job = self.bed.start(*self.flags, is_rebooted=True)
            code = job.wait()
            again = tuple(map(self.bed.clone, cut.images))
            self.cut_again = Cut(again, f"{cut.moment}, then at the end of the plain command")
            if code:
                return f"the plain command: exit {code}: {job.stderr.strip().splitlines()[-1:]}"
            found = self._found()
            left = [path.name for point in self.bed.points for path in point.glob(".*")]
        if problem := self._judge(found) or self._missing(found):
            return f"after the plain command: {problem}"
        if left:
            return f"after the plain command: left behind: {', '.join(left)}"
        return self._judge_resumed(before, job.stderr)

    def examine_end(self, cut: Cut) -> str:
        """Return what is wrong right after exit 0, when all new outputs must be there."""
        with self.bed.mounted(cut.images):
            found = self._found()
        problem = self._judge(found) or self._missing(found)
        return problem and f"right after exit 0: {problem}"

    def _found(self) -> dict[str, bytes]:
        paths = sorted(self.bed.points[0].glob("out-*"))
        return {p.name.removeprefix("out-"): p.read_bytes() for p in paths if p.exists()}

    def _missing(self, found: dict[str, bytes]) -> str:
        if found == self.bed.new:
            return ""
        if found and all(self.old.get(name) == content for name, content in found.items()):
            return f"the older outputs are there: {', '.join(found)}"
        return f"only these outputs are there: {', '.join(found) or 'none'}"

    def _judge(self, found: dict[str, bytes]) -> str:
        """Say what is neither new nor old, or a mixture of both."""
        ages: dict[str, list[str]] = {"new": [], "old": []}
        for name, content in found.items():
            if content == self.bed.new.get(name):
                ages["new"].append(name)
            elif content == self.old.get(name):
                ages["old"].append(name)
            else:
                zeros = content.count(0)
                return f"{name} is of no job: {len(content):,} bytes, {zeros:,} of them zeros"
        if all(ages.values()):
            return f"mixed: {', '.join(ages['new'])} are new, {', '.join(ages['old'])} are old"
        return ""

    def _judge_resumed(self, before: dict[str, bytes], stderr: str) -> str:
        """Say what work the plain command did again, though it was done and on the disk."""
        if before == self.bed.new or "publication of an earlier run was complete" in stderr:
            return ""
        match = re.search(r"resuming: (\d+) of", stderr)
        resumed = int(match[1]) if match else 0
        if resumed < self.resumed:
            return f"finished work is lost: {resumed} of {self.resumed} samples were resumed"
        self.resumed = resumed
        are_older_gone = self.old and before != self.old and "it is taken back" not in stderr
        if are_older_gone and resumed < SAMPLES:
            return f"older outputs are gone, and only {resumed} of {SAMPLES} samples are done"
        return ""


def cut_power(
    bed: Bed, kind: str, scenario: str, number: int, rng: random.Random, results: Results
) -> None:
    """Do a round of a scenario: record a job, and examine some of its cuts."""
    flags = ("--write-rows", ("mmap", "pwrite")[number % 2])
    try:
        cuts = record(bed, KINDS[kind], SCENARIOS[scenario], rng, flags, (0.3, 0)[number // 2 % 2])
    except (SkippedError, AssertionError) as error:
        results.add(kind, scenario, f"{kind}, {scenario}, round {number}: {error}")
        return
    examiner = Examiner(bed, SCENARIOS[scenario], flags)
    *chosen, last = choose(cuts, rng)
    where = f"{kind}, {scenario}, round {number}"
    for cut in chosen:
        results.add(kind, scenario, _examine(bed, cut, examiner.examine, where))
        if examiner.cut_again:
            again, examiner.cut_again = examiner.cut_again, None
            results.add(kind, EXIT, _examine(bed, again, examiner.examine_end, where))
            _remove([again])
    results.add(kind, EXIT, _examine(bed, last, examiner.examine_end, where))
    _remove(cuts)


def _remove(cuts: Sequence[Cut]) -> None:
    for cut in cuts:
        for image in cut.images:
            image.unlink()


def _examine(bed: Bed, cut: Cut, examine: Callable[[Cut], str], where: str) -> str:
    """Examine a cut, and keep its images if it failed."""
    kept = tuple(map(bed.clone, cut.images)) if bed.keep else ()
    try:
        problem = examine(cut)
    except (SkippedError, AssertionError) as error:  # it cannot be mounted, or never ends
        problem = str(error)
    for number, image in enumerate(kept):
        if problem and bed.keep:
            bed.keep.mkdir(parents=True, exist_ok=True)
            name = f"{where}, moment {cut.moment}, disk {number}".replace("/", " ")
            run("cp", "--sparse=always", image, bed.keep / name)
        image.unlink()
    return problem and f"{where}, moment {cut.moment}: {problem}"


def fill_up(bed: Bed, kind: str, rng: random.Random, write_rows: str, is_killed: bool) -> str:
    """Fill a thinly provisioned disk in the writeback of a job, then give space and run again.

    Returns what is wrong with what is on the disk once the command has exited with 0.
    """
    flags = ("--write-rows", write_rows)
    size = f"size={KINDS[kind].megabytes + 16}m"
    place = Path(tempfile.mkdtemp(dir=bed.folder))
    with mounted(place / "thin", "mount", "-t", "tmpfs", "-o", size, "tmpfs") as thin:
        image, ballast = _make_thin(KINDS[kind], thin), thin / "ballast"
        with bed.mounted([image]):
            run("fstrim", bed.points[0])  # what is free has no space yet
            code = _run_on_thin_disk(bed, flags, ballast, rng, is_killed)
            ballast.unlink()
            with suppress(OSError):  # it fell back to reading only
                code = code and _run_again(bed, flags)
        with bed.mounted([image]):
            code = code and _run_again(bed, flags)
        with bed.mounted([image]):
            return f"exit {code}" if code else _wrong(outputs(bed.points[0]), bed.new)


def _run_again(bed: Bed, flags: Sequence[object]) -> int:
    """Run a job again, which may fail while it finds out what was lost."""
    for _ in range(MAX_RUNS):
        bed.let_an_hour_pass()
        job = bed.start(*flags)
        code = job.wait()
        if code == 0:
            break
    return code


def _make_thin(kind: Kind, folder: Path) -> Path:
    """Make a filesystem of which all has its space."""
    image = sparse_file(folder / "image", kind.megabytes << 20)
    run(*kind.make, image)
    with open(image, "r+b") as stream:
        os.posix_fallocate(stream.fileno(), 0, kind.megabytes << 20)
    return image


def _run_on_thin_disk(
    bed: Bed, flags: Sequence[object], ballast: Path, rng: random.Random, is_killed: bool
) -> int:
    """Run a job, leave its disk no more space, and maybe kill it some shards later."""
    full, last = (bed.moments * rng.uniform(*span) for span in ((0.1, 0.4), (0.6, 0.8)))
    job = bed.start(*flags)
    for number, _ in enumerate(filter(None, job.moments())):
        if number > full and not ballast.exists():
            for _ in range(2):  # what the filesystem itself needs is then on the disk
                run("sync", "--file-system", bed.points[0])
            fill(ballast)
        if number > last and is_killed:
            job.send(signal.SIGKILL)
            break
    code = job.wait()
    if is_killed:
        with suppress(SkippedError):  # it fails
            run("sync", "--file-system", bed.points[0])
    return code


def _wrong(found: dict[str, bytes], expected: dict[str, bytes]) -> str:
    """Say how outputs differ from what they should be."""
    for name, content in expected.items():
        if name not in found:
            return f"exit 0, but {name} is missing"
        if found[name] != content:
            pairs = zip(found[name], content, strict=False)
            wrong = sum(a != b for a, b in pairs)
            zeros = found[name].count(0) - content.count(0)
            return f"exit 0, but in {name} {wrong:,} bytes are wrong ({zeros:,} more zeros)"
    return ""


@contextmanager
def cloning_filesystem(folder: Path) -> Iterator[Path]:
    """Mount a filesystem that clones a file in an instant, so that no write is in between."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else folder) as place:
        image = sparse_file(Path(place, "image"), HOST_BYTES)
        run("mkfs.xfs", "-q", "-m", "reflink=1", image)
        with mounted(folder / "host", "mount", "-o", "loop", image) as host:
            yield host


def main() -> None:
    chosen = _parse_arguments()
    if os.geteuid():
        sys.exit("power cuts: NOT DONE, because only root may mount filesystems")
    begun = time.monotonic()
    if len(chosen.filesystem) > 1:
        with ThreadPoolExecutor() as pool:
            codes = list(pool.map(_try_alone, chosen.filesystem))
        print(f"{sum(map(bool, codes))} of {len(codes)} filesystems failed", end="")
    else:
        (kind,) = chosen.filesystem
        codes = [_try_everything(kind, chosen)]
    print(f", {time.monotonic() - begun:.0f} s")
    sys.exit(any(codes))


def _try_alone(kind: str) -> int:
    """Try a filesystem in a process whose mounts no other process sees, and so keeps alive."""
    program = (sys.executable, "-m", "tests.programs.powercuts")
    command = (*program, *sys.argv[1:], "--filesystem", kind)
    done = subprocess.run(
        ["unshare", "--mount", *command], stdout=subprocess.PIPE, text=True, check=False
    )
    print(done.stdout, end="", flush=True)
    return done.returncode


def _try_everything(kind: str, chosen: argparse.Namespace) -> int:
    """Do all rounds on a filesystem; return how many failed."""
    results = Results()
    try:
        with tempfile.TemporaryDirectory() as folder, cloning_filesystem(Path(folder)) as host:
            bed = Bed(Path(folder), host, chosen.keep)
            for scenario in chosen.scenario:
                _do_rounds(bed, kind, scenario, chosen, results)
    except SkippedError as reason:
        print(f"{kind}: NOT DONE, because {reason}", end="")
        return 1
    print(results.table())
    failed = sum(map(len, results.failed.values()))
    print(f"{kind}: {failed} failed", end="")
    return failed


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.programs.powercuts")
    every = [*SCENARIOS, *FULL]
    parser.add_argument("--filesystem", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--scenario", nargs="+", choices=every, default=every)
    parser.add_argument("--round", nargs="+", type=int, help="only these rounds, from 0")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="keep the images of what failed in this folder")
    return parser.parse_args()


def _do_rounds(
    bed: Bed, kind: str, scenario: str, chosen: argparse.Namespace, results: Results
) -> None:
    rounds = range(FULL_ROUNDS if scenario in FULL else ROUNDS)
    for number in chosen.round or rounds:
        rng = random.Random(f"{chosen.seed} {kind} {scenario} {number}")
        if scenario in SCENARIOS:
            cut_power(bed, kind, scenario, number, rng, results)
            continue
        try:
            problem = fill_up(bed, kind, rng, *FULL[scenario])
        except (SkippedError, AssertionError) as error:
            problem = str(error)
        where = f"{kind}, {scenario}, round {number}"
        results.add(kind, scenario, problem and f"{where}: {problem}")


if __name__ == "__main__":
    main()
