"""How far an unfinished job is, as its work folder tells anyone who looks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from ..errors import output_errors
from ..formats.parts import rows_of
from ..output.lock import Lock, holder_names, partition_locks
from ..output.workdir import read_record
from ..plan import Job
from .arrays import Partition

__all__ = ["Status", "read_status"]


@dataclass(frozen=True)
class Status:
    """How far a job is.

    Attributes
    ----------
    folder : str
        Its work folder.
    samples : int or None
        How many it has; None if there is no unfinished work.
    missing : tuple of range
        The rows that are not done, in order.
    partitions : int or None
        In how many partitions it is done, if in any.
    at_work : dict of str to str
        What runs there now, and on which process and host: ``lock`` is a run that publishes,
        ``partition-I`` one of a partition.
    """

    folder: str
    samples: int | None
    missing: tuple[range, ...]
    partitions: int | None
    at_work: dict[str, str]

    @property
    def done(self) -> int:
        """Number of samples that are done."""
        return (self.samples or 0) - sum(map(len, self.missing))

    def missing_of(self, partition: Partition) -> int:
        """Number of samples of a partition that are not done."""
        rows = partition.rows(self.samples or 0)
        overlaps = (range(max(r.start, rows.start), min(r.stop, rows.stop)) for r in self.missing)
        return sum(map(len, overlaps))


def read_status(job: Job) -> Status:
    """Look at the work folder of a job, which may change meanwhile. Nothing is changed.

    Raises
    ------
    OutputError
        If it cannot be read.
    """
    names: list[str] = []
    with output_errors(job.folder):
        if os.path.isdir(job.folder):
            names = os.listdir(job.folder)
        record = read_record(job) if names else {}
        samples = record.get("number of samples")
        if not isinstance(samples, int):
            return Status(job.folder, None, (), None, {})
        locks = [name for name in (Lock.NAME, *partition_locks(job.folder)) if name in names]
        at_work = {lock: " and ".join(holder_names(job.folder, lock)) for lock in locks}
    done = sorted((rows.start, rows.stop) for rows in map(rows_of, names) if rows is not None)
    partitions = record.get("partitions")
    return Status(
        job.folder,
        samples,
        tuple(_gaps(done, samples)),
        partitions if isinstance(partitions, int) else None,
        {lock: who for lock, who in at_work.items() if who},
    )


def _gaps(done: list[tuple[int, int]], samples: int) -> Iterator[range]:
    """Ranges of rows between others, which may overlap."""
    row = 0
    for start, stop in [*done, (samples, samples)]:
        if row < start:
            yield range(row, start)
        row = max(row, stop)
