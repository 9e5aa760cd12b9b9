from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbo_compress import Options
from limbo_compress.output import record
from limbo_compress.output.filesystem import write_synced
from limbo_compress.output.resume import missing
from limbo_compress.plan import plan


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30))))
def test_the_missing_rows_are_those_that_no_run_has_done(pairs: list[tuple[int, int]]) -> None:
    done = sorted((range(*sorted(pair)) for pair in pairs), key=lambda rows: rows.start)
    found = [row for rows in missing(done, range(30)) for row in rows]
    assert found == sorted(set(range(30)).difference(*done))


def test_a_record_that_is_written_late_disowns_no_other_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run of a partition may stall in it while another one joins."""
    job = plan(Options((str(tmp_path),), str(tmp_path / "out"), images=True), 3)
    os.makedirs(job.folder)

    def stall(path: str, text: str, draft: str) -> None:
        monkeypatch.undo()
        assert record.write_record(replace(job, run="b"), job.folder, {}) == ["a", "b"]
        write_synced(path, text, draft)

    assert record.write_record(replace(job, run="a"), job.folder, {}) == ["a"]
    monkeypatch.setattr("limbo_compress.output.record.write_synced", stall)
    record.write_record(replace(job, run="late"), job.folder, {})
    runs = record.write_record(replace(job, run="c"), job.folder, {})
    assert sorted(runs) == ["a", "b", "c", "late"]
    assert len(record.record_names(job.folder)) == 1
