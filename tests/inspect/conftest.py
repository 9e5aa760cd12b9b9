"""Outputs to be looked at, and the real command."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from limbo_compress import compress
from tests.jobs import Command, job

MASKS = (("all", "."), ("big", "^48"))


def run_inspect(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the real ``limbo-inspect`` in `folder`."""
    return subprocess.run(
        [str(Path(sys.executable).with_name("limbo-inspect")), *map(str, arguments)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def inspect(tmp_path: Path) -> Command:
    """The real ``limbo-inspect``, which runs in `tmp_path`."""
    return partial(run_inspect, tmp_path)


@pytest.fixture(scope="session")
def prefix(campaign: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images, two masks and metadata of 12 samples; not to be changed."""
    folder = tmp_path_factory.mktemp("inspected")
    compress(job(campaign, folder, masks=MASKS))
    return folder / "out"
