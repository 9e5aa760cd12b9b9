"""Resuming unfinished work, through the public API."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from limbo_compress import Options, SampleError, UsageError, compress
from tests import jobs
from tests.jobs import outputs


class EnoughError(Exception):
    """What these tests stop a run with."""


@pytest.fixture
def data(campaign: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Samples of the test's own, each a shard, so that a run can stop after any."""
    monkeypatch.setattr("limbo_compress.run.shards._LARGEST", 1)
    return Path(shutil.copytree(campaign, tmp_path / "data"))


def job(data: Path, **change: Any) -> Options:
    """A job with masks, beside its data."""
    return jobs.job(data, data.parent, **{"masks": (("m", "."),), "image_size": (24, 20)} | change)


def stop_after(samples: int, options: Options) -> None:
    def progress(done: int, total: int) -> None:
        if done == samples:
            raise EnoughError

    with pytest.raises(EnoughError):
        compress(options, progress)


@pytest.mark.parametrize("done", [0, 1, 7, 11, 12])
def test_a_run_resumes_where_the_last_one_stopped(data: Path, done: int) -> None:
    compress(job(data, prefix=str(data.parent / "whole")))
    stop_after(done, job(data))
    assert outputs(data.parent) == {}
    for image in sorted(data.rglob("image_*.*g"))[:done]:
        os.utime(image)  # not looked at again
    seen: list[int] = []
    report = compress(job(data, workers=2), lambda done, _: seen.append(done))
    assert report.resumed == seen[0] == done
    assert outputs(data.parent) == outputs(data.parent, "whole")
    assert not (data.parent / ".out.partial").exists()


def test_only_what_is_missing_is_read(data: Path) -> None:
    stop_after(6, job(data))
    for image in sorted(data.rglob("image_*.*g"))[:6]:
        image.write_bytes(b"no longer an image")
    assert compress(job(data)).resumed == 6


def test_rows_that_are_not_what_was_written_are_done_again(data: Path) -> None:
    """As after a power cut, or a death while rows were moved."""
    compress(job(data, prefix=str(data.parent / "whole")))
    stop_after(9, job(data))
    images = data.parent / ".out.partial" / "images.npy"
    with open(images, "r+b") as stream:
        stream.seek(128 + 3 * 24 * 20 * 6)
        stream.write(b"x" * 100)
    part = sorted(images.parent.glob("*.part"))[5]
    part.write_bytes(part.read_bytes()[:-1])
    sorted(images.parent.glob("*.part"))[7].write_bytes(b"{}\n")
    assert compress(job(data)).resumed == 6
    assert outputs(data.parent) == outputs(data.parent, "whole")


@pytest.mark.parametrize("lost", ["images.npy", "masks-m.npy", "job.json"])
def test_lost_files_of_the_work_folder_cost_time_only(data: Path, lost: str) -> None:
    compress(job(data, prefix=str(data.parent / "whole")))
    stop_after(9, job(data))
    (data.parent / ".out.partial" / lost).unlink()
    assert compress(job(data)).resumed == 0
    assert outputs(data.parent) == outputs(data.parent, "whole")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"image_size": (24, 21)}, r"`image_size` was \[24, 20\]"),
        ({"masks": ()}, r"`masks` was \[\['m', '\.'\]\]"),
        ({"strip_regions": True}, "`strip_regions` was False"),
        ({"end": 11}, "`number of samples` was 12, the list of samples changed"),
    ],
)
def test_work_of_another_job_is_not_resumed(data: Path, change: Any, told: str) -> None:
    stop_after(5, job(data))
    with pytest.raises(UsageError, match=f"unfinished work of another job: {told}.*--fresh"):
        compress(job(data, **change))
    assert compress(job(data)).resumed == 5
    stop_after(5, job(data))
    assert compress(job(data, fresh=True, **change)).resumed == 0


def test_changed_samples_are_another_job(data: Path) -> None:
    stop_after(5, job(data))
    path = sorted(data.rglob("*.json"))[9]
    path.write_text(path.read_text() + "\n")
    with pytest.raises(UsageError, match="the sizes and times of the metadata files changed"):
        compress(job(data))
    compress(job(data, fresh=True))


