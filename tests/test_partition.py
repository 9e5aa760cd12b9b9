from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbo_compress.errors import UsageError
from limbo_compress.partition import Partition, job_id, parse_partition


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
