"""What the tests of all formats use: a compressed campaign, and the real command."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from limbo_compress import compress
from tests.jobs import Command, job, run, script

SIZE = (64, 48)


@pytest.fixture(scope="session")
def prefix(campaign: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images, a mask and metadata of 12 samples; not to be changed."""
    folder = tmp_path_factory.mktemp("outputs")
    compress(job(campaign, folder, image_size=SIZE, masks=(("big", "^48"),)))
    return folder / "out"


@pytest.fixture
def export(tmp_path: Path) -> Command:
    """The real command, which runs in `tmp_path`."""
    return partial(run, script("limbo-export"), cwd=tmp_path)
