"""Partitions of a job, as the tasks of a job array do them, and the run that publishes."""

from __future__ import annotations

import json
import os
import random
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from limbo_compress import Options, OutputError, SampleError, UsageError, compress, status
from tests.faults import RunningCommand
from tests.jobs import (
    Command,
    empty_mask_warning,
    files,
    job,
    labels_below,
    outputs,
    remove_cryptomattes,
)

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
    before = files(data.parent / WORK_DIR)
    report = compress(share(data, 0))
    assert (report.samples, report.resumed) == (4, 4)
    after = files(data.parent / WORK_DIR)
    (record,), (later,) = (
        set(first) - set(other) for first, other in ((before, after), (after, before))
    )
    assert (record, later) == ("job-1.json", "job-2.json")
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
    before = files(data.parent / WORK_DIR)
    with pytest.raises(UsageError, match=f"unfinished work of another job: {difference}"):
        compress(share(data, **{"index": 1} | change))
    assert files(data.parent / WORK_DIR) == before


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
    environ = {"SLURM_ARRAY_TASK_ID": "4", "SLURM_ARRAY_TASK_MIN": "4"}
    done = command(*flags, "auto", "--", data, env=environ | {"SLURM_ARRAY_TASK_COUNT": "2"})
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("partition 0/2: 6 samples are done; once all partitions")
    refused = command(*flags, "2/2", "--", data)
    assert refused.returncode == 2
    assert refused.stderr == (
        "limbo-compress: --partition 2/2: the first number must be less than the second\n"
    )


def test_the_status_says_what_is_done_and_what_is_missing(data: Path, command: Command) -> None:
    flags = ("--prefix", "out", "--images", "--metadata", "--image-size", "32", "24")
    idle = command(*flags, "--status", "--", data)
    assert idle.stdout == f"{data.parent / WORK_DIR}: there is no unfinished work\n"
    compress(share(data, 1))
    before = files(data.parent / WORK_DIR)
    done = command(*flags, "--status", "--", data)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"{data.parent / WORK_DIR}: 4 of 12 samples are done",
        "partition 0/3: 0 of 4 samples",
        "partition 1/3: 4 of 4 samples",
        "partition 2/3: 0 of 4 samples",
        "missing: rows 0 to 3",
        "missing: rows 8 to 11",
    ]
    assert files(data.parent / WORK_DIR) == before


def test_the_status_names_who_is_at_work(data: Path) -> None:
    def progress(done: int, _: int) -> None:
        who = status(share(data, 2)).at_work
        assert who == {"partition-2": f"process {os.getpid()} on {socket.gethostname()}"}

    compress(share(data, 2), progress)