def test_options_that_change_no_byte_do_not_matter(data: Path) -> None:
    stop_after(5, job(data))
    change = {"workers": 3, "on_error": "skip", "max_pixels": 10**8, "write_rows": "pwrite"}
    assert compress(job(data, **change)).resumed == 5


def test_a_mended_sample_is_tried_again(data: Path) -> None:
    broken = sorted(data.rglob("image_*.*g"))[4]
    good = broken.read_bytes()
    broken.write_bytes(good[:100])
    with pytest.raises(SampleError, match="finished work is kept: the same command resumes it"):
        compress(job(data))
    broken.write_bytes(good)
    assert compress(job(data)).resumed == 4


def spoil(data: Path, rows: list[int]) -> None:
    for row in rows:
        sorted(data.rglob("*.json"))[row].write_text("[]")


@pytest.mark.parametrize("bad", [[0], [11], [3, 4, 9], [0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11]])
@pytest.mark.parametrize("workers", [1, 2])
def test_bad_samples_are_left_out_of_every_output(data: Path, bad: list[int], workers: int) -> None:
    compress(job(data, prefix=str(data.parent / "whole")))
    paths = sorted(data.rglob("*.json"))
    good = [row for row in range(12) if row not in bad]
    kept = [json.loads(paths[row].read_text()) for row in good]
    spoil(data, bad)
    report = compress(job(data, on_error="skip", workers=workers))
    found = np.load(data.parent / "out-images.npy")
    np.testing.assert_array_equal(found, np.load(data.parent / "whole-images.npy")[good])
    found = np.load(data.parent / "out-masks-m.npy")
    np.testing.assert_array_equal(found, np.load(data.parent / "whole-masks-m.npy")[good])
    assert np.load(data.parent / "out-metadata.pickle", allow_pickle=True) == kept
    lines = (data.parent / "out-failures.jsonl").read_text().splitlines()
    reason = "its metadata is a JSON list, not an object"
    assert [json.loads(line) for line in lines] == [
        {"path": str(paths[row]), "row": row, "reason": reason} for row in bad
    ]
    assert report.samples == len(good)
    assert sorted(failure.row for failure in report.failures) == bad
    assert report.written[0].shape == (len(good), 20, 24, 3)
    for file in report.written:
        assert Path(file.path).stat().st_size == file.bytes


def test_a_list_of_failures_goes_when_there_are_none(data: Path) -> None:
    path = sorted(data.rglob("*.json"))[2]
    text = path.read_text()
    spoil(data, [2])
    compress(job(data, on_error="skip"))
    path.write_text(text)
    compress(job(data, on_error="skip"))
    assert "failures.jsonl" not in outputs(data.parent)


@pytest.mark.parametrize(
    ("allowed", "holds"), [("2", False), ("3", True), ("24%", False), ("25%", True)]
)
def test_more_bad_samples_than_allowed_fail(data: Path, allowed: str, holds: bool) -> None:
    spoil(data, [1, 5, 6])
    options = job(data, on_error="skip", max_failures=allowed)
    if holds:
        assert compress(options).samples == 9
    else:
        with pytest.raises(SampleError, match=r"3 of 12 samples are bad, `max_failures` is"):
            compress(options)
        assert outputs(data.parent) == {}


def test_nothing_but_bad_samples_fails(data: Path) -> None:
    spoil(data, list(range(12)))
    with pytest.raises(SampleError, match="12 of 12 samples are bad"):
        compress(job(data, on_error="skip"))
    assert outputs(data.parent) == {}


@pytest.mark.parametrize("allowed", ["-1", "x", "5%%", "", "1.5"])
def test_a_number_of_failures_that_makes_no_sense(data: Path, allowed: str) -> None:
    with pytest.raises(UsageError, match="`max_failures`"):
        job(data, on_error="skip", max_failures=allowed)


def test_how_samples_are_divided_changes_no_byte(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a shard whose workers died was divided."""
    compress(job(data, prefix=str(data.parent / "whole")))
    monkeypatch.setattr("limbo_compress.run.shards._LARGEST", 5)
    compress(job(data))
    assert outputs(data.parent) == outputs(data.parent, "whole")


def test_two_runs_on_one_prefix(data: Path) -> None:
    def progress(done: int, total: int) -> None:
        if done == 3:
            with pytest.raises(Exception, match="another run is at work on this prefix"):
                compress(job(data))

    assert compress(job(data), progress).samples == 12
