"""A fixed part of ``make enumerate``."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.programs.enumerate import SCENARIOS, Bed, cases_of, choose, count, summary

# About how many classes there are for each that is tried.
SHARE = 64


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Bed:
    return Bed(tmp_path_factory.mktemp("files"), tmp_path_factory.mktemp("outputs"))


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_any_file_call_may_go_wrong(
    bed: Bed, scenario: str, record_property: Callable[[str, object], None]
) -> None:
    outcomes = [bed.attempt(case) for case in choose(cases_of(bed, scenario), SHARE)]
    counts = count(outcomes)
    record_property("classes of file calls", counts.classes)
    assert counts.not_met < counts.tried
    assert not counts.failed, summary(outcomes)
