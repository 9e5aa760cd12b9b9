"""Outputs to be looked at, and the real command."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from limbo_compress import compress
from tests.jobs import Command, job, run, script

MASKS = (("all", "."), ("big", "^48"))


@pytest.fixture
def inspect(tmp_path: Path) -> Command:
    """The real ``limbo-inspect``, which runs in `tmp_path`."""
    return partial(run, script("limbo-inspect"), cwd=tmp_path)


@pytest.fixture(scope="session")
def prefix(campaign: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images, two masks and metadata of 12 samples; not to be changed."""
    folder = tmp_path_factory.mktemp("inspected")
    compress(job(campaign, folder, masks=MASKS))
    return folder / "out"
