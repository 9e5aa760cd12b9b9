"""A short version of ``make faults``."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from tests.programs.faults import ROUNDS, Round, Testbed, start_at_once


@pytest.fixture(scope="module")
def testbed(tmp_path_factory: pytest.TempPathFactory) -> Testbed:
    return Testbed(tmp_path_factory.mktemp("testbed"))


@pytest.mark.parametrize(
    ("do_round", "seed"),
    [
        *((do_round, 1) for do_round in ROUNDS if do_round is not start_at_once),
        *((start_at_once, seed) for seed in range(6)),
    ],
)
def test_faults_are_survived(testbed: Testbed, do_round: Round, seed: int) -> None:
    counts: Counter[str] = Counter()
    do_round(testbed, random.Random(seed), counts)
    assert counts.total() > 0
