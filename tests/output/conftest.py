"""A folder that several users share."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.campaign import Campaign, write_campaign


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder with samples in ``data``, and ``out``, to which anyone may write."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        write_campaign(folder / "data", Campaign(samples=3, size=(40, 30)))
        (folder / "out").mkdir()
        (folder / "out").chmod(0o1777)
        yield folder
