"""Jobs with bad samples, which `on_error` skip leaves out of every output."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from limbo_compress import Options, Report, SampleError, UsageError, compress
from tests import jobs
from tests.jobs import outputs

MASKS = (("m", "."),)


def job(data: Path, **change: Any) -> Options:
    """A job next to its data that leaves bad samples out."""
    return jobs.job(data, data.parent, **{"on_error": "skip"} | change)


def metadata_files(data: Path) -> list[Path]:
    return sorted(data.rglob("*.json"))


def spoil(data: Path, rows: list[int]) -> None:
    for row in rows:
        metadata_files(data)[row].write_text("[]")


@dataclass
class Done:
    """A job that left out bad samples, and what it would have written with all samples."""

    folder: Path
    bad: list[int]
    whole: dict[str, Any]
    report: Report

    @property
    def good(self) -> list[int]:
        return [row for row in range(12) if row not in self.bad]


def load_outputs(folder: Path) -> dict[str, Any]:
    names = ("images.npy", "masks-m.npy", "metadata.pickle")
    return {name: np.load(folder / f"out-{name}", allow_pickle=True) for name in names}


@pytest.fixture(scope="module")
def whole(campaign: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("whole")
    compress(jobs.job(campaign, folder, masks=MASKS))
    return load_outputs(folder)


@pytest.fixture(
    scope="module", params=[[0], [11], [3, 4, 9], [0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11]], ids=str
)
def bad(request: pytest.FixtureRequest) -> list[int]:
    rows: list[int] = request.param
    return rows


@pytest.fixture(scope="module", params=[1, 2], ids=lambda workers: f"workers={workers}")
def done(
    request: pytest.FixtureRequest,
    campaign: Path,
    tmp_path_factory: pytest.TempPathFactory,
    bad: list[int],
    whole: dict[str, Any],
) -> Done:
    data = Path(shutil.copytree(campaign, tmp_path_factory.mktemp("done") / "data"))
    spoil(data, bad)
    report = compress(job(data, masks=MASKS, workers=request.param))
    return Done(data.parent, bad, whole, report)


def test_all_outputs_have_the_rows_of_the_good_samples(done: Done) -> None:
    outputs = load_outputs(done.folder)
    metadata = outputs.pop("metadata.pickle")
    assert metadata == [done.whole["metadata.pickle"][row] for row in done.good]
    for name, array in outputs.items():
        np.testing.assert_array_equal(array, done.whole[name][done.good])


def test_bad_samples_are_listed_in_a_file(done: Done) -> None:
    lines = (done.folder / "out-failures.jsonl").read_text().splitlines()
    paths = metadata_files(done.folder / "data")
    reason = "its metadata is a JSON list, not an object"
    assert [json.loads(line) for line in lines] == [
        {"path": str(paths[row]), "row": row, "reason": reason} for row in done.bad
    ]


def test_the_report_counts_good_samples_and_names_bad_ones(done: Done) -> None:
    report = done.report
    assert report.samples == len(done.good)
    assert sorted(failure.row for failure in report.failures) == done.bad
    assert report.written[0].shape == (len(done.good), 24, 32, 3)
    for file in report.written:
        assert Path(file.path).stat().st_size == file.bytes


def test_the_list_of_an_earlier_run_is_removed(data: Path) -> None:
    path = metadata_files(data)[2]
    text = path.read_text()
    spoil(data, [2])
    compress(job(data))
    assert "failures.jsonl" in outputs(data.parent)
    path.write_text(text)
    compress(job(data))
    assert "failures.jsonl" not in outputs(data.parent)


@pytest.mark.parametrize("allowed", ["3", "25%"])
def test_as_many_bad_samples_as_allowed_are_left_out(data: Path, allowed: str) -> None:
    spoil(data, [1, 5, 6])
    assert compress(job(data, max_failures=allowed)).samples == 9


@pytest.mark.parametrize("allowed", ["2", "24%"])
def test_more_bad_samples_than_allowed_fail_the_job(data: Path, allowed: str) -> None:
    spoil(data, [1, 5, 6])
    with pytest.raises(SampleError, match="3 of 12 samples are bad; `max_failures` is"):
        compress(job(data, max_failures=allowed))
    assert outputs(data.parent) == {}


def test_a_job_of_bad_samples_only_fails(data: Path) -> None:
    spoil(data, list(range(12)))
    with pytest.raises(SampleError, match="12 of 12 samples are bad"):
        compress(job(data))
    assert outputs(data.parent) == {}


@pytest.mark.parametrize("allowed", ["-1", "x", "5%%", "", "1.5"])
def test_max_failures_must_be_a_number_or_a_percentage(data: Path, allowed: str) -> None:
    with pytest.raises(UsageError, match="`max_failures`"):
        job(data, max_failures=allowed)
