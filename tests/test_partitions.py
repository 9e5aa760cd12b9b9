"""Partitions of a job, as the tasks of a job array do them, and the run that publishes."""

from __future__ import annotations

import json
import os
import random
import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from limbo_compress import Options, OutputError, SampleError, UsageError, compress, status
from tests.jobs import (
    Command,
    empty_mask_warning,
    error_line,
    files,
    job,
    labels_below,
    outputs,
    remove_cryptomattes,
    work_in,
)
from tests.programs.faults import RunningCommand

WORK_DIR = ".out.partial"


def share(data: Path, index: int, count: int = 3, **change: Any) -> Options:
    return job(data, data.parent, partition=f"{index}/{count}", **change)


@pytest.fixture
def expected(data: Path) -> dict[str, bytes]:
    """The outputs of one run that does everything."""
    folder = data.parent / "whole"
    folder.mkdir()
    compress(job(data, folder))
    return outputs(folder)


def test_partitions_leave_parts_and_the_plain_job_publishes(
    data: Path, expected: dict[str, bytes]
) -> None:
    for index in (2, 0, 1):
        report = compress(share(data, index))
        assert (report.samples, report.written) == (4, ())
        assert outputs(data.parent) == {}
    report = compress(job(data, data.parent))
    assert (report.samples, report.resumed) == (12, 12)
    assert outputs(data.parent) == expected
    assert not (data.parent / WORK_DIR).exists()


def test_the_plain_job_does_what_is_missing(data: Path, expected: dict[str, bytes]) -> None:
    compress(share(data, 1))
    assert compress(job(data, data.parent)).resumed == 4
    assert outputs(data.parent) == expected


def test_a_partition_that_runs_again_does_nothing_twice(data: Path) -> None:
    compress(share(data, 0))
    before = files(work_in(data.parent))
    report = compress(share(data, 0))
    assert (report.samples, report.resumed) == (4, 4)
    after = files(work_in(data.parent))
    (record,), (later,) = (
        set(first) - set(other) for first, other in ((before, after), (after, before))
    )
    assert Path(record).match("job-*.json")
    assert record < later
    del before[record], after[later]
    assert after == before


def test_there_may_be_more_partitions_than_samples(data: Path, expected: dict[str, bytes]) -> None:
    assert sum(compress(share(data, index, 30)).samples for index in range(30)) == 12
    compress(job(data, data.parent))
    assert outputs(data.parent) == expected


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"count": 4}, "`partitions` was 3"),
        ({"image_size": (24, 21)}, r"`image_size` was \[32, 24\]"),
        ({"end": 11}, "`number of samples` was 12"),
    ],
)
def test_a_partition_of_another_job_is_refused(data: Path, change: Any, difference: str) -> None:
    compress(share(data, 0))
    before = files(work_in(data.parent))
    with pytest.raises(UsageError, match=f"unfinished work of another job: {difference}"):
        compress(share(data, **{"index": 1} | change))
    assert files(work_in(data.parent)) == before


def test_a_partition_cannot_start_over() -> None:
    with pytest.raises(UsageError, match="`fresh` would discard the work of other partitions"):
        Options((".",), images=True, partition="0/2", fresh=True)


def test_a_partition_is_done_by_one_run_at_a_time_and_keeps_the_plain_job_out(
    data: Path, expected: dict[str, bytes]
) -> None:
    def progress(done: int, _: int) -> None:
        if done == 1:
            with pytest.raises(OutputError, match="another run is at work on partition 1 of this"):
                compress(share(data, 1))
            with pytest.raises(OutputError, match="another run is at work on partition 1 of this"):
                compress(job(data, data.parent))
            compress(share(data, 0))

    assert compress(share(data, 1), progress).samples == 4
    assert compress(job(data, data.parent)).resumed == 8
    assert outputs(data.parent) == expected


