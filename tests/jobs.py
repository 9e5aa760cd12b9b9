"""Jobs for the tests: options with small defaults, the real command, and what came out."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from benchmarks.campaign import Campaign, write_campaign
from limbo_compress import Options, compress
from limbo_compress.errors import nearest

ROOT = Path(__file__).parents[1]
REAL_SAMPLES = ROOT.parent / "shared" / "limbo-samples"

Command = Callable[..., subprocess.CompletedProcess[str]]

# Those of the fixture `prefix`.
MASKS = (("all", "."), ("big", "^48"))


def job(data: Path, folder: Path, **change: Any) -> Options:
    """Options of a small job over `data` that writes ``out-*`` into `folder`."""
    defaults: dict[str, Any] = {
        "prefix": str(folder / "out"),
        "images": True,
        "metadata": True,
        "image_size": (32, 24),
        "workers": 1,
    }
    return Options((str(data),), **defaults | change)


class _Interruption(Exception):  # noqa: N818  # nothing went wrong
    """What ends a job in `stop_after`."""


def stop_after(samples: int, options: Options) -> None:
    """Begin a job, and end it once this number of samples is done, or more."""

    def progress(done: int, total: int) -> None:
        if done >= samples:
            raise _Interruption

    with pytest.raises(_Interruption):
        compress(options, progress)


def outputs(folder: Path, prefix: str = "out") -> dict[str, bytes]:
    """The published files of a prefix, by their names without it."""
    paths = sorted(folder.glob(f"{prefix}-*"))
    return {path.name.removeprefix(f"{prefix}-"): path.read_bytes() for path in paths}


def work_in(folder: Path, prefix: str = "out") -> Path:
    """The folder of a job's unfinished outputs and shard records."""
    (place,) = folder.glob(f".{prefix}.partial/work-*")
    return place


def leave_partition(folder: Path, index: int, seconds: float) -> Path:
    """Leave the lock of a partition on another host that was touched some seconds ago."""
    lock = folder / ".out.partial" / f"partition-{index}" / "dead"
    lock.parent.mkdir(exist_ok=True)
    lock.write_text(json.dumps({"pid": 1, "host": "elsewhere", "job": "SLURM 7_1"}))
    os.utime(lock, (time.time() - seconds,) * 2)
    return lock


def files(folder: Path) -> dict[str, bytes]:
    """All files of a folder and below it."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def write_tiny_campaign(folder: Path, samples: int) -> None:
    """Write renders of a few kB each, with short contours."""
    write_campaign(folder, Campaign(samples, photographs=0, size=(20, 16), instances=2))
    for path in folder.rglob("*.json"):
        metadata = json.loads(path.read_text())
        for annotation in metadata["annotations"]:
            for contour in annotation.get("contours", ()):
                contour[:] = contour[:: len(contour) // 12]
        path.write_text(json.dumps(metadata, indent=2))


def labels_below(folder: Path) -> set[str]:
    """The labels of all cryptomattes of some samples."""
    sections = (json.loads(path.read_text()).get("synthetic") for path in folder.rglob("*.json"))
    return {
        label
        for section in sections
        if section and "cryptomatte" in section
        for label in section["cryptomatte"]["manifest"]
    }


def remove_cryptomattes(paths: Iterable[Path]) -> None:
    """Make samples such that have no cryptomatte."""
    for path in paths:
        path.write_text(json.dumps(json.loads(path.read_text()) | {"synthetic": {}}))


def empty_mask_warning(name: str, pattern: str, labels: set[str]) -> str:
    """What the command prints of a mask that is all zeros, if these labels occur."""
    why = f"no label that covers a pixel matches; nearest labels: {nearest([pattern], labels)}"
    return f"limbo-compress: --mask {name} '{pattern}': all zeros, because {why}"


def run(
    *command: object, env: dict[str, str] | None = None, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run any command, for which Python finds the tests, and return what it prints.

    `env` has variables besides those of this process, `options` are those of `subprocess.run`.
    """
    defaults = {"capture_output": True, "text": True, "timeout": 120, "check": False}
    variables = os.environ | {"PYTHONPATH": str(ROOT)} | (env or {})
    done: subprocess.CompletedProcess[str] = subprocess.run(
        [*map(str, command)], env=variables, **defaults | options
    )
    return done


def error_line(done: subprocess.CompletedProcess[str], code: int = 1) -> str:
    """Check that a command failed with nothing but one line, and return it."""
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert done.stderr.startswith("limbo-"), done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def script(name: str) -> Path:
    """The path of an installed command."""
    return Path(sys.executable).with_name(name)


def run_command(
    folder: Path,
    *arguments: object,
    env: dict[str, str] | None = None,
    module: str = "limbo_compress",
) -> subprocess.CompletedProcess[str]:
    """Run the real command in `folder`, or a module of the tests that does."""
    return run(sys.executable, "-m", module, *arguments, cwd=folder, env=env)


def run_on_terminal(folder: Path, *command: object) -> str:
    """Run a command whose stderr is a terminal, and return what it shows there."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    streams: Any = {"stdout": subprocess.DEVNULL, "stderr": theirs, "capture_output": False}
    run(*command, cwd=folder, check=True, **streams)
    os.close(theirs)
    shown = b""
    with suppress(OSError):  # Linux, once all is read
        while data := os.read(ours, 1 << 16):
            shown += data
    os.close(ours)
    return shown.decode()


def shadow_modules(folder: Path, names: Iterable[str] = sys.stdlib_module_names) -> None:
    """Fill a folder with modules that hide those of other folders, and fail."""
    for name in names:
        (folder / f"{name}.py").write_text('raise RuntimeError("this is another module")')


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
    """Wait until a condition holds, and fail if it still does not on the busiest of machines."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.005)


def catches(pid: int, number: signal.Signals) -> bool:
    """Whether a process has a handler of its own for a signal; Linux only."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = re.search(r"^SigCgt:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return caught is not None and bool(int(caught[1], 16) >> (number - 1) & 1)
