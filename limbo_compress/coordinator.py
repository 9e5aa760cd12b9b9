"""The whole job on one screen: find samples, plan, resume, run shards, publish."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec

from .dependencies import NOT_COMPILED, why_not_compiled
from .errors import LimboError, OutputError, Stopped, nearest, shown
from .formats.shard_record import SampleIssue, ShardRecord
from .options import Options, check_prefix
from .oserrors import machine_errors, writing
from .output.assemble import OutputFile, Publisher
from .output.growth import Growth, left_out_of_unchanged
from .output.older_outputs import ExistingOutputs
from .output.preflight import check_targets
from .output.resume import missing
from .output.state import state_of
from .output.status import Status, read_status
from .output.workdir import WorkDir
from .plan import Job, plan, work_folder_of
from .run import cpus
from .run.executor import Engine, Executor, Progress
from .run.failure_limit import FailureLimit
from .run.probe import Probe
from .run.processes import ProcessEngine
from .run.shards import split
from .run.worker import ShardTask, compress_shard, initialize
from .samples.discovery import FoundSamples, find_samples

__all__ = ["Report", "compress", "status"]

_log = logging.getLogger(__package__)

# Samples that take a worker about 20 s without compiled code, and 9 s with it.
_LARGE_JOB = 1000


@dataclass(frozen=True)
class Report:
    """What a job did.

    Attributes
    ----------
    samples : int
        Number of rows of each output, or of good samples of the partition.
    written : tuple of OutputFile
        The files that were published; none by a partition.
    failures : tuple of SampleIssue
        The bad samples that were left out.
    failures_path : str or None
        The published list of them.
    warnings : tuple of SampleIssue
        What libraries said about samples that they decoded all the same.
    warnings_path : str or None
        The published list of them.
    empty_masks : tuple of str
        Names of the masks that are zero in every row; a partition names none.
    repeated : int
        Metadata files that were reached more than once; each counts once.
    resumed : int
        Samples that an earlier run had done.
    copied, made : int
        Rows that were copied from older outputs, and those that were made of their samples.
    is_up_to_date : bool
        Whether the outputs already were those of the job. Then nothing was written, and neither
        warnings nor masks were looked at.
    seconds : float
        How long it took.
    """

    samples: int
    written: tuple[OutputFile, ...] = ()
    failures: tuple[SampleIssue, ...] = ()
    failures_path: str | None = None
    warnings: tuple[SampleIssue, ...] = ()
    warnings_path: str | None = None
    empty_masks: tuple[str, ...] = ()
    repeated: int = 0
    resumed: int = 0
    copied: int = 0
    made: int = 0
    is_up_to_date: bool = False
    seconds: float = 0.0


@machine_errors()
def compress(options: Options, progress: Progress | None = None) -> Report:
    """Cache the samples of some directories in a few large files.

    Parameters
    ----------
    options : Options
    progress : callable, optional
        Called as ``progress(done, samples)``, at the start and after each shard.

    Returns
    -------
    Report

    Raises
    ------
    LimboError
        If anything goes wrong. Nothing is published then, and older files stay as they were.
    """
    begun = time.monotonic()
    _warn_if_ignored(options)
    found = _find(options) if _may_be_up_to_date(options) else None
    if found is not None and _is_up_to_date(options, found[1]):
        samples, paths = found
        report = Report(len(paths), repeated=samples.repeated, is_up_to_date=True)
    else:
        with _engine(options) as engine:
            report = _compress(options, engine, *(found or _find(options, engine)), progress)
    return replace(report, seconds=time.monotonic() - begun)


def _compress(
    options: Options,
    engine: Engine[ShardTask, ShardRecord],
    samples: FoundSamples,
    paths: tuple[str, ...],
    progress: Progress | None,
) -> Report:
    """Do what is left of a job, and publish it."""
    job = plan(options, len(paths))
    check_targets(job)
    workdir = WorkDir(job, paths, engine.is_local)
    with _hint_at_kept_work(workdir), workdir:
        job = workdir.job
        existing = ExistingOutputs(job, paths)
        growth = Growth(job, paths)
        _log_obstacle(job, growth)
        publisher = Publisher(job, paths, existing, workdir.files)
        counter = _Counter(progress, len(job.rows), workdir)
        for record in workdir.done:
            publisher.collect(record)
        left = missing((record.rows for record in workdir.done), job.rows)
        if not engine.is_local:
            if left:
                engine.prepare(_probe(job, paths))
        elif options.images and sum(map(len, left)) >= _LARGE_JOB:
            _warn_if_slow()
        tried_again = set() if workdir.done or job.partition else set(growth.left_out)
        tasks = _tasks(job, paths, _in_order(left, tried_again), engine)
        limit = FailureLimit(options, len(job.rows), left)
        # Closing the results ends all workers before the work folder is left to others.
        try:
            with closing(_run(engine, tasks, publisher, growth)) as records:
                is_up_to_date = _collect(records, limit, publisher, counter, tried_again)
        finally:
            workdir.has_late_writers |= engine.left_alive
        _log_rotted(publisher)
        written: tuple[OutputFile, ...] = ()
        empty: tuple[str, ...] = ()
        if is_up_to_date:
            _clear(workdir)
        elif job.partition is None:
            written = publisher.publish(workdir.check, workdir.may_be_written())
            _clear(workdir)
            empty = _empty_masks(options, publisher)
    good = len(job.rows) - len(publisher.failures)
    return Report(
        samples=good,
        written=written,
        failures=tuple(publisher.failures),
        failures_path=publisher.failures_path,
        warnings=tuple(publisher.warnings),
        warnings_path=publisher.warnings_path,
        empty_masks=empty,
        repeated=samples.repeated,
        resumed=counter.resumed,
        copied=0 if is_up_to_date else publisher.copied,
        made=0 if is_up_to_date else good - publisher.copied,
        is_up_to_date=is_up_to_date,
    )


def status(prefix: str | os.PathLike[str]) -> Status:
    """Say how far the job with this prefix is, if it is unfinished.

    Parameters
    ----------
    prefix : str or path
        That of `Options`.

    Returns
    -------
    Status

    Raises
    ------
    UsageError
        If it cannot be a prefix.
    OutputError
        If the work folder cannot be read.
    """
    prefix = os.fsdecode(prefix)
    check_prefix(prefix)
    return read_status(work_folder_of(prefix))


def _may_be_up_to_date(options: Options) -> bool:
    """Whether to look before workers start: there is a state, and no unfinished work."""
    target = os.path.abspath(options.prefix)
    return os.path.exists(state_of(target)) and not os.path.lexists(work_folder_of(target))


def _is_up_to_date(options: Options, paths: Sequence[str]) -> bool:
    return left_out_of_unchanged(plan(options, len(paths)), paths) == ()


def _choose_workers(options: Options) -> tuple[int, int]:
    """Return the number of workers and their niceness."""
    if options.workers is not None:
        return options.workers, 0
    workers = cpus.default_workers()
    if not cpus.is_login_node():
        return workers, 0
    _log.warning(
        "this is a SLURM login node: starting %d workers with niceness %d (`workers` overrides)",
        workers,
        cpus.LOGIN_NODE_NICENESS,
    )
    return workers, cpus.LOGIN_NODE_NICENESS


def _warn_if_slow() -> None:
    why = why_not_compiled("imaging._resample") or why_not_compiled("imaging._unfilter")
    if why:
        hint = "; install limbo-compress from a wheel, or with a C compiler"
        _log.warning(
            "images take two to three times as long here (%s)%s",
            why,
            hint if why == NOT_COMPILED else "",
        )
    elif find_spec("isal") is None:
        _log.warning(
            "renders take 1.5 times as long here as with ISA-L: pip install 'limbo-compress[fast]'"
        )


def _warn_if_ignored(options: Options) -> None:
    """Name the options that change nothing, because one that they belong to is missing."""
    for field, is_used, needed in (
        ("strip_regions", options.metadata, "`metadata`"),
        ("image_size", options.images or options.masks, "`images` or `masks`"),
    ):
        if getattr(options, field) != getattr(Options, field) and not is_used:
            _log.warning(f"`{field}` has no effect without {needed}")


def _empty_masks(options: Options, publisher: Publisher) -> tuple[str, ...]:
    """Return the names of the masks that are all zeros, and warn of them."""
    empty = {name: pattern for name, pattern in options.masks.items() if not publisher.hits[name]}
    if empty:
        why = "no sample has a cryptomatte with labels"
        if publisher.copied:  # their labels are not known
            why = "no sample has a cryptomatte with a label that matches"
        if publisher.labels:
            labels = nearest(empty.values(), publisher.labels)
            why = f"no label that covers a pixel matches; nearest labels: {labels}"
        masks = ", ".join(f"{name} '{shown(pattern)}'" for name, pattern in empty.items())
        _log.warning("`masks` %s: all zeros, because %s", masks, why)
    return tuple(empty)


def _clear(workdir: WorkDir) -> None:
    """Remove the work of a job that is published."""
    try:
        workdir.clear()
    except (OSError, OutputError) as error:
        _log.warning("the outputs are complete, but work is left: %s", error)


@contextmanager
def _hint_at_kept_work(workdir: WorkDir) -> Iterator[None]:
    try:
        yield
    except (LimboError, Stopped) as error:
        if workdir.is_kept:
            error.add_hint("finished work is kept: the same command resumes it")
        raise


def _collect(
    records: Iterable[ShardRecord],
    limit: FailureLimit,
    publisher: Publisher,
    counter: _Counter,
    tried_again: set[SampleIssue],
) -> bool:
    """Collect finished shards.

    Returns whether the samples that older outputs leave out, the only ones to be tried, are all bad
    still.
    """
    for record in records:
        limit.check(record)
        publisher.collect(record)
        counter.count(record)
        if tried_again and tried_again <= {*publisher.failures}:
            return True
    return False


def _in_order(left: list[range], first: set[SampleIssue]) -> list[range]:
    """Put the samples first that older outputs leave out: they may be all that is to be done."""
    if not first:
        return left
    rows = range(left[0].start, left[-1].stop)
    others = missing((range(row, row + 1) for row in sorted(issue.row for issue in first)), rows)
    return [*missing(others, rows), *others]


def _log_obstacle(job: Job, growth: Growth) -> None:
    if growth.obstacle:
        _log.warning(
            "nothing can be copied from the existing outputs, so all samples are done: %s",
            growth.obstacle,
        )


def _log_rotted(publisher: Publisher) -> None:
    if publisher.rotted:
        _log.warning(
            "damaged rows of the existing outputs were made anew: %d, such as row %d",
            len(publisher.rotted),
            min(publisher.rotted),
        )


def _tasks(
    job: Job,
    paths: Sequence[str],
    left: list[range],
    engine: Engine[ShardTask, ShardRecord],
) -> list[ShardTask]:
    """Make the tasks that do the missing rows."""
    smallest = 1
    if not engine.is_local:  # a Dask scheduler needs 6 ms for a shard, whoever does it
        smallest = max(1, min(8 + engine.width // 2, len(job.rows) // (4 * engine.width)))
    return [
        ShardTask(job, rows.start, tuple(paths[rows.start : rows.stop]))
        for rows in split(left, engine.width, smallest)
    ]


def _run(
    engine: Engine[ShardTask, ShardRecord],
    tasks: list[ShardTask],
    publisher: Publisher,
    growth: Growth,
) -> Generator[ShardRecord, None, None]:
    """Run tasks, and have the metadata joined: by workers, if they share this page cache."""

    def complete(task: ShardTask) -> ShardTask:
        # Here, because what is known of all old rows at once would take much memory.
        task = replace(task, old_rows=growth.old_rows(task.rows))
        if engine.is_local:
            return task.with_copies(publisher.take_copies())
        publisher.copy()
        return task

    return Executor(engine, complete).run(tasks)


def _probe(job: Job, paths: Sequence[str]) -> Probe:
    with writing(job.folder):
        return Probe.make(job.folder, job.run, paths[0], bool(job.options.masks))


def _engine(options: Options) -> Engine[ShardTask, ShardRecord]:
    """Choose the engine. Dask is imported only if it is asked for."""
    if options.is_on_dask:
        from .run.dask import DaskEngine

        start = partial(initialize, options)
        return DaskEngine[ShardTask, ShardRecord](
            compress_shard, start, options.scheduler, options.scheduler_file, options.wait
        )
    workers, niceness = _choose_workers(options)
    start = partial(initialize, options, niceness)
    return ProcessEngine[ShardTask, ShardRecord](compress_shard, workers, start)


def _find(
    options: Options, engine: Engine[ShardTask, ShardRecord] | None = None
) -> tuple[FoundSamples, tuple[str, ...]]:
    """Find all samples, and those of the range; workers start as soon as the first are found."""

    def expect(found: int) -> None:
        if engine is not None:
            engine.expect(len(range(found)[options.start : options.end]))

    samples = find_samples(options.directories, expect)
    _log_repeated(samples.repeated)
    if samples.unlisted:
        _log.warning("skipped: %s", samples.describe_unlisted())
    rows = options.rows(len(samples.paths))
    return samples, samples.paths[rows.start : rows.stop]


def _log_repeated(repeated: int) -> None:
    if repeated:
        _log.warning(
            "%d metadata files were reached more than once (overlapping directories or links to"
            " folders); each counts once",
            repeated,
        )


class _Counter:
    """Counts the samples that are done, and reports the progress.

    Attributes
    ----------
    resumed : int
        Samples that an earlier run had done.
    """

    def __init__(self, progress: Progress | None, samples: int, workdir: WorkDir) -> None:
        self._progress = progress
        self._samples = samples
        self._done = self.resumed = sum(len(record.rows) for record in workdir.done)
        _log_resumed(self.resumed, samples, workdir.changed)
        self._report()

    def count(self, record: ShardRecord) -> None:
        self._done += len(record.rows)
        self._report()

    def _report(self) -> None:
        if self._progress is not None:
            self._progress(self._done, self._samples)


def _log_resumed(resumed: int, samples: int, changed: Sequence[str]) -> None:
    if changed:
        _log.warning(
            "files have changed since they were read, such as %s: %d shards are done again",
            changed[0],
            len(changed),
        )
    if resumed:
        _log.warning("resuming: %d of %d samples were already done", resumed, samples)
