"""Run the real command on real filesystems, from image files: ``make filesystems``.

On each, a run is killed and resumed, a second run is refused, and the disk fills up under a run
that is then resumed. The outputs must be those of the local disk, to the byte. What cannot be
mounted here, for lack of privileges, of a driver or of a tool, is skipped, and a line says why.
"""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path

from tests import jobs
from tests.jobs import outputs, wait_until
from tests.programs.faults import MASK, Testbed
from tests.running import RunningCommand

Mount = Callable[[Path], AbstractContextManager[Path]]

SAMPLES = 80
CHUNKS = (1 << 20, 1 << 12, 1)


class SkippedError(Exception):
    """A filesystem that cannot be tried here, and why."""


def run(*command: object) -> str:
    """Run a tool of the system; skip the filesystem if the tool is missing or fails."""
    try:
        done = jobs.run(*command)
    except FileNotFoundError:
        raise SkippedError(f"{command[0]} is not installed") from None
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["it failed"]
        raise SkippedError(f"{command[0]}: {lines[0]}")
    return done.stdout


@contextmanager
def mounted(point: Path, *command: object) -> Iterator[Path]:
    """Mount something on a new folder."""
    point.mkdir()
    run(*command, point)
    try:
        yield point
    finally:
        unmount(point)


def unmount(point: Path) -> None:
    """Unmount, as soon as nothing is open: a loop device is, for a moment after its end."""
    wait_until(lambda: jobs.run("umount", point).returncode == 0, f"{point} to be unmounted")


def sparse_file(path: Path, size: int) -> Path:
    """Make a file of zeros that takes no space yet."""
    path.touch()
    os.truncate(path, size)
    return path


def image(make: tuple[object, ...], *mount: object, megabytes: int = 64) -> Mount:
    """Make a filesystem in an image file, and mount it."""

    @contextmanager
    def mount_image(folder: Path) -> Iterator[Path]:
        path = sparse_file(folder / "image", megabytes << 20)
        run(*make, path)
        with mounted(folder / "disk", *mount, path) as disk:
            yield disk

    return mount_image


@contextmanager
def exfat(folder: Path) -> Iterator[Path]:
    """Mount exFAT by FUSE: it ignores the case of names and has no links."""
    path = sparse_file(folder / "image", 64 << 20)
    run("mkfs.exfat", path)
    device = run("losetup", "--find", "--show", path).strip()
    try:
        with mounted(folder / "disk", "mount.exfat-fuse", device) as disk:
            yield disk
    finally:
        jobs.run("losetup", "--detach", device, check=True)


def in_memory(*command: object) -> Mount:
    """Mount a filesystem that needs no disk."""
    return lambda folder: mounted(folder / "disk", *command)


tmpfs = in_memory("mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs")
ramfs = in_memory("mount", "-t", "ramfs", "ramfs")


@contextmanager
def overlay(folder: Path) -> Iterator[Path]:
    with tmpfs(folder) as below:
        for name in ("lower", "upper", "work"):
            (below / name).mkdir()
        layers = f"lowerdir={below}/lower,upperdir={below}/upper,workdir={below}/work"
        command = ("mount", "-t", "overlay", "-o", layers, "overlay")
        with mounted(folder / "overlay", *command) as disk:
            yield disk


def stacked(*command: object) -> Mount:
    """Mount a FUSE filesystem that shows another folder, here one of a small disk."""

    @contextmanager
    def mount_over(folder: Path) -> Iterator[Path]:
        with tmpfs(folder) as below, mounted(folder / "fuse", *command, below) as disk:
            yield disk

    return mount_over


FILESYSTEMS: dict[str, Mount] = {
    "ext2": image(("mkfs.ext2", "-q"), "mount", "-o", "loop", "-t", "ext2"),
    "ext3": image(("mkfs.ext3", "-q"), "mount", "-o", "loop", "-t", "ext3"),
    "ext4": image(("mkfs.ext4", "-q"), "mount", "-o", "loop", "-t", "ext4"),
    "xfs": image(("mkfs.xfs", "-q"), "mount", "-o", "loop", "-t", "xfs", megabytes=320),
    "btrfs": image(("mkfs.btrfs", "-q"), "mount", "-o", "loop", "-t", "btrfs", megabytes=128),
    "vfat": image(("mkfs.vfat",), "mount", "-o", "loop", "-t", "vfat"),
    "tmpfs": tmpfs,
    "ramfs": ramfs,
    "overlay": overlay,
    "exfat by FUSE": exfat,
    "fuse2fs": image(("mkfs.ext4", "-q"), "fuse2fs", "-o", "fakeroot"),
    "bindfs": stacked("bindfs"),
    "mergerfs": stacked("mergerfs", "-o", "minfreespace=0"),
}


