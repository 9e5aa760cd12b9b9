"""Resuming unfinished work, through the public API."""

from __future__ import annotations

import json
import os
import signal
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from benchmarks.campaign import Campaign, write_campaign
from limbo_compress import Options, OutputError, SampleError, UsageError, compress
from limbo_compress.formats.shard_record import read_shard_records, rows_of
from limbo_compress.plan import plan
from tests import jobs
from tests.jobs import (
    Command,
    empty_mask_warning,
    files,
    labels_below,
    outputs,
    remove_cryptomattes,
    stop_after,
    work_in,
)
from tests.running import RunningCommand

WORK_DIR = ".out.partial"


def job(data: Path, **change: Any) -> Options:
    """A job with masks, next to its data.

    Its one worker does the twelve samples in order, in shards of 3, 2, 1, 1, ... samples.
    """
    return jobs.job(data, data.parent, **{"masks": (("m", "."),)} | change)


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
    """Their paths, in the order of the samples."""
    paths = sorted(data.rglob("*.json"))
    return [path.with_name(json.loads(path.read_text())["image"]["filename"]) for path in paths]


def test_only_the_missing_samples_are_read(data: Path) -> None:
    stop_after(6, job(data))
    for image in images(data)[:6]:
        before = image.stat()
        image.write_bytes(bytes(before.st_size))
        os.utime(image, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert compress(job(data)).resumed == 6


@pytest.mark.uniform
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
    """A job each of whose rows has whole pages. Those of smaller ones are all in shard records."""
    return job(data, image_size=(320, 240), **change)


def check_outputs_of_large(data: Path) -> None:
    resumed = outputs(data.parent)
    compress(large(data, fresh=True))
    assert outputs(data.parent) == resumed


def test_rows_that_changed_are_written_again(data: Path) -> None:
    """After a power cut, rows may be lost although their shard record is there."""
    stop_after(9, large(data))
    array = plan(large(data), rows=12).arrays[0]
    with open(work_in(data.parent) / array.file_name, "r+b") as stream:
        stream.seek(array.whole_pages(range(6, 7)).start)
        stream.write(b"x" * 100)
    assert compress(large(data)).resumed == 8
    check_outputs_of_large(data)


@pytest.mark.parametrize("damage", ["metadata truncated", "record overwritten"])
def test_shards_with_a_damaged_part_file_are_done_again(
    data: Path, expected: dict[str, bytes], damage: str
) -> None:
    stop_after(9, job(data))
    (path,) = work_in(data.parent).glob("rows-000000006-*.part")
    path.write_bytes(path.read_bytes()[:-1] if damage == "metadata truncated" else b"{}\n")
    assert compress(job(data)).resumed == 8
    assert outputs(data.parent) == expected


@pytest.mark.parametrize("lost", ["images.npy", "masks-m.npy"])
def test_a_run_starts_over_if_files_of_the_work_folder_are_lost(data: Path, lost: str) -> None:
    stop_after(9, large(data))
    (work_in(data.parent) / lost).unlink()
    assert compress(large(data)).resumed == 0
    check_outputs_of_large(data)


@pytest.mark.parametrize("content", [None, b"", b"{"])
def test_work_without_its_record_is_kept_and_said(data: Path, content: bytes | None) -> None:
    stop_after(9, large(data))
    (record,) = work_in(data.parent).glob("job-*.json")
    record.unlink()
    if content is not None:
        record.write_bytes(content)
    before = set(files(data.parent / WORK_DIR).values())
    for options in (large(data), large(data, partition="0/2")):
        with pytest.raises(OutputError, match="finished work, but its record is missing or damag"):
            compress(options)
    assert set(files(data.parent / WORK_DIR).values()) == before
    assert compress(large(data, fresh=True)).resumed == 0
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
    problem = f"unfinished work of another job: {difference}.*; `fresh` starts over"
    with pytest.raises(UsageError, match=problem):
        compress(job(data, **change))
    assert compress(job(data)).resumed == 5
    stop_after(5, job(data, fresh=True))
    assert compress(job(data, fresh=True, **change)).resumed == 0


@pytest.fixture
def upgraded(tmp_path: Path) -> dict[str, str]:
    """An environment in which OpenCV and OpenEXR have later versions."""
    folder = tmp_path / "upgraded"
    (folder / "cv2").mkdir(parents=True)
    (folder / "cv2" / "__init__.py").touch()
    (folder / "cv2" / "version.py").write_text('opencv_version = "5.9.9.99"\n')
    (folder / "OpenEXR.py").touch()
    (folder / "openexr-3.99.9.dist-info").mkdir()
    return {"PYTHONPATH": str(folder)}


def test_work_is_not_resumed_with_another_version_of_a_decoder(
    data: Path, command: Command, upgraded: dict[str, str]
) -> None:
    """Two versions may decode the same JPEG to different values."""
    stop_after(5, job(data))
    flags = ("--prefix", "out", "--images", "--metadata", "--image-size", "32", "24")
    resume = (*flags, "--mask", "m", ".", "--", data)
    done = command(*resume, env=upgraded)
    assert (done.returncode, done.stdout) == (2, "")
    versions = [
        f"opencv-python-headless was {metadata.version('opencv-python-headless')}, is 5.9.9.99"
    ]
    versions += [f"OpenEXR was {metadata.version('OpenEXR')}, is 3.99.9"]
    assert done.stderr == (
        f"limbo-compress: {data.parent / WORK_DIR}: unfinished work of another job:"
        f" {', '.join(versions)}; --fresh starts over\n"
    )
    assert "resuming: 5 of 12 samples" in command(*resume).stderr


def test_work_is_resumed_with_another_version_of_a_library_that_is_not_needed(
    data: Path, command: Command, upgraded: dict[str, str]
) -> None:
    stop_after(5, Options((str(data),), prefix=str(data.parent / "out"), metadata=True, workers=1))
    done = command("--prefix", "out", "--metadata", "--", data, env=upgraded)
    assert done.returncode == 0
    assert "resuming: 5 of 12 samples" in done.stderr


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


def test_a_mask_that_earlier_runs_filled_is_not_empty(
    data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    remove_cryptomattes(sorted(data.rglob("*.json"))[3:])
    stop_after(3, job(data))
    report = compress(job(data))
    assert (report.resumed, report.empty_masks) == (3, ())
    assert "all zeros" not in caplog.text


@pytest.mark.parametrize("done", [3, 12])
def test_a_mask_that_no_run_filled_is_named(
    data: Path, command: Command, caplog: pytest.LogCaptureFixture, done: int
) -> None:
    stop_after(done, job(data, masks=(("all", "."), ("m", "^84"))))
    assert "all zeros" not in caplog.text
    flags = ("--prefix", "out", "--images", "--metadata", "--image-size", 32, 24)
    resumed = command(*flags, "--mask", "all", ".", "--mask", "m", "^84", "--", data)
    assert resumed.returncode == 0, resumed.stderr
    first, *others = resumed.stderr.splitlines()
    assert first == f"limbo-compress: resuming: {done} of 12 samples were already done"
    assert [line for line in others if "all zeros" in line] == [
        empty_mask_warning("m", "^84", labels_below(data))
    ]


def test_a_killed_job_knows_its_hits_when_it_resumes(tmp_path: Path) -> None:
    """The command is killed once a shard is done; what it did has the only hits of a mask."""
    data = tmp_path / "data"
    write_campaign(data, Campaign(300, distinct=12, photographs=4, size=(480, 360), instances=5))
    flags = ("--mask", "early", ".", "never", "^84", "--", data)
    killed = RunningCommand(tmp_path, *flags)
    killed.wait_for_shards(4)
    killed.process.kill()
    assert killed.wait() == -signal.SIGKILL, killed.stderr
    labels = labels_below(data)
    done = {row for name in killed.parts() for row in rows_of(Path(name).name) or ()}
    paths = sorted(data.rglob("*.json"))
    remove_cryptomattes([path for row, path in enumerate(paths) if row not in done])
    resumed = RunningCommand(tmp_path, *flags)
    assert resumed.wait() == 0, resumed.stderr
    assert f"resuming: {len(done)} of 300" in resumed.stderr
    assert [line for line in resumed.stderr.splitlines() if "all zeros" in line] == [
        empty_mask_warning("never", "^84", labels)
    ]


def test_records_hold_few_labels(data: Path) -> None:
    for path in sorted(data.rglob("*.json"))[:6]:
        metadata = json.loads(path.read_text())
        if "cryptomatte" in metadata.get("synthetic", {}):
            labels = [f"{path.stem}/{number}" for number in range(30)]
            metadata["synthetic"]["cryptomatte"]["manifest"] += [*labels, 10_000 * "x"]
            path.write_text(json.dumps(metadata))
    stop_after(12, job(data, masks=(("all", "."), ("m", "x"))))
    parts = list(read_shard_records(str(work_in(data.parent))))
    assert max(len(part.labels) for part in parts) == 20
    assert max(len(label) for part in parts for label in part.labels) < 400


def test_records_of_shards_without_a_miss_hold_no_labels(data: Path) -> None:
    stop_after(12, job(data, masks=(("all", "."),)))
    parts = list(read_shard_records(str(work_in(data.parent))))
    cryptomattes = len(list(data.rglob("*.exr")))
    assert sum(part.hits.get("all", 0) for part in parts) == cryptomattes > 0
    assert not any(part.labels for part in parts)


def test_the_work_of_an_older_version_is_not_resumed(data: Path) -> None:
    stop_after(5, job(data))
    (record,) = work_in(data.parent).glob("job-*.json")
    older = json.loads(record.read_text()) | {"format": 5}
    record.write_text(json.dumps(older))
    problem = (
        "unfinished work of an older version, 0.1.0; finish it with that version, or start over"
    )
    with pytest.raises(UsageError, match=problem):
        compress(job(data))
    (record,) = work_in(data.parent).glob("job-*.json")
    record.write_text(json.dumps(older | {"format": 99}))
    with pytest.raises(UsageError, match="unfinished work of a later version;"):
        compress(job(data))
    assert compress(job(data, fresh=True)).resumed == 0
