"""What the tests share: generated campaigns, the real command, and the reference's rule."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from numpy.typing import NDArray

from benchmarks.campaign import Campaign, write_campaign

REAL_SAMPLES = Path(__file__).parents[2] / "shared" / "limbo-samples"

# Machines are noisy: how long an example takes says nothing.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve small samples, one in four a photograph; not to be changed."""
    folder = tmp_path_factory.mktemp("campaign")
    write_campaign(folder, Campaign(samples=12, photographs=4, size=(90, 70), seed=7))
    return folder


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """The real command, run in a folder of the test's own."""

    def run(
        *arguments: object, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "limbo_compress", *map(str, arguments)],
            cwd=tmp_path,
            env=os.environ | (env or {}),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


def ulps(ours: NDArray[np.float16], reference: NDArray[np.float16]) -> NDArray[np.int64]:
    """How many float16 steps apart values are; both are 0 or more."""
    assert ours.dtype == reference.dtype == np.float16
    assert ours.shape == reference.shape
    steps = [values.view(np.int16).astype(np.int64) for values in (ours, reference)]
    apart: NDArray[np.int64] = np.abs(steps[0] - steps[1])
    return apart


def assert_parity(ours: NDArray[np.float16], reference: NDArray[np.float16]) -> None:
    apart = ulps(ours, reference)
    assert apart.max() <= 1
    assert (apart == 0).mean() >= 0.999
