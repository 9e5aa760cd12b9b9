"""The whole job on one screen: find, plan, go on, run, collect, publish."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial as bind

from . import cpus
from .errors import SampleError
from .job import Job, plan
from .options import Options
from .outputs import Outputs, Written
from .partial import Partial, gaps
from .parts import Finding, Part
from .pool import Crew
from .samples import Samples, find_samples
from .shards import split
from .worker import Task, compress_shard, initialize

__all__ = ["Report", "compress"]

_log = logging.getLogger(__package__)

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Report:
    """What a job did.

    Attributes
    ----------
    samples : int
        Number of rows of each output.
    written : tuple of Written
        The files that were published.
    failures : tuple of Finding
        The bad samples that were left out.
    warnings : tuple of Finding
        What libraries said about samples that they could decode all the same.
    repeated : int
        Metadata files that were reached more than once, and count once.
    resumed : int
        Samples that an earlier run had done.
    seconds : float
        How long it took.
    """

    samples: int
    written: tuple[Written, ...]
    failures: tuple[Finding, ...]
    warnings: tuple[Finding, ...]
    repeated: int
    resumed: int
    seconds: float


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
    CompressError
        If anything is wrong; nothing is published then, and older files are left as they were.
    """
    begun = time.monotonic()
    workers = options.workers or cpus.usable()
    with Crew(compress_shard, workers, bind(initialize, options)) as crew:
        samples, paths = _find(options, crew)
        job = plan(options, len(paths))
        outputs = Outputs(job, len(paths))
        with Partial(job, paths) as partial:
            outputs.create()
            done = resumed = sum(part.stop - part.start for part in partial.done)
            _say_resumed(resumed, len(paths))
            _report(progress, done, len(paths))
            for part in partial.done:
                outputs.collect(part)
            tasks = _tasks(job, paths, gaps(partial.done, len(paths)), workers)
            for part in crew.run(tasks, lambda task: task.joining(outputs.take_joins())):
                _judge(options, [*outputs.failures, *part.failures], len(paths))
                outputs.collect(part)
                done += part.stop - part.start
                _report(progress, done, len(paths))
            written = outputs.publish()
            partial.remove()
    return Report(
        samples=len(paths) - len(outputs.failures),
        written=written,
        failures=tuple(outputs.failures),
        warnings=tuple(outputs.warnings),
        repeated=samples.repeated,
        resumed=resumed,
        seconds=time.monotonic() - begun,
    )


def _find(options: Options, crew: Crew[Task, Part]) -> tuple[Samples, tuple[str, ...]]:
    """Find all samples, and those of the range; workers start at the first ones."""

    def expect(found: int) -> None:
        crew.expect(len(range(found)[options.start : options.end]))

    samples = find_samples(options.directories, expect)
    _say_repeated(samples.repeated)
    rows = options.rows(len(samples.paths))
    return samples, samples.paths[rows.start : rows.stop]


def _tasks(job: Job, paths: Sequence[str], missing: Sequence[range], workers: int) -> list[Task]:
    return [
        Task(job, rows.start, tuple(paths[rows.start : rows.stop]))
        for rows in split(missing, workers)
    ]


def _judge(options: Options, failures: Sequence[Finding], samples: int) -> None:
    """Stop where too many samples are bad, with one line for each of them."""
    if len(failures) <= min(options.most_failures(samples), samples - 1):
        return
    if options.on_error == "stop":
        *others, last = failures
        for failure in others:
            _log.error("%s", failure)
        raise SampleError(last.text, last.path, "--on-error skip leaves bad samples out")
    for failure in failures:
        _log.error("%s", failure)
    allowed = options.max_failures or "none that is good"
    raise SampleError(f"{len(failures)} of {samples} samples are bad (--max-failures: {allowed})")


def _say_repeated(repeated: int) -> None:
    if repeated:
        _log.warning(
            "%d metadata files were reached more than once (overlapping directories or links);"
            " each counts once",
            repeated,
        )


def _say_resumed(resumed: int, samples: int) -> None:
    if resumed:
        _log.warning("%d of %d samples were done already; going on", resumed, samples)


def _report(progress: Progress | None, done: int, samples: int) -> None:
    if progress is not None:
        progress(done, samples)
