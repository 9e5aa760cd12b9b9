"""Resuming unfinished work, through the public API."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from limbo_compress import Options, OutputError, SampleError, UsageError, compress
from limbo_compress.plan import plan
from tests import jobs
from tests.jobs import outputs

WORK_DIR = ".out.partial"


class InterruptionError(Exception):
    """What ends a run in these tests."""


def job(data: Path, **change: Any) -> Options:
    """A job with masks, beside its data.

    Its one worker does the twelve samples in order, in shards of 3, 2, 1, 1, ... samples.
    """
    return jobs.job(data, data.parent, **{"masks": (("m", "."),)} | change)


def stop_after(samples: int, options: Options) -> None:
    def progress(done: int, total: int) -> None:
        if done == samples:
            raise InterruptionError

    with pytest.raises(InterruptionError):
        compress(options, progress)


@pytest.fixture
def expected(data: Path) -> dict[str, bytes]:
    """The outputs of an undisturbed run over the same paths, which the index tells."""
    folder = data.parent / "undisturbed"
    folder.mkdir()
    compress(jobs.job(data, folder, masks=(("m", "."),)))
    return outputs(folder)


@pytest.mark.parametrize("done", [0, 3, 7, 11, 12])
def test_a_run_resumes_where_the_last_one_stopped(
    data: Path, expected: dict[str, bytes], done: int
) -> None:
    stop_after(done, job(data))
    assert outputs(data.parent) == {}
    progress: list[int] = []
    report = compress(job(data, workers=2), lambda done, _: progress.append(done))
    assert report.resumed == progress[0] == done
    assert outputs(data.parent) == expected
    assert not (data.parent / WORK_DIR).exists()


def images(data: Path) -> list[Path]:
    return sorted(data.rglob("image_*.*g"))


def test_only_the_missing_samples_are_read(data: Path) -> None:
    stop_after(6, job(data))
    for image in images(data)[:6]:
        before = image.stat()
        image.write_bytes(bytes(before.st_size))
        os.utime(image, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert compress(job(data)).resumed == 6


@pytest.mark.parametrize("kind", ["image_*.*g", "*.exr", "*.json"])
def test_samples_that_changed_are_done_again(
    data: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    stop_after(6, job(data))  # rows 0 to 2, 3 to 4, and 5
    changed = [sorted(data.rglob(kind))[row] for row in (1, 2)]
    for path, other in zip(changed, reversed(changed), strict=True):
        content = other.read_bytes()
        path.rename(path.with_suffix(".old"))
        path.write_bytes(content)
    assert compress(job(data)).resumed == 3
    assert f"files have changed since they were read, such as {changed[0]}" in caplog.text
    resumed = outputs(data.parent)
    compress(job(data, fresh=True))
    assert outputs(data.parent) == resumed


def test_a_sample_that_was_removed_is_bad(data: Path) -> None:
    stop_after(6, job(data))
    images(data)[1].unlink()
    with pytest.raises(SampleError, match="No such file"):
        compress(job(data))
    assert compress(job(data, on_error="skip")).samples == 11


def large(data: Path, **change: Any) -> Options:
    """A job each of whose rows has whole pages. Those of smaller ones are all in part-files."""
    return job(data, image_size=(320, 240), **change)


def check_outputs_of_large(data: Path) -> None:
    resumed = outputs(data.parent)
    compress(large(data, fresh=True))
    assert outputs(data.parent) == resumed


def test_rows_that_changed_are_written_again(data: Path) -> None:
    """After a power cut, rows may be lost although their part-file is there."""
    stop_after(9, large(data))
    array = plan(large(data), rows=12).arrays[0]
    with open(data.parent / WORK_DIR / array.file_name, "r+b") as stream:
        stream.seek(array.whole_pages(range(6, 7)).start)
        stream.write(b"x" * 100)
    assert compress(large(data)).resumed == 8
    check_outputs_of_large(data)


@pytest.mark.parametrize("damage", ["metadata truncated", "record overwritten"])
def test_shards_with_a_damaged_part_file_are_done_again(
    data: Path, expected: dict[str, bytes], damage: str
) -> None:
    stop_after(9, job(data))
    (path,) = (data.parent / WORK_DIR).glob("rows-000000006-*.part")
    path.write_bytes(path.read_bytes()[:-1] if damage == "metadata truncated" else b"{}\n")
    assert compress(job(data)).resumed == 8
    assert outputs(data.parent) == expected


@pytest.mark.parametrize("lost", ["images.npy", "masks-m.npy", "job-1.json"])
def test_a_run_starts_over_if_files_of_the_work_folder_are_lost(data: Path, lost: str) -> None:
    stop_after(9, large(data))
    (data.parent / WORK_DIR / lost).unlink()
    assert compress(large(data)).resumed == 0
    check_outputs_of_large(data)


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"image_size": (24, 21)}, r"`image_size` was \[32, 24\]"),
        ({"masks": ()}, r"`masks` was \[\['m', '\.'\]\]"),
        ({"strip_regions": True}, "`strip_regions` was False"),
        ({"end": 11}, "`number of samples` was 12, the list of samples changed"),
    ],
)
def test_work_of_another_job_is_not_resumed(data: Path, change: Any, difference: str) -> None:
    stop_after(5, job(data))
    with pytest.raises(UsageError, match=f"unfinished work of another job: {difference}"):
        compress(job(data, **change))
    assert compress(job(data)).resumed == 5


def test_fresh_discards_the_work_of_another_job(data: Path) -> None:
    stop_after(5, job(data))
    with pytest.raises(UsageError, match="`fresh` starts over"):
        compress(job(data, strip_regions=True))
    assert compress(job(data, strip_regions=True, fresh=True)).resumed == 0


def test_options_that_change_no_byte_may_differ(data: Path) -> None:
    stop_after(5, job(data))
    change = {"workers": 3, "on_error": "skip", "max_pixels": 10**8, "write_rows": "pwrite"}
    assert compress(job(data, **change)).resumed == 5


def test_a_repaired_sample_is_tried_again(data: Path) -> None:
    broken = images(data)[6]
    good = broken.read_bytes()
    broken.write_bytes(good[:100])
    with pytest.raises(SampleError, match="finished work is kept: the same command resumes it"):
        compress(job(data))
    broken.write_bytes(good)
    assert compress(job(data)).resumed == 6


def test_two_runs_cannot_share_a_prefix(data: Path) -> None:
    def progress(done: int, total: int) -> None:
        if done == 3:
            with pytest.raises(OutputError, match="another run is at work on this prefix"):
                compress(job(data))

    assert compress(job(data), progress).samples == 12
