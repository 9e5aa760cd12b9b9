"""Which share of the rows this process does, as one of the tasks of a job array."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import UsageError

__all__ = ["Partition", "parse_partition"]

_PARTITION = re.compile(r"(\d+)/(\d+)")
_AUTO = re.compile(r"auto(?:/(\d+))?")
_HINT = "give I/N, such as 0/16 for the first of 16, or auto in a task of an array"


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

    def rows(self, rows: int) -> range:
        """Return its share of so many rows, which may be empty.

        Examples
        --------
        >>> [Partition(index, 3).rows(10) for index in range(3)]
        [range(0, 3), range(3, 6), range(6, 10)]
        """
        return range(rows * self.index // self.count, rows * (self.index + 1) // self.count)


def parse_partition(text: str, environ: Mapping[str, str] = os.environ) -> Partition:
    """Understand ``I/N``, or find out which task of an array this process is.

    Parameters
    ----------
    text : str
        ``I/N``, with I from 0 to N - 1, or ``auto``, or ``auto/N``.
    environ : mapping
        The environment, for ``auto``.

    Raises
    ------
    UsageError
        If it is neither, or the environment does not tell.
    """
    if match := _AUTO.fullmatch(text):
        count = int(match[1]) if match[1] else None
        return _check(_of_this_task(count, environ), f"{text}: this is")
    if match := _PARTITION.fullmatch(text):
        return _check(Partition(int(match[1]), int(match[2])), "")
    raise UsageError(f"`partition` {text}: not understood", "", _HINT)


def _check(partition: Partition, found: str) -> Partition:
    if partition.index >= partition.count:
        raise UsageError(
            f"`partition` {found}{' ' * bool(found)}{partition}: the first number must be less"
            " than the second"
        )
    return partition


@dataclass(frozen=True)
class _Scheduler:
    """Variables in which a scheduler says which task this is; empty for those that it lacks."""

    index: str
    first: str = ""
    step: str = ""
    count: str = ""
    last: str = ""
    default_first: int = 0


# From the manuals of sbatch, PBS Professional and IBM Spectrum LSF, the documentation of Kubernetes
# on indexed jobs, and the manual of srun.
_SCHEDULERS = (
    _Scheduler(
        "SLURM_ARRAY_TASK_ID",
        first="SLURM_ARRAY_TASK_MIN",
        step="SLURM_ARRAY_TASK_STEP",
        count="SLURM_ARRAY_TASK_COUNT",
    ),
    _Scheduler("PBS_ARRAY_INDEX"),
    _Scheduler("LSB_JOBINDEX", step="LSB_JOBINDEX_STEP", last="LSB_JOBINDEX_END", default_first=1),
    _Scheduler("JOB_COMPLETION_INDEX"),
    _Scheduler("SLURM_PROCID", count="SLURM_NTASKS"),
)


def _of_this_task(count: int | None, environ: Mapping[str, str]) -> Partition:
    numbers = {name: int(text) for name, text in environ.items() if text.isdecimal()}
    for names in _SCHEDULERS:
        # LSF sets its index to 0 outside of arrays.
        index = numbers.get(names.index, -1)
        first = numbers.get(names.first, names.default_first)
        if index < first:
            continue
        step = numbers.get(names.step, 1) or 1
        if count is None and names.last in numbers:
            count = 1 + (numbers[names.last] - first) // step
        count = count or numbers.get(names.count)
        if count is None:
            raise UsageError(
                f"`partition` auto: {names.index} says which task this is, but nothing says of"
                " how many",
                "",
                "give their number: auto/N",
            )
        return Partition((index - first) // step, count)
    raise UsageError("`partition` auto: this is no task of an array", "", _HINT)
