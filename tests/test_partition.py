"""Partitions of a job: which rows they have, what a job array does, and the run that publishes."""

from __future__ import annotations

import json
import os
import random
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbo_compress import Options, OutputError, SampleError, UsageError, compress
from limbo_compress.partition import Partition, job_id, parse_partition
from tests.jobs import (
    Command,
    empty_mask_warning,
    error_line,
    files,
    job,
    labels_below,
    leave_partition,
    outputs,
    remove_cryptomattes,
    work_in,
)
from tests.running import RunningCommand

WORK_DIR = ".out.partial"


@given(st.integers(0, 300), st.integers(1, 40))
def test_partitions_cover_each_row_once_and_are_about_equal(rows: int, count: int) -> None:
    shares = [Partition(index, count).rows(rows) for index in range(count)]
    assert [row for share in shares for row in share] == list(range(rows))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@given(st.integers(1, 300), st.integers(1, 400))
def test_each_row_is_in_the_partition_that_has_it(rows: int, count: int) -> None:
    assert all(row in Partition.of(row, rows, count).rows(rows) for row in range(rows))


def slurm(number: int, numbers: Sequence[int], step: int = 1) -> dict[str, str]:
    """What `sbatch --array` sets, and what is set in every batch job."""
    array = {"ID": number, "MIN": min(numbers), "MAX": max(numbers), "STEP": step}
    variables = {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in array.items()}
    variables["SLURM_ARRAY_TASK_COUNT"] = str(len(numbers))
    return variables | BATCH


BATCH = {"SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "SLURM_NTASKS": "1"}
SRUN = BATCH | {"SLURM_PROCID": "2", "SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "4"}


@pytest.mark.parametrize(
    ("text", "environ", "expected"),
    [
        ("0/1", {}, (0, 1)),
        ("15/16", slurm(3, range(8)), (15, 16)),
        ("auto", slurm(3, range(8)), (3, 8)),
        ("auto/4", slurm(3, range(4)), (3, 4)),
        ("auto/4", slurm(2, [2]), (2, 4)),
        ("auto/4", slurm(3, [0, 3]), (3, 4)),
        ("auto/4", slurm(2, range(1, 5)), (2, 4)),
        ("auto", SRUN, (2, 4)),
        ("auto/8", SRUN, (2, 8)),
        ("auto/16", {"PBS_ARRAY_INDEX": "0"}, (0, 16)),
        ("auto/4", {"LSB_JOBINDEX": "1", "LSB_JOBINDEX_END": "4"}, (0, 4)),
        ("auto/4", {"LSB_JOBINDEX": "3", "LSB_JOBINDEX_END": "3"}, (2, 4)),
        ("auto/4", {"LSB_JOBINDEX": "4"}, (3, 4)),
        ("auto/5", {"JOB_COMPLETION_INDEX": "4"}, (4, 5)),
        ("auto", {"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "3"}, (1, 3)),
        ("auto", SRUN | {"OMPI_COMM_WORLD_RANK": "5", "OMPI_COMM_WORLD_SIZE": "6"}, (5, 6)),
        ("auto", BATCH | {"PMI_RANK": "1", "PMI_SIZE": "3", "PMIX_RANK": "1"}, (1, 3)),
        ("auto/3", BATCH | {"PMIX_RANK": "1"}, (1, 3)),
    ],
)
def test_the_partition_is_given_or_that_of_this_task(
    text: str, environ: dict[str, str], expected: tuple[int, int]
) -> None:
    assert parse_partition(text, environ) == Partition(*expected)


NOT_WHOLE = (
    "`partition` auto: SLURM_ARRAY_TASK_ID is {0}, but the numbers of this array are not 0 to N-1,"
    " so nothing says of how many shares; give their number N: auto/N does share {0} of N;"
    " or give I/N"
)
TOO_HIGH = (
    "`partition` auto/4: {0}, but the tasks of 4 shares have the numbers {1}; use {2}, or give I/N"
)


@pytest.mark.parametrize(
    ("text", "environ", "problem"),
    [
        ("", {}, "not understood; give I/N"),
        ("1", {}, "not understood"),
        ("-1/4", {}, "not understood"),
        ("1/4 ", {}, "not understood"),
        ("auto/0", {}, "not understood"),
        ("1/" + "9" * 5000, {}, "not understood"),
        ("4/4", {}, "4/4: the first number must be less than the second"),
        ("0/0", {}, "must be less"),
        ("auto", {}, "auto: this is not a task of an array"),
        ("auto", {"LSB_JOBINDEX": "0"}, "not a task of an array"),
        ("auto/4", BATCH, "auto/4: this is not a task of an array; give I/N"),
        ("auto", {"SLURM_ARRAY_TASK_ID": "9" * 5000}, "not a task of an array"),
        (
            "auto",
            {"PBS_ARRAY_INDEX": "3"},
            "auto: PBS_ARRAY_INDEX is 3, but nothing says of how many shares; give their number N",
        ),
        ("auto", {"LSB_JOBINDEX": "3", "LSB_JOBINDEX_END": "3"}, "auto/N does share 2 of N"),
        ("auto", slurm(2, [2]), NOT_WHOLE.format(2)),
        ("auto", slurm(0, [0, 3]), NOT_WHOLE.format(0)),
        ("auto", slurm(1, range(1, 5)), NOT_WHOLE.format(1)),
        ("auto", slurm(4, range(0, 8, 2), step=2), NOT_WHOLE.format(4)),
        (
            "auto/4",
            slurm(4, range(1, 5)),
            TOO_HIGH.format("SLURM_ARRAY_TASK_ID is 4", "0 to 3", "sbatch --array=0-3"),
        ),
        (
            "auto/4",
            {"LSB_JOBINDEX": "5"},
            TOO_HIGH.format("LSB_JOBINDEX is 5", "1 to 4", "bsub -J NAME[1-4]"),
        ),
    ],
)
def test_what_cannot_be_a_partition_is_refused(
    text: str, environ: dict[str, str], problem: str
) -> None:
    with pytest.raises(UsageError) as raised:
        parse_partition(text, environ)
    assert problem in str(raised.value)


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, ""),
        ({"SLURM_JOB_ID": "7"}, "SLURM 7"),
        (
            {"SLURM_JOB_ID": "7", "SLURM_ARRAY_JOB_ID": "5", "SLURM_ARRAY_TASK_ID": "2"},
            "SLURM 5_2",
        ),
        ({"PBS_JOBID": "12[3].server"}, "PBS 12[3].server"),
        ({"LSB_JOBID": "8"}, "LSF 8"),
    ],
)
def test_the_job_is_named_as_its_scheduler_does(environ: dict[str, str], expected: str) -> None:
    assert job_id(environ) == expected


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


def test_the_plain_job_waits_until_a_partition_on_another_host_counts_as_dead(
    data: Path, expected: dict[str, bytes], command: Command
) -> None:
    compress(share(data, 0))
    leave_partition(data.parent, 1, 0)
    flags = ("--prefix", "out", "--images", "--metadata", "--image-size", "32", "24", "--", data)
    refused = error_line(command("--wait", 0, *flags))
    who = "partition 1 of this prefix: process 1 on elsewhere, SLURM 7_1"
    assert f"another run may be at work on {who}; set --wait to 60" in refused
    for index in (1, 2):  # enough is left of the minute for a command to start on a busy machine
        leave_partition(data.parent, index, 45)
    done = command(*flags)
    assert done.returncode == 0, done.stderr
    waits = r"waiting up to \d+ seconds \(--wait\): another run may be at work on partition"
    assert re.search(waits, done.stderr)
    assert outputs(data.parent) == expected
