"""A short version of ``make faults``."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import pytest

from tests.faults import KINDS, Ground


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    return Ground(tmp_path_factory.mktemp("ground"))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_faults_are_survived(
    ground: Ground, kind: Callable[[Ground, random.Random, Counter[str]], None]
) -> None:
    counts: Counter[str] = Counter()
    kind(ground, random.Random(1), counts)
    assert counts.total() > 0
