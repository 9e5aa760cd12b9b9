"""What small files cost: they are refused by their headers, and good samples next to them stay."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.programs.bombs import BOMBS, measure


@pytest.mark.parametrize("name", BOMBS)
def test_a_small_file_costs_little(tmp_path: Path, name: str) -> None:
    bomb = BOMBS[name]
    bomb.write(tmp_path)
    cost = measure(bomb, tmp_path)
    assert re.search(bomb.says, cost.said), cost.said
    assert "Traceback" not in cost.said
    assert cost.peak_mib < 500  # gigabytes before
    if (tmp_path / "data").exists() and not re.search("from source|next to", name):
        assert cost.code == 0  # bad samples are left out
