"""Libraries that are missing, damaged or of another version end a job before it begins."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.jobs import Command, error_line, outputs

FLAGS = ("--prefix", "out", "--images", "--metadata", "--on-error", "skip", "--quiet")


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
    line = error_line(done)
    assert "cv2 has version 4.10.0" in line
    assert "5 or later is needed; pip uninstall opencv-python" in line
    assert outputs(data.parent) == {}


@pytest.mark.parametrize("library", ["cv2", "numpy", "orjson"])
def test_a_library_that_cannot_be_imported_ends_the_job(
    command: Command, data: Path, library: str
) -> None:
    package = data.parent / "broken" / library
    package.mkdir(parents=True)
    (package / "__init__.py").write_text('raise ImportError("libGL.so.1: cannot open")')
    done = command(*FLAGS, data, env={"PYTHONPATH": f"{package.parent}:{os.getcwd()}"})
    assert "libGL.so.1: cannot open" in error_line(done)
    assert outputs(data.parent) == {}
