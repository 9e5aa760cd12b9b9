"""Outputs to be looked at, and the real command."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from tests.jobs import Command, run, script


@pytest.fixture
def inspect(tmp_path: Path) -> Command:
    """The real ``limbo-inspect``, which runs in `tmp_path`."""
    return partial(run, script("limbo-inspect"), cwd=tmp_path)
