"""How far an unfinished job is, as its work folder tells anyone who looks."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from ..errors import OutputError
from ..formats.shard_record import SampleIssue, read_failures, rows_of, run_of
from ..oserrors import is_folder
from ..partition import Partition
from .lock import Holder, Lock, holders, partition_locks
from .publication import is_interrupted
from .record import read_record
from .resume import missing
from .workdir import place_in

__all__ = ["Status", "read_status"]

# The rate is that of the last minutes.
_RATE_SECONDS = 600.0
# The job may publish its outputs and remove the folder while it is read.
_TRIES = 5
# The names of shard records have nine digits.
_MAX_ROWS = 10**9


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
        What runs there now, and its process, host and job of the scheduler: ``lock`` is a run that
        publishes, ``partition-I`` one of a partition.
    lost : dict of str to str
        The same of runs that ended without a trace: on this machine those whose process is gone, on
        others those that have not touched their lock for a minute by this machine's clock.
    failures : tuple of SampleIssue
        The bad samples so far, in the order of their rows.
    rate : float or None
        Samples per second that the runs at work have done lately; None if that is unknown.
    is_publication_interrupted : bool
        Whether a run ended while it published the outputs, or does so now. The next one takes them
        back, or removes what is left of the work if all have their names.
    """

    folder: str
    samples: int | None
    missing: tuple[range, ...] = ()
    partitions: int | None = None
    at_work: dict[str, str] = field(default_factory=dict)
    lost: dict[str, str] = field(default_factory=dict)
    failures: tuple[SampleIssue, ...] = ()
    rate: float | None = None
    is_publication_interrupted: bool = False

    @property
    def done(self) -> int:
        """Number of samples that are done, including bad ones."""
        return (self.samples or 0) - sum(map(len, self.missing))

    @property
    def seconds_left(self) -> float | None:
        """How long the missing samples take at this rate; None if that is unknown."""
        return sum(map(len, self.missing)) / self.rate if self.rate else None

    def missing_of(self, partition: Partition) -> int:
        """Number of samples of a partition that are not done."""
        rows = partition.rows(self.samples or 0)
        overlaps = (range(max(r.start, rows.start), min(r.stop, rows.stop)) for r in self.missing)
        return sum(map(len, overlaps))

    def unfinished(self) -> Iterator[Partition]:
        """Yield the partitions that are not done, in order."""
        samples, row = self.samples or 0, 0
        for rows in self.missing if self.partitions else ():
            row = max(row, rows.start)
            while row < rows.stop:
                partition = Partition.of(row, samples, self.partitions or 1)
                yield partition
                row = partition.rows(samples).stop


def read_status(folder: str) -> Status:
    """Look at the work folder of a job, which may change meanwhile. Nothing is changed.

    Raises
    ------
    OutputError
        If it cannot be read.
    """
    for _ in range(_TRIES):
        try:
            return _read(folder)
        except OSError as error:
            problem = error
    raise OutputError(f"cannot read it: {problem.strerror}", folder) from problem


def _read(root: str) -> Status:
    folder = os.path.join(root, place_in(root))
    record = read_record(folder) if is_folder(folder) else {}
    samples, partitions = record.get("number of samples"), record.get("partitions")
    if not record:
        return Status(root, None)
    if not (isinstance(samples, int) and 0 < samples < _MAX_ROWS):
        raise OutputError("its record is damaged", root)
    records = {name: rows for name in os.listdir(folder) if (rows := rows_of(name)) is not None}
    names = sorted(partition_locks(root), key=lambda name: (len(name), name))
    locks = {name: list(holders(root, name)) for name in (Lock.NAME, *names)}
    now = max([time.time(), *(holder.touched for held in locks.values() for holder in held)])
    alive = {name: [h for h in held if h.is_alive(now)] for name, held in locks.items()}
    lost = {name: [h for h in held if h not in alive[name]] for name, held in locks.items()}
    at_work = [holder for held in alive.values() for holder in held]
    return Status(
        root,
        samples,
        tuple(missing(sorted(records.values(), key=lambda rows: rows.start), range(samples))),
        partitions if isinstance(partitions, int) and partitions > 0 else None,
        _names(alive),
        _names(lost),
        tuple(read_failures(folder)),
        _rate(folder, records, at_work),
        is_interrupted(folder),
    )


def _names(locks: dict[str, list[Holder]]) -> dict[str, str]:
    unknown = "an unknown process"
    return {
        name: " and ".join(holder.name or unknown for holder in held)
        for name, held in locks.items()
        if held
    }


def _rate(folder: str, records: dict[str, range], at_work: list[Holder]) -> float | None:
    """Samples per second that these runs have done since the first record of the last minutes."""
    runs = {os.path.basename(holder.path) for holder in at_work}
    names = [name for name in records if run_of(name) in runs]
    times = {name: os.stat(os.path.join(folder, name)).st_mtime for name in names}
    # The clock of the filesystem, which need not agree with that of this machine.
    now = max([*times.values(), *(holder.touched for holder in at_work)], default=0.0)
    recent = sorted(
        (at, len(records[name])) for name, at in times.items() if at > now - _RATE_SECONDS
    )
    seconds = now - recent[0][0] if recent else 0.0
    return sum(samples for _, samples in recent[1:]) / seconds if seconds > 0 else None
