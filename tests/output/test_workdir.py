from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbo_compress import Options
from limbo_compress.formats.shard_record import ShardRecord
from limbo_compress.output import record
from limbo_compress.output.filesystem import write_synced
from limbo_compress.output.resume import missing
from limbo_compress.plan import plan


@given(st.lists(st.booleans(), max_size=60))
def test_the_missing_rows_are_those_of_no_part(done: list[bool]) -> None:
    parts = [ShardRecord(row, row + 1, "run") for row, is_done in enumerate(done) if is_done]
    undone = [row for rows in missing(parts, range(len(done))) for row in rows]
    assert undone == [row for row, is_done in enumerate(done) if not is_done]


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
