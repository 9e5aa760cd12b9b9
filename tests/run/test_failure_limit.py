from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from limbo_compress import Options, SampleError, SampleIssue, compress
from limbo_compress.formats.shard_record import ShardRecord
from limbo_compress.run.failure_limit import FailureLimit
from tests.jobs import Command, job, outputs


def part(rows: range) -> ShardRecord:
    """A part of bad samples."""
    issues = tuple(SampleIssue(row, f"/{row}.json", "bad") for row in rows)
    return ShardRecord(rows.start, rows.stop, "run", failures=issues)


def limit(missing: list[range]) -> FailureLimit:
    return FailureLimit(Options((".",), metadata=True, on_error="skip"), 1000, missing)


@pytest.mark.parametrize(
    "rows",
    [
        [range(20)],
        [range(10, 15), range(25, 40), range(15, 25)],
        [range(995, 1000), range(980, 995)],
    ],
    ids=str,
)
def test_parts_may_come_in_any_order(rows: list[range]) -> None:
    whole = limit([range(1000)])
    *others, last = rows
    for other in others:
        whole.check(part(other))
    with pytest.raises(SampleError, match="one of 20 bad samples in a row: bad"):
        whole.check(part(last))


def test_in_a_row_are_the_rows_that_this_run_does() -> None:
    """Those of an earlier run say nothing about the machine as it is now."""
    resumed = limit([range(10), range(700, 705), range(900, 1000)])
    for rows in (range(10), range(900, 904), range(904, 906)):
        resumed.check(part(rows))
    with pytest.raises(SampleError, match=r"/70\d\.json: one of 20 bad samples in a row"):
        resumed.check(part(range(700, 705)))


def test_nineteen_in_a_row_are_allowed_again_and_again() -> None:
    whole = limit([range(1000)])
    for start in range(0, 1000, 20):
        whole.check(part(range(start, start + 19)))


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """A hundred good samples."""
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(100):
        (folder / f"{number:03}.json").write_text("{}")
    return folder


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("rows", [range(20), range(30, 55), range(80, 100)], ids=str)
def test_twenty_bad_samples_in_a_row_end_the_job(many: Path, rows: range, workers: int) -> None:
    for row in rows:
        (many / f"{row:03}.json").write_text("[]")
    change: dict[str, Any] = {"images": False, "on_error": "skip", "workers": workers}
    with pytest.raises(SampleError, match="one of 20 bad samples in a row: its metadata is a JSON"):
        compress(job(many, many.parent, **change))
    assert outputs(many.parent) == {}
    report = compress(job(many, many.parent, **change, max_failures=str(len(rows))))
    assert report.samples == 100 - len(rows)


def test_an_unforeseen_exception_on_every_sample_ends_the_job_soon(
    command: Command, many: Path
) -> None:
    flags = ("--prefix", "out", "--metadata", "--on-error", "skip", "--workers", 2, many)
    env = {"TESTS_CRASH_BY": "exception"}
    done = command("many", *flags, module="tests.programs.crashing", env=env)
    assert done.returncode == 1
    assert "one of 20 bad samples in a row" in done.stderr
    assert outputs(many.parent) == {}
