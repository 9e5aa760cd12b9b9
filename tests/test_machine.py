"""Faults of the machine end a job with one line and publish nothing, whatever `on_error` says."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from limbo_compress import MachineError, Options, SampleError, compress, load
from tests import jobs
from tests.failing import fail_once, happened
from tests.jobs import Command, outputs

FLAGS = ("--prefix", "out", "--images", "--metadata", "--on-error", "skip", "--quiet")
CRASHING = "tests.programs.crashing"


def job(data: Path, **change: Any) -> Options:
    return jobs.job(data, data.parent, **{"on_error": "skip"} | change)


def check_one_line(done: subprocess.CompletedProcess[str], folder: Path) -> None:
    """Check that a command said one line and published nothing."""
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("limbo-compress: ")
    assert done.stderr.count("\n") == 1, done.stderr
    assert outputs(folder) == {}


def once(action: Callable[[], object]) -> Callable[[int, int], None]:
    """A progress function that acts as soon as a shard is done."""

    def progress(done: int, samples: int) -> None:
        if done and not acted:
            acted.append(True)
            action()

    acted: list[bool] = []
    return progress


@pytest.fixture
def data(campaign: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(campaign, tmp_path / "data"))


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
    program = [sys.executable, "-c", MOUNTED, str(folder), str(source), kind]
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", *program],
        cwd=data.parent,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
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


def limited(limit: str, folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the real command under a limit of ``ulimit``."""
    command = [sys.executable, "-m", "limbo_compress", *map(str, arguments)]
    return subprocess.run(
        ["sh", "-c", f'ulimit {limit}; exec "$@"', "sh", *command],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.skipif(sys.platform != "linux", reason="macOS ignores this limit")
@pytest.mark.parametrize("megabytes", [60, 130, 200, 270, 340])
def test_short_memory_makes_no_bad_sample(data: Path, megabytes: int) -> None:
    """Some of these limits are too low for the libraries, others for the largest images."""
    for path in data.rglob("*.png"):  # decoders of progressive JPEGs take most
        Image.open(path).convert("RGB").resize((2000, 1500)).save(path, "JPEG", progressive=True)
    done = limited(f"-v {megabytes << 10}", data.parent, *FLAGS, "--workers", 2, data)
    if done.returncode == 0:  # another Python may need less
        assert "failures.jsonl" not in outputs(data.parent)
        return
    check_one_line(done, data.parent)


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("descriptors", [8, 12, 16])
def test_few_descriptors_make_no_bad_sample(data: Path, descriptors: int, workers: int) -> None:
    done = limited(f"-n {descriptors}", data.parent, *FLAGS, "--workers", workers, data)
    if done.returncode == 0:
        assert "failures.jsonl" not in outputs(data.parent)
        return
    check_one_line(done, data.parent)


def of_another_user(processes: int) -> tuple[str, ...]:
    """What runs a command as a user of its own, who may have so many processes and threads."""
    user = 1_000_000 + os.getpid()
    rights = "=-all,+dac_override"  # to the files of this test
    prefix = (
        *("setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"),
        *(f"--inh-caps{rights}", f"--ambient-caps{rights}", "prlimit", f"--nproc={processes}"),
    )
    try:
        done = subprocess.run([*prefix, "true"], capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("setpriv is not installed")
    if done.returncode:
        pytest.skip("only root may run a command as another user")
    return prefix


@pytest.fixture
def open_data(campaign: Path) -> Iterator[Path]:
    """A copy of the campaign in a folder that is open to all users."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        yield Path(shutil.copytree(campaign, Path(name, "data")))


@pytest.mark.parametrize("processes", [1, 2, 5, 7])
def test_few_processes_make_no_bad_sample(open_data: Path, processes: int) -> None:
    """A worker needs two of them, since its thread counts as well."""
    command = (sys.executable, "-m", "limbo_compress", *FLAGS, "--workers", "3", str(open_data))
    done = subprocess.run(
        [*of_another_user(processes), *command],
        cwd=open_data.parent,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode == 0:
        assert "failures.jsonl" not in outputs(open_data.parent)
        return
    check_one_line(done, open_data.parent)


OLD_OPENCV = """
__version__ = "4.10.0"
IMREAD_COLOR = IMREAD_GRAYSCALE = IMREAD_IGNORE_ORIENTATION = 1
class error(Exception): pass
def setNumThreads(number): pass
def imdecode(data, how): return None
"""


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("is_wheel", [True, False], ids=["wheel", "other"])
def test_another_opencv_ends_the_job(
    command: Command, data: Path, is_wheel: bool, workers: int
) -> None:
    """Wheels tell their version in a file, others when they are imported."""
    package = data.parent / "older" / "cv2"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(OLD_OPENCV)
    if is_wheel:
        (package / "version.py").write_text('opencv_version = "4.10.0.84"\nheadless = False\n')
    done = command(
        *FLAGS, "--workers", workers, data, env={"PYTHONPATH": f"{package.parent}:{os.getcwd()}"}
    )
    check_one_line(done, data.parent)
    assert "cv2 has version 4.10.0" in done.stderr
    assert "5 or later is needed; pip uninstall opencv-python" in done.stderr


@pytest.mark.parametrize("library", ["cv2", "numpy", "orjson"])
def test_a_library_that_cannot_be_imported_ends_the_job(
    command: Command, data: Path, library: str
) -> None:
    package = data.parent / "broken" / library
    package.mkdir(parents=True)
    (package / "__init__.py").write_text('raise ImportError("libGL.so.1: cannot open")')
    done = command(*FLAGS, data, env={"PYTHONPATH": f"{package.parent}:{os.getcwd()}"})
    check_one_line(done, data.parent)
    assert "libGL.so.1: cannot open" in done.stderr


def crash(command: Command, data: Path, workers: int, cause: str) -> Any:
    path = sorted(data.rglob("*.json"))[3]
    flags = (*FLAGS, "--workers", workers, data)
    return path, command(path.name, *flags, module=CRASHING, env={"TESTS_CRASH_BY": cause})


@pytest.mark.parametrize("workers", [1, 2])
def test_an_exception_that_nobody_foresaw_is_told_with_its_place(
    command: Command, data: Path, workers: int
) -> None:
    path, done = crash(command, data, workers, "exception")
    assert done.returncode == 0, done.stderr
    (line,) = (data.parent / "out-failures.jsonl").read_text().splitlines()
    failure = json.loads(line)
    assert failure["path"] == str(path)
    assert "unexpected LookupError at crashing.py:" in failure["reason"]
    assert failure["reason"].endswith(": unforeseen")


def test_a_sample_whose_workers_are_killed_from_outside_ends_the_job(
    command: Command, data: Path
) -> None:
    """As by the kernel when memory runs out."""
    path, done = crash(command, data, 2, "SIGKILL")
    check_one_line(done, data.parent)
    assert f"{path}: the worker process was killed by SIGKILL" in done.stderr


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """A hundred good samples."""
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(100):
        (folder / f"{number:03}.json").write_text("{}")
    return folder


def spoil(folder: Path, rows: range) -> None:
    for path in sorted(folder.iterdir())[rows.start : rows.stop : rows.step]:
        path.write_text("[]")


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("rows", [range(20), range(30, 55), range(80, 100)], ids=str)
def test_twenty_bad_samples_in_a_row_end_the_job(many: Path, rows: range, workers: int) -> None:
    spoil(many, rows)
    with pytest.raises(SampleError, match="one of 20 bad samples in a row: its metadata is a JSON"):
        compress(job(many, images=False, workers=workers))
    assert outputs(many.parent) == {}
    report = compress(job(many, images=False, workers=workers, max_failures=str(len(rows))))
    assert report.samples == 100 - len(rows)


@pytest.mark.parametrize("rows", [range(19), range(0, 100, 2), range(81, 100)], ids=str)
def test_bad_samples_here_and_there_are_left_out(many: Path, rows: range) -> None:
    spoil(many, rows)
    assert compress(job(many, images=False, workers=2)).samples == 100 - len(rows)


def test_an_unforeseen_exception_on_every_sample_ends_the_job_soon(
    command: Command, many: Path
) -> None:
    flags = ("--prefix", "out", "--metadata", "--on-error", "skip", "--workers", 2, many)
    done = command("many", *flags, module=CRASHING, env={"TESTS_CRASH_BY": "exception"})
    assert done.returncode == 1
    assert "one of 20 bad samples in a row" in done.stderr
    assert outputs(many.parent) == {}


def test_links_to_one_metadata_file_take_the_images_beside_them(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    content = tmp_path / "store" / "content"
    content.write_text('{"image": {"filename": "image.png"}}')
    for name, grey in (("a", 0), ("b", 255)):
        folder = tmp_path / "data" / name
        folder.mkdir(parents=True)
        (folder / "sample.json").symlink_to(content)
        Image.new("RGB", (40, 40), (grey, grey, grey)).save(folder / "image.png")
    assert compress(job(tmp_path / "data")).samples == 2
    images = np.load(tmp_path / "out-images.npy")
    assert images[:, 0, 0, 0].tolist() == [0, 1]


@pytest.mark.parametrize("name", ["ENOENT", "EACCES", "EPERM", "EINVAL", "ENODEV", "ENXIO", "EIO"])
@pytest.mark.parametrize("kind", ["json", "png"])
def test_a_file_that_fails_once_is_read_again(data: Path, name: str, kind: str) -> None:
    path = sorted(data.rglob(f"image_*.{kind}"))[2]
    env = fail_once(data.parent, path.name, getattr(errno, name))
    done = jobs.run_command(data.parent, *FLAGS, data, env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert happened(env)
    assert len(load(data.parent / "out")) == 12


@pytest.mark.parametrize("name", ["ENOENT", "EACCES", "EPERM"])
@pytest.mark.parametrize("call", ["list", "stat"])
def test_a_folder_that_fails_once_is_listed_again(data: Path, name: str, call: str) -> None:
    (data / "0000").rename(data.parent / "elsewhere")
    (data / "0000").symlink_to(data.parent / "elsewhere")
    env = fail_once(data.parent, "data/0000", getattr(errno, name), call)
    done = jobs.run_command(data.parent, *FLAGS, data, env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert happened(env)
    assert len(load(data.parent / "out")) == 12


def test_a_file_that_is_listed_but_never_found_ends_the_job(data: Path) -> None:
    """As a network client that remembers that it was missing; the library fails every call."""
    path = sorted(data.rglob("image_*.png"))[2]
    env = fail_once(data.parent, path.name, errno.ENOENT, at=0)
    done = jobs.run_command(data.parent, *FLAGS, data, env=env)
    check_one_line(done, data.parent)
    assert "is it still mounted" in done.stderr
