"""What an error of the system means: a bad sample, a fault of the machine, or another try."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from limbo_compress import MachineError, Options, compress, load
from tests import jobs
from tests.failing import fail_once, happened
from tests.jobs import Command, error_line, outputs, run

FLAGS = ("--prefix", "out", "--images", "--metadata", "--on-error", "skip", "--quiet")


def job(data: Path, **change: Any) -> Options:
    """A job next to its data that leaves bad samples out."""
    return jobs.job(data, data.parent, **{"on_error": "skip"} | change)


def once(action: Callable[[], object]) -> Callable[[int, int], None]:
    """A progress function that acts as soon as a shard is done."""

    def progress(done: int, samples: int) -> None:
        if done and not acted:
            acted.append(True)
            action()

    acted: list[bool] = []
    return progress


@pytest.mark.parametrize("workers", [1, 2])
def test_data_that_go_away_are_not_bad_samples(data: Path, workers: int) -> None:
    go_away = once(lambda: data.rename(data.with_name("elsewhere")))
    with pytest.raises(MachineError, match="is it still mounted"):
        compress(job(data, workers=workers), go_away)
    assert outputs(data.parent) == {}
    data.with_name("elsewhere").rename(data)
    report = compress(job(data))
    assert report.resumed > 0
    assert report.samples == 12


MOUNTED = """
import subprocess, sys
from limbo_compress import MachineError, Options, compress
folder, data, kind = sys.argv[1:]
mount = ["--bind", data] if kind == "bind" else ["-t", "tmpfs", "tmpfs"]
if subprocess.run(["mount", *mount, folder]).returncode:
    sys.exit("not allowed to mount")
if kind == "tmpfs":
    subprocess.run(["cp", "-r", f"{data}/.", folder], check=True)
def unmount(done, samples):
    if 0 < done < samples:
        subprocess.run(["umount", "-l", folder])
try:
    compress(Options(folder, prefix="out", images=True, on_error="skip", workers=2), unmount)
except MachineError as error:
    print(error)
"""


@pytest.mark.parametrize("kind", ["bind", "tmpfs"])
@pytest.mark.parametrize("nested", [True, False], ids=["nested", "flat"])
def test_a_mount_that_goes_away_ends_the_job(data: Path, kind: str, nested: bool) -> None:
    """With `flat`, the samples lie in the mount point itself, which stays as an empty folder."""
    folder = data.parent / "mount"
    folder.mkdir()
    source = data if nested else data / "0000"
    private = ("unshare", "--mount", "--propagation", "private", sys.executable)
    done = run(*private, "-c", MOUNTED, folder, source, kind, cwd=data.parent)
    if done.returncode:
        pytest.skip(f"mounting is not allowed here: {done.stderr.strip().splitlines()[-1]}")
    assert "is it still mounted" in done.stdout
    assert outputs(data.parent) == {}


@pytest.mark.parametrize("workers", [1, 2])
def test_an_io_error_is_no_bad_sample(data: Path, workers: int) -> None:
    (data / "0000" / "a.json").symlink_to("/proc/self/mem")  # a regular file that cannot be read
    with pytest.raises(MachineError, match=r"a\.json: Input/output error"):
        compress(job(data, workers=workers))
    assert outputs(data.parent) == {}


@pytest.mark.parametrize("name", ["ENOENT", "EACCES", "EPERM", "EINVAL", "ENODEV", "ENXIO", "EIO"])
@pytest.mark.parametrize("kind", ["json", "png"])
def test_a_file_that_fails_once_is_read_again(
    command: Command, data: Path, name: str, kind: str
) -> None:
    path = sorted(data.rglob(f"image_*.{kind}"))[2]
    env = fail_once(data.parent, path.name, getattr(errno, name))
    done = command(*FLAGS, data, env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert happened(env)
    assert len(load(data.parent / "out")) == 12


@pytest.mark.parametrize("name", ["ENOENT", "EACCES", "EPERM"])
@pytest.mark.parametrize("call", ["list", "stat"])
def test_a_folder_that_fails_once_is_listed_again(
    command: Command, data: Path, name: str, call: str
) -> None:
    (data / "0000").rename(data.parent / "elsewhere")
    (data / "0000").symlink_to(data.parent / "elsewhere")
    env = fail_once(data.parent, "data/0000", getattr(errno, name), call)
    done = command(*FLAGS, data, env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert happened(env)
    assert len(load(data.parent / "out")) == 12


def test_a_file_that_is_listed_but_never_found_ends_the_job(command: Command, data: Path) -> None:
    """As a network client that remembers that it was missing; the library fails every call."""
    path = sorted(data.rglob("image_*.png"))[2]
    env = fail_once(data.parent, path.name, errno.ENOENT, at=0)
    done = command(*FLAGS, data, env=env)
    assert "is it still mounted" in error_line(done)
    assert outputs(data.parent) == {}
