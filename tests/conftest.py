"""Fixtures that many tests use: a generated campaign and the real command."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from benchmarks.campaign import Campaign, write_campaign
from tests.jobs import Command, run_command

# On a busy machine, the time that an example takes says nothing.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve small samples, one in four a photograph; read-only."""
    folder = tmp_path_factory.mktemp("campaign")
    write_campaign(folder, Campaign(samples=12, photographs=4, size=(90, 70), seed=7))
    return folder


@pytest.fixture
def data(campaign: Path, tmp_path: Path) -> Path:
    """A copy of the campaign, which a test may change."""
    return Path(shutil.copytree(campaign, tmp_path / "data"))


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """The real command, which runs in `tmp_path`."""
    return partial(run_command, tmp_path)
