"""Several runs on one prefix; ``make faults`` does the same hundreds of times."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from tests.programs.faults import Testbed, has_hosts, start_at_once, suspend_and_take_over


@pytest.fixture(scope="module")
def testbed(tmp_path_factory: pytest.TempPathFactory) -> Testbed:
    return Testbed(tmp_path_factory.mktemp("testbed"), samples=100)


@pytest.mark.parametrize("seed", range(6))
def test_of_runs_started_at_once_one_at_a_time_works(testbed: Testbed, seed: int) -> None:
    counts: Counter[str] = Counter()
    start_at_once(testbed, random.Random(seed), counts)
    assert counts["run that won beside others"] > 0


@pytest.mark.skipif(not has_hosts(), reason="a host name cannot be changed here")
@pytest.mark.parametrize("seed", range(2))
def test_a_run_that_was_taken_over_publishes_nothing(testbed: Testbed, seed: int) -> None:
    counts: Counter[str] = Counter()
    suspend_and_take_over(testbed, random.Random(seed), counts)
    assert counts["run taken over"] == 1
