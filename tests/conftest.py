"""Fixtures that many tests use: a generated campaign and the real command."""

from __future__ import annotations

import shutil
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from benchmarks.campaign import Campaign, write_campaign
from benchmarks.mixed import MixedCampaign, write_mixed
from limbo_compress import compress
from tests.jobs import MASKS, Command, job, run_command

# Run by make clients, with what they import.
collect_ignore_glob = ["programs/clients/check_*.py"]

# On a busy machine, the time that an example takes says nothing.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


# Their tests look at what samples say and show. For all others, the first profile does.
_ON_BOTH_PROFILES = {
    *("dataset", "export", "inspect"),
    *("test_coordinator.py", "test_masks.py", "test_partition.py", "test_resume.py"),
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run tests that use a campaign on both profiles, unless they are marked ``uniform``."""
    if "campaign" in metafunc.fixturenames:
        path = metafunc.definition.path.relative_to(Path(__file__).parent)
        is_marked = metafunc.definition.get_closest_marker("uniform") is not None
        profiles = ["uniform", "mixed"]
        if is_marked or not {path.parts[0], path.name} & _ON_BOTH_PROFILES:
            del profiles[1]
        metafunc.parametrize("campaign", profiles, indirect=True, scope="session")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what the tests counted, as `tests/programs/test_enumerate.py` does."""
    counts: Counter[str] = Counter()
    for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed"):
        counts.update({str(name): int(value) for name, value in report.user_properties})
    for name, number in counts.items():
        terminalreporter.write_line(f"{name}: {number}")


@pytest.fixture(scope="session")
def campaign(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve small samples of a profile, one in four a photograph; read-only."""
    folder = tmp_path_factory.mktemp("campaign")
    if request.param == "uniform":
        write_campaign(folder, Campaign(samples=12, photographs=4, size=(90, 70), seed=7))
    else:
        write_mixed(folder, MixedCampaign(samples=12, size=(90, 70), seed=7))
    return folder


@pytest.fixture(scope="session")
def prefix(campaign: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images, two masks and metadata of the campaign; not to be changed."""
    folder = tmp_path_factory.mktemp("outputs")
    compress(job(campaign, folder, masks=MASKS))
    return folder / "out"


@pytest.fixture
def data(campaign: Path, tmp_path: Path) -> Path:
    """A copy of the campaign, which a test may change."""
    return Path(shutil.copytree(campaign, tmp_path / "data"))


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """The real command, which runs in `tmp_path`."""
    return partial(run_command, tmp_path)
