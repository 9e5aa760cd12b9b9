"""Which share of the rows this process does, and the job of the scheduler that it belongs to."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

from .errors import UsageError

__all__ = ["Partition", "job_id", "parse_partition"]

_NUMBER = r"\d{1,9}"
_PARTITION = re.compile(f"({_NUMBER})/({_NUMBER})")
_AUTO = re.compile(r"auto(?:/([1-9]\d{,8}))?")
_IS_NUMBER = re.compile(_NUMBER).fullmatch
_HINT = "give I/N, such as 0/16 for the first of 16, or auto/16 in a task of an array"


@dataclass(frozen=True)
class Partition:
    """One of several equal shares of the rows.

    Attributes
    ----------
    index : int
        Which one, from 0.
    count : int
        How many there are.
    """

    index: int
    count: int

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @classmethod
    def of(cls, row: int, rows: int, count: int) -> Partition:
        """Return the share, of `count` shares of all rows, that has this row."""
        return cls((count * (row + 1) - 1) // rows, count)

    def rows(self, rows: int) -> range:
        """Return its share of N rows, which may be empty.

        Examples
        --------
        >>> [Partition(index, 3).rows(10) for index in range(3)]
        [range(0, 3), range(3, 6), range(6, 10)]
        """
        return range(rows * self.index // self.count, rows * (self.index + 1) // self.count)


def parse_partition(text: str, environ: Mapping[str, str] = os.environ) -> Partition:
    """Understand ``I/N``, with I from 0 to N - 1, or find out which task of an array this is.

    With ``auto/N``, the number of the task is I. With ``auto``, the environment must tell both.

    Raises
    ------
    UsageError
        If it is neither, or the environment does not tell.
    """
    if match := _AUTO.fullmatch(text):
        return _of_this_task(text, int(match[1]) if match[1] else None, environ)
    if not (match := _PARTITION.fullmatch(text)):
        raise UsageError(f"`partition` {text}: not understood", "", _HINT)
    partition = Partition(int(match[1]), int(match[2]))
    if partition.index >= partition.count:
        raise UsageError(f"`partition` {partition}: the first number must be less than the second")
    return partition


class _Scheduler(NamedTuple):
    """The variables in which a scheduler numbers its tasks; empty for those that it lacks."""

    number: str  # of this task
    submit: str  # how to get tasks whose numbers are all the shares
    total: str = ""  # how many tasks there are
    last: str = ""  # the number of the last
    first: int = 0  # the number that is share 0


# From the manuals of sbatch, PBS Professional and IBM Spectrum LSF, the documentation of Kubernetes
# on indexed jobs, of Open MPI, MPICH and PMIx, and the manual of srun. mpiexec comes before srun,
# because it may start its processes below steps of srun, whose variables they inherit.
_SCHEDULERS = (
    _Scheduler(
        "SLURM_ARRAY_TASK_ID",
        "sbatch --array=0-{last}",
        total="SLURM_ARRAY_TASK_COUNT",
        last="SLURM_ARRAY_TASK_MAX",
    ),
    _Scheduler("PBS_ARRAY_INDEX", "qsub -J 0-{last}"),
    _Scheduler("LSB_JOBINDEX", "bsub -J NAME[1-{count}]", first=1),
    _Scheduler("JOB_COMPLETION_INDEX", "completions: {count}"),
    _Scheduler("OMPI_COMM_WORLD_RANK", "mpiexec -n {count}", total="OMPI_COMM_WORLD_SIZE"),
    _Scheduler("PMI_RANK", "mpiexec -n {count}", total="PMI_SIZE"),
    _Scheduler("SLURM_PROCID", "srun --ntasks={count}", total="SLURM_STEP_NUM_TASKS"),
    _Scheduler("PMIX_RANK", "mpiexec -n {count}"),
)


def _of_this_task(text: str, count: int | None, environ: Mapping[str, str]) -> Partition:
    numbers = {name: int(value) for name, value in environ.items() if _IS_NUMBER(value)}
    if "SLURM_STEP_NUM_TASKS" not in numbers:  # a batch script, which is not a task of srun
        numbers.pop("SLURM_PROCID", None)
    for names in _SCHEDULERS:
        number = numbers.get(names.number, -1)
        # LSF sets its index to 0 outside of arrays.
        if number < names.first:
            continue
        count = count or _count_tasks(names, numbers)
        index = number - names.first
        if index >= count:
            submit = names.submit.format(count=count, last=count - 1)
            raise UsageError(
                f"`partition` {text}: {names.number} is {number}, but the tasks of {count} shares"
                f" have the numbers {names.first} to {names.first + count - 1}",
                "",
                f"use {submit}, or give I/N",
            )
        return Partition(index, count)
    raise UsageError(f"`partition` {text}: this is not a task of an array", "", _HINT)


def _count_tasks(names: _Scheduler, numbers: Mapping[str, int]) -> int:
    """Count the tasks of an array, which must be whole: a failed task may run again, alone."""
    count = numbers.get(names.total, 0)
    if count and numbers.get(names.last, count - 1) == count - 1:
        return count
    number = numbers[names.number]
    why = "the numbers of this array are not 0 to N-1, so " if count else ""
    raise UsageError(
        f"`partition` auto: {names.number} is {number}, but {why}nothing says of how many shares",
        "",
        f"give their number N: auto/N does share {number - names.first} of N; or give I/N",
    )


def job_id(environ: Mapping[str, str] = os.environ) -> str:
    """Return what the scheduler calls the job of this process; empty outside of jobs."""
    jobs = (
        "SLURM {SLURM_ARRAY_JOB_ID}_{SLURM_ARRAY_TASK_ID}",
        "SLURM {SLURM_JOB_ID}",
        "PBS {PBS_JOBID}",
        "LSF {LSB_JOBID}",
    )
    for job in jobs:
        with suppress(KeyError):
            return job.format_map(environ)
    return ""
