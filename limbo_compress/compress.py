"""The whole job on one screen: find, plan, create, run, collect, publish."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from . import cpus, pool
from .errors import SampleError
from .job import Job, plan
from .options import Options
from .outputs import Outputs, Written
from .samples import find_samples
from .shards import shard_size, split
from .worker import Task, compress_shard, initialize, preload

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
    repeated : int
        Metadata files that were reached more than once, and count once.
    seconds : float
        How long it took.
    """

    samples: int
    written: tuple[Written, ...]
    repeated: int
    seconds: float


def compress(options: Options, progress: Progress | None = None) -> Report:
    """Cache the samples of some directories in a few large files.

    Parameters
    ----------
    options : Options
    progress : callable, optional
        Called as ``progress(done, samples)``, at the start with 0 done and after each shard.

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
    if workers > 1:
        pool.prepare(preload(options))
    samples = find_samples(options.directories)
    if samples.repeated:
        _log.warning(
            "%d metadata files were reached more than once (overlapping directories or links);"
            " each counts once",
            samples.repeated,
        )
    rows = options.rows(len(samples.paths))
    paths = samples.paths[rows.start : rows.stop]
    job = plan(options, len(paths))
    with Outputs(job, len(paths)) as outputs:
        done = 0
        _report(progress, done, len(paths))
        for part in pool.run(compress_shard, _tasks(job, paths), workers, initialize):
            if part.failures:
                raise SampleError(part.failures[0].text, part.failures[0].path)
            outputs.collect(part)
            done += part.stop - part.start
            _report(progress, done, len(paths))
        written = outputs.publish()
    return Report(len(paths), written, samples.repeated, time.monotonic() - begun)


def _tasks(job: Job, paths: tuple[str, ...]) -> Iterator[Task]:
    for rows in split([range(len(paths))], shard_size(len(paths))):
        yield Task(job, rows.start, paths[rows.start : rows.stop])


def _report(progress: Progress | None, done: int, samples: int) -> None:
    if progress is not None:
        progress(done, samples)
