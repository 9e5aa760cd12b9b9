"""How the command starts and ends: what it loads, and signals at either end."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import limbo_compress
from tests.jobs import run_command

HEAVY = {"numpy", "cv2", "orjson", "OpenEXR", "mmh3"}
ALL_OUTPUTS = ("--images", "--metadata", "--mask", "m", ".", "--")


def loaded_modules(folder: Path, *arguments: object, exit_code: int) -> set[str]:
    done = run_command(folder, *arguments, module="tests.cli.loaded")
    assert done.returncode == exit_code, done.stderr
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("loaded: "))
    return set(line.split()[1:])


def test_a_folder_without_samples_loads_nothing_heavy(tmp_path: Path) -> None:
    loaded = loaded_modules(tmp_path, *ALL_OUTPUTS, tmp_path, exit_code=1)
    assert "limbo_compress.coordinator" in loaded
    assert not loaded & HEAVY


@pytest.mark.parametrize("workers", [1, 2])
def test_a_job_loads_nothing_heavy_in_the_coordinator(
    campaign: Path, tmp_path: Path, workers: int
) -> None:
    loaded = loaded_modules(tmp_path, "--workers", workers, *ALL_OUTPUTS, campaign, exit_code=0)
    assert "limbo_compress.coordinator" in loaded
    assert not loaded & HEAVY


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1"])
def test_a_signal_during_the_imports_ends_in_one_line(
    campaign: Path, tmp_path: Path, name: str
) -> None:
    arguments = ("imports", name, "--metadata", campaign)
    done = run_command(tmp_path, *arguments, module="tests.cli.signalled")
    assert done.returncode == 128 + signal.Signals[name]
    assert done.stderr == f"limbo-compress: stopped by {name}\n"
    assert os.listdir(tmp_path) == []


def test_a_signal_at_the_exit_changes_nothing(campaign: Path, tmp_path: Path) -> None:
    arguments = ("exit", "SIGTERM", "--quiet", "--metadata", campaign)
    done = run_command(tmp_path, *arguments, module="tests.cli.signalled")
    assert (done.returncode, done.stderr) == (0, "")
    assert os.listdir(tmp_path) == ["compressed-metadata.pickle"]


def shadow_modules(folder: Path) -> None:
    """Fill a folder with modules that hide those of other folders, and fail.

    Before this package, -m itself imports a few: no package can guard these.
    """
    list_modules = "import runpy, sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-I", "-c", list_modules], capture_output=True, text=True, check=True
    )
    for name in (sys.stdlib_module_names | HEAVY | {"isal", "tqdm"}) - set(done.stdout.split()):
        (folder / f"{name}.py").write_text('raise RuntimeError("this is another module")')


# Where workers do not fork, they start in the current folder, too.
@pytest.mark.skipif(sys.platform != "linux", reason="workers do not fork here")
def test_modules_in_the_current_folder_hide_no_others(campaign: Path, tmp_path: Path) -> None:
    shadow_modules(tmp_path)
    for arguments in (["--version"], ["--quiet", "--workers", "2", *ALL_OUTPUTS, campaign]):
        done = run_command(tmp_path, *arguments)
        assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "compressed-metadata.pickle").exists()


def test_a_source_tree_stays_on_the_path(tmp_path: Path) -> None:
    """If it is not installed, workers that do not fork would not find it."""
    shutil.copytree(Path(limbo_compress.__file__).parent, tmp_path / "limbo_compress")
    (tmp_path / "isal.py").write_text('__version__ = "of this folder"')
    assert "isal of this folder" in run_command(tmp_path, "--version").stdout


def test_without_a_current_folder_the_path_stays(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    root = Path(limbo_compress.__file__).parents[1]
    script = f"rmdir ../gone && PYTHONPATH={root} exec {sys.executable} -m limbo_compress --version"
    done = subprocess.run(
        ["sh", "-c", script], cwd=tmp_path / "gone", capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_free_threaded_python_is_refused_in_one_line(campaign: Path, tmp_path: Path) -> None:
    done = run_command(tmp_path, "--metadata", campaign, module="tests.cli.free_threaded")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("limbo-compress: cannot start: ")
    assert "does not run on free-threaded Python" in done.stderr
    assert done.stderr.count("\n") == 1
    assert os.listdir(tmp_path) == []
