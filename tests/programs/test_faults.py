"""A short version of ``make faults``."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import pytest

from tests.programs.faults import ROUNDS, Testbed


@pytest.fixture(scope="module")
def testbed(tmp_path_factory: pytest.TempPathFactory) -> Testbed:
    return Testbed(tmp_path_factory.mktemp("testbed"))


@pytest.mark.parametrize("do_round", ROUNDS, ids=lambda function: function.__name__)
def test_faults_are_survived(
    testbed: Testbed, do_round: Callable[[Testbed, random.Random, Counter[str]], None]
) -> None:
    counts: Counter[str] = Counter()
    do_round(testbed, random.Random(1), counts)
    assert counts.total() > 0