def kill_and_resume(testbed: Testbed, disk: Path) -> str:
    """Kill a run once a shard is done, and resume it while its files are open elsewhere."""
    command = _start(testbed, disk)
    command.process.kill()
    assert command.wait() == -signal.SIGKILL
    testbed.check(disk, finished=False)
    command = RunningCommand(disk, *MASK, testbed.campaign)
    with ExitStack() as stack:
        # A network filesystem and FUSE keep a file that is removed while open, under another name.
        for path in (disk / ".out.partial").rglob("*"):
            with suppress(OSError):
                stack.enter_context(open(path, "rb"))
        assert command.wait() == 0, command.stderr
    assert "were already done" in command.stderr, command.stderr
    left = disk / ".out.partial"
    if left.exists():
        assert all(path.name.startswith(".") for path in left.iterdir()), os.listdir(left)
        assert RunningCommand(disk, *MASK, testbed.campaign).wait() == 0
    testbed.check(disk, finished=True)
    return "killed and resumed"


def refuse_fill_up_and_resume(testbed: Testbed, disk: Path) -> str:
    """While a run is at work, start a second one and fill the disk; resume once there is space."""
    has_size = os.statvfs(disk).f_blocks > 0
    ballast = disk / "ballast"
    with _stopped(_start(testbed, disk, "--quiet")) as command:
        second = RunningCommand(disk, *MASK, testbed.campaign)
        assert second.wait() == 1, second.stderr
        assert "another run is at work" in second.stderr, second.stderr
        if has_size:
            fill(ballast)
    if not has_size:
        assert command.wait() == 0, command.stderr
        testbed.check(disk, finished=True)
        return "a second run refused, not filled up: it has no size"
    assert command.wait() == 1, command.stderr
    assert "No space left on device" in command.stderr, command.stderr
    assert command.stderr.count("\n") == 1, command.stderr
    assert outputs(disk) == {}
    ballast.unlink()
    command = RunningCommand(disk, *MASK, testbed.campaign)
    assert command.wait() == 0, command.stderr
    assert "were already done" in command.stderr, command.stderr
    testbed.check(disk, finished=True)
    return "a second run refused, filled up and resumed"


def keep_names_apart(testbed: Testbed, disk: Path) -> str:
    """Ask for two masks whose names differ in case only."""
    (disk / "case").touch()
    ignores_case = (disk / "CASE").exists()
    (disk / "case").unlink()
    if not ignores_case:
        return ""
    command = RunningCommand(disk, "--mask", "m", "^48", "M", "^30", "--", testbed.campaign)
    assert command.wait() == 2, command.stderr
    assert "masks-m.npy and masks-M.npy for one name" in command.stderr, command.stderr
    assert os.listdir(disk) == []
    return "names that differ in case refused"


def _start(testbed: Testbed, disk: Path, *flags: str) -> RunningCommand:
    """Start a run, and wait until its first shard is done."""
    command = RunningCommand(disk, *flags, *MASK, testbed.campaign)
    command.wait_for_shards(1)
    if not command.is_running():
        raise AssertionError(f"it ended too early, with {command.wait()}: {command.stderr}")
    return command


@contextmanager
def _stopped(command: RunningCommand) -> Iterator[RunningCommand]:
    """Stop the coordinator, whose workers then wait for it, and let it go on."""
    command.process.send_signal(signal.SIGSTOP)
    try:
        yield command
    finally:
        command.process.send_signal(signal.SIGCONT)


def fill(path: Path) -> None:
    """Write a file until nothing more fits."""
    with open(path, "wb", buffering=0) as stream:
        for chunk in CHUNKS:
            with suppress(OSError):
                while stream.write(bytes(chunk)) == chunk:
                    pass


def survive(testbed: Testbed, mount: Mount) -> list[str]:
    """Try everything on one filesystem; return what it survived."""
    survived = []
    with tempfile.TemporaryDirectory(dir=testbed.folder) as folder, mount(Path(folder)) as disk:
        with suppress(FileNotFoundError):
            (disk / "lost+found").rmdir()
        for try_it in (kill_and_resume, refuse_fill_up_and_resume, keep_names_apart):
            survived.append(try_it(testbed, disk))
            for path in disk.glob("out-*"):
                path.unlink()
    return list(filter(None, survived))


def main() -> None:
    if os.geteuid():
        print("all filesystems: SKIPPED, because only root may mount them")
        return
    with tempfile.TemporaryDirectory() as folder:
        testbed = Testbed(Path(folder), SAMPLES)
        for name, mount in FILESYSTEMS.items():
            begun = time.monotonic()
            try:
                found = ", ".join(survive(testbed, mount))
            except SkippedError as reason:
                print(f"{name}: SKIPPED, because {reason}", flush=True)
            else:
                print(f"{name}: {found} ({time.monotonic() - begun:.1f} s)", flush=True)


if __name__ == "__main__":
    main()