def test_the_plain_job_keeps_partitions_out(data: Path) -> None:
    def progress(done: int, _: int) -> None:
        if done == 3:
            with pytest.raises(OutputError, match="another run is at work on this prefix"):
                compress(share(data, 1))

    assert compress(job(data, data.parent), progress).samples == 12


def test_bad_samples_are_tried_again_by_the_plain_job(data: Path) -> None:
    metadata = sorted(data.rglob("*.json"))[5]
    image = metadata.with_name(json.loads(metadata.read_text())["image"]["filename"])
    good = image.read_bytes()
    image.write_bytes(b"")
    with pytest.raises(SampleError, match="finished work is kept"):
        compress(share(data, 1))
    assert compress(share(data, 1, on_error="skip")).samples == 3
    image.write_bytes(good)
    assert compress(job(data, data.parent)).samples == 12


def test_many_partitions_may_start_at_once(data: Path, expected: dict[str, bytes]) -> None:
    """Twelve at once; some are killed, and the plain command does what they left."""

    def run(index: int) -> int:
        command = RunningCommand(data.parent, "--partition", f"{index}/12", *flags, "--", data)
        if index % 4 == 3:
            command.process.kill()
        return command.wait()

    flags = ("--image-size", "32", "24")
    order = random.Random(0).sample(range(12), 12)
    with ThreadPoolExecutor(12) as pool:
        codes = list(pool.map(run, order))
    assert all(code == 0 for index, code in zip(order, codes, strict=True) if index % 4 != 3)
    compress(job(data, data.parent))
    assert outputs(data.parent) == expected
    assert os.listdir(data.parent).count(WORK_DIR) == 0


def test_only_the_run_that_publishes_names_masks_without_a_hit(
    data: Path, command: Command
) -> None:
    """One partition alone has hits of a mask; none has any of the other."""
    remove_cryptomattes(sorted(data.rglob("*.json"))[4:])
    flags = ("--prefix", "out", "--mask", "m", ".", "big", "^84", "--", data)
    for index in range(3):
        done = command("--partition", f"{index}/3", *flags)
        assert done.returncode == 0, done.stderr
        assert "all zeros" not in done.stderr
    done = command(*flags)
    assert done.returncode == 0, done.stderr
    assert "resuming: 12 of 12 samples" in done.stderr
    assert [line for line in done.stderr.splitlines() if "all zeros" in line] == [
        empty_mask_warning("big", "^84", labels_below(data))
    ]


def test_the_command_says_what_to_do_next(data: Path, command: Command) -> None:
    flags = ("--prefix", "out", "--metadata", "--partition")
    again = {"SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_TASK_MAX": "1", "SLURM_ARRAY_TASK_COUNT": "1"}
    done = command(*flags, "auto/2", "--", data, env=again)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("partition 1/2: 6 samples are done; once all partitions")
    unknown = error_line(command(*flags, "auto", "--", data, env=again), 2)
    assert unknown.startswith("limbo-compress: --partition auto: SLURM_ARRAY_TASK_ID is 1,")
    refused = error_line(command(*flags, "2/2", "--", data), 2)
    assert "--partition 2/2: the first number must be less than the second" in refused


def leave_partition(data: Path, index: int, seconds: float) -> Path:
    """Leave the lock of a partition on another host that was touched some seconds ago."""
    lock = data.parent / WORK_DIR / f"partition-{index}" / "dead"
    lock.parent.mkdir()
    lock.write_text(json.dumps({"pid": 1, "host": "elsewhere", "job": "SLURM 7_1"}))
    os.utime(lock, (time.time() - seconds,) * 2)
    return lock


