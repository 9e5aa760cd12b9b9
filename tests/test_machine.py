"""Faults of the machine end a job with one line and publish nothing, whatever `on_error` says."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.exrs import Part, exr
from tests.jobs import Command, error_line, outputs, run
from tests.pictures import encoded

COMMAND = (sys.executable, "-m", "limbo_compress")
FLAGS = ("--prefix", "out", "--images", "--metadata", "--on-error", "skip", "--quiet")
CRASHING = "tests.programs.crashing"


def check_one_line(done: subprocess.CompletedProcess[str], folder: Path) -> None:
    """Check that a command said one line and published nothing."""
    error_line(done)
    assert outputs(folder) == {}


def check_whole_or_one_line(done: subprocess.CompletedProcess[str], folder: Path) -> None:
    """Check what a command did that may have had enough: another Python may need less."""
    if done.returncode == 0:
        assert "failures.jsonl" not in outputs(folder)
    else:
        check_one_line(done, folder)


def limited(limit: str, folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the real command under a limit of ``ulimit``."""
    under = ("sh", "-c", f'ulimit {limit}; exec "$@"', "sh")
    return run(*under, *COMMAND, *arguments, cwd=folder)


@pytest.mark.skipif(sys.platform != "linux", reason="macOS ignores this limit")
@pytest.mark.parametrize("megabytes", [60, 130, 200, 270, 340])
def test_short_memory_makes_no_bad_sample(data: Path, megabytes: int) -> None:
    """Some of these limits are too low for the libraries, others for the largest images."""
    for path in data.rglob("*.png"):  # decoders of progressive JPEGs take most
        Image.open(path).convert("RGB").resize((2000, 1500)).save(path, "JPEG", progressive=True)
    done = limited(f"-v {megabytes << 10}", data.parent, *FLAGS, "--workers", 2, data)
    check_whole_or_one_line(done, data.parent)


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("descriptors", [8, 12, 16])
def test_few_descriptors_make_no_bad_sample(data: Path, descriptors: int, workers: int) -> None:
    done = limited(f"-n {descriptors}", data.parent, *FLAGS, "--workers", workers, data)
    check_whole_or_one_line(done, data.parent)


def of_another_user(processes: int) -> tuple[str, ...]:
    """What runs a command as a user of its own, who may have this many processes and threads."""
    user = 1_000_000 + os.getpid()
    rights = "=-all,+dac_override"  # to the files of this test
    prefix = (
        *("setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"),
        *(f"--inh-caps{rights}", f"--ambient-caps{rights}", "prlimit", f"--nproc={processes}"),
    )
    try:
        done = run(*prefix, "true")
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
    command = (*of_another_user(processes), *COMMAND, *FLAGS, "--workers", "3", open_data)
    check_whole_or_one_line(run(*command, cwd=open_data.parent), open_data.parent)


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


SHORT_OF_MEMORY = """
import re, resource, sys
import numpy as np
from pathlib import Path
from limbo_compress.imaging.cryptomatte import covered, open_cryptomatte
from limbo_compress.imaging.decode import decode

small, large = (Path(path) for path in sys.argv[1:])
ids = np.ones(1, np.float32)
if small.suffix == ".exr":
    read = lambda data: list(covered(open_cryptomatte(data, "", 10**9), ids))
else:
    read = lambda data: decode(data, "")
read(small.read_bytes())
data = large.read_bytes()
used = int(re.search(r"VmSize:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) << 10
resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20), -1))
try:
    read(data)
except BaseException as error:
    print(type(error).__name__)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the address space")
@pytest.mark.parametrize("kind", ["png", "jpg", "progressive.jpg", "exr"])
def test_when_memory_is_short_the_image_is_not_to_blame(tmp_path: Path, kind: str) -> None:
    for name, side in (("small", 8), ("large", 8000)):
        path = tmp_path / f"{name}.{kind}"
        if kind == "exr":
            names = (b"crypto00.R", b"crypto00.G")
            planes = {
                name: np.zeros((side // 8, 4 * side), kind)
                for name, kind in zip(names, ("<f4", "<f2"), strict=True)
            }
            path.write_bytes(exr(Part(planes)))
        else:
            image = Image.new("RGB", (side, side // 2))
            options = {"progressive": True} if "progressive" in kind else {}
            path.write_bytes(encoded(image, "PNG" if kind == "png" else "JPEG", **options))
    paths = [tmp_path / f"{name}.{kind}" for name in ("small", "large")]
    assert run(sys.executable, "-c", SHORT_OF_MEMORY, *paths).stdout == "MemoryError\n"
