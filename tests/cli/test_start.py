"""How the command starts and ends: what it loads, and signals at either end."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

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


def test_free_threaded_python_is_refused_in_one_line(campaign: Path, tmp_path: Path) -> None:
    done = run_command(tmp_path, "--metadata", campaign, module="tests.cli.free_threaded")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("limbo-compress: cannot start: ")
    assert "does not run on free-threaded Python" in done.stderr
    assert done.stderr.count("\n") == 1
    assert os.listdir(tmp_path) == []