def test_the_plain_job_waits_until_a_partition_on_another_host_counts_as_dead(
    data: Path, expected: dict[str, bytes], command: Command
) -> None:
    compress(share(data, 0))
    leave_partition(data, 1, 57)
    flags = ("--prefix", "out", "--images", "--metadata", "--image-size", "32", "24", "--", data)
    refused = error_line(command("--wait", 0, *flags))
    who = "partition 1 of this prefix: process 1 on elsewhere, SLURM 7_1"
    assert f"another run may be at work on {who}; set --wait to 60" in refused
    leave_partition(data, 2, 57)
    done = command(*flags)
    assert done.returncode == 0, done.stderr
    waits = r"waiting up to \d seconds \(--wait\): another run may be at work on partition"
    assert re.search(waits, done.stderr)
    assert outputs(data.parent) == expected


def test_the_status_says_what_is_done_and_what_is_missing(data: Path, command: Command) -> None:
    flags = ("--status", "--prefix", "out")
    idle = command(*flags)
    assert (idle.returncode, idle.stderr) == (0, "")
    assert idle.stdout == f"{data.parent / WORK_DIR}: there is no unfinished work\n"
    compress(share(data, 1))
    before = files(data.parent / WORK_DIR)
    done = command(*flags)
    assert done.returncode == 0, done.stderr
    lines = [
        f"{data.parent / WORK_DIR}: 4 of 12 samples are done",
        "partition 0/3: 0 of 4 samples",
        "partition 2/3: 0 of 4 samples",
        "missing: rows 0 to 3",
        "missing: rows 8 to 11",
    ]
    assert done.stdout.splitlines() == lines
    assert command(*flags, "--images", "--", data).stdout == done.stdout
    assert files(data.parent / WORK_DIR) == before


@pytest.mark.parametrize("prefix", ["no-such-folder/out", ".", ""])
def test_the_status_of_what_cannot_be_a_prefix_is_refused(command: Command, prefix: str) -> None:
    error_line(command("--status", "--prefix", prefix), 2)


def test_the_status_names_bad_samples(data: Path, command: Command) -> None:
    image = sorted(data.rglob("image_*.*g"))[5]
    image.write_bytes(b"")
    compress(share(data, 1, on_error="skip"))
    (failure,) = status(data.parent / "out").failures
    assert image.name in failure.text
    lines = command("--status", "--prefix", "out").stdout.splitlines()
    assert lines[0].endswith("4 of 12 samples are done, 1 of them bad")
    assert f"bad: row {failure.row}: {failure}" in lines


def test_the_status_names_who_is_at_work_and_how_fast(data: Path, command: Command) -> None:
    compress(share(data, 0))
    leave_partition(data, 1, 90)
    shown: list[str] = []

    def progress(done: int, _: int) -> None:
        found = status(data.parent / "out")
        assert found.at_work == {"partition-2": f"process {os.getpid()} on {socket.gethostname()}"}
        assert found.lost == {"partition-1": "process 1 on elsewhere, SLURM 7_1"}
        if done < 2:  # only the parts of runs at work count, after the first of them
            assert found.rate is None
        elif done == 3:
            assert found.rate is not None
            assert found.seconds_left == pytest.approx(5 / found.rate)
            shown.extend(command("--status", "--prefix", "out").stdout.splitlines())

    compress(share(data, 2), progress)
    assert re.fullmatch(r"[\d.e+]+ samples/s lately; at this rate, 0:00:\d\d is left", shown[1])
    assert shown[2].startswith("at work on partition 2: process ")
    assert shown[3] == "lost on partition 1: process 1 on elsewhere, SLURM 7_1"


def test_the_status_of_a_job_of_many_partitions_is_short(data: Path, command: Command) -> None:
    compress(share(data, 1))
    (record,) = work_in(data.parent).glob("job-*.json")
    record.write_text(json.dumps(json.loads(record.read_text()) | {"partitions": 10**8}))
    lines = command("--status", "--prefix", "out").stdout.splitlines()
    assert len(lines) < 15
    record.write_text(json.dumps({"number of samples": 10**8, "partitions": 10**8}))
    lines = command("--status", "--prefix", "out").stdout.splitlines()
    assert len(lines) < 30
    assert "..." in lines
