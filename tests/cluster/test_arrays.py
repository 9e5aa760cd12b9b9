from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbo_compress.cluster.arrays import Partition, parse_partition
from limbo_compress.errors import UsageError


@given(st.integers(0, 300), st.integers(1, 40))
def test_partitions_cover_each_row_once_and_are_about_equal(rows: int, count: int) -> None:
    shares = [Partition(index, count).rows(rows) for index in range(count)]
    assert [row for share in shares for row in share] == list(range(rows))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


SLURM = {
    "SLURM_ARRAY_TASK_ID": "7",
    "SLURM_ARRAY_TASK_MIN": "1",
    "SLURM_ARRAY_TASK_MAX": "15",
    "SLURM_ARRAY_TASK_STEP": "2",
    "SLURM_ARRAY_TASK_COUNT": "8",
    # Set in every batch job.
    "SLURM_PROCID": "0",
    "SLURM_NTASKS": "1",
}


@pytest.mark.parametrize(
    ("text", "environ", "expected"),
    [
        ("0/1", {}, (0, 1)),
        ("15/16", SLURM, (15, 16)),
        ("auto", SLURM, (3, 8)),
        ("auto", {"SLURM_PROCID": "2", "SLURM_NTASKS": "4"}, (2, 4)),
        ("auto/16", {"PBS_ARRAY_INDEX": "0"}, (0, 16)),
        ("auto", {"LSB_JOBINDEX": "1", "LSB_JOBINDEX_END": "4"}, (0, 4)),
        ("auto", {"LSB_JOBINDEX": "4", "LSB_JOBINDEX_END": "4", "LSB_JOBINDEX_STEP": "1"}, (3, 4)),
        ("auto/5", {"JOB_COMPLETION_INDEX": "4"}, (4, 5)),
    ],
)
def test_the_partition_is_given_or_that_of_this_task(
    text: str, environ: dict[str, str], expected: tuple[int, int]
) -> None:
    assert parse_partition(text, environ) == Partition(*expected)


@pytest.mark.parametrize(
    ("text", "environ", "problem"),
    [
        ("", {}, "not understood; give I/N"),
        ("1", {}, "not understood"),
        ("-1/4", {}, "not understood"),
        ("1/4 ", {}, "not understood"),
        ("4/4", {}, "4/4: the first number must be less than the second"),
        ("0/0", {}, "must be less"),
        ("auto", {}, "auto: this is no task of an array"),
        ("auto", {"LSB_JOBINDEX": "0"}, "no task of an array"),
        ("auto", {"PBS_ARRAY_INDEX": "3"}, "give their number: auto/N"),
        ("auto", SLURM | {"SLURM_ARRAY_TASK_ID": "99"}, "auto: this is 49/8: the first"),
    ],
)
def test_what_cannot_be_a_partition_is_refused(
    text: str, environ: dict[str, str], problem: str
) -> None:
    with pytest.raises(UsageError, match=problem):
        parse_partition(text, environ)
