"""One shard, start to end: read its samples, fill their rows, and leave a part-file."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import messages, metadata
from .errors import SampleError
from .job import Job
from .outputs import output_errors
from .parts import Finding, Part, write_part
from .samples import own_file

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["PRELOAD", "Task", "compress_shard"]

# What only workers need, and load inside their functions: the coordinator, which
# imports this module too, starts in a fraction of the time without numpy and OpenCV.
PRELOAD = ("limbo_compress.images", "limbo_compress.rows")


@dataclass(frozen=True)
class Task:
    """A shard to be done.

    Attributes
    ----------
    job : Job
    start : int
        The row of its first sample.
    paths : tuple of str
        The metadata files of its samples, one a row.
    """

    job: Job
    start: int
    paths: tuple[str, ...]

    @property
    def rows(self) -> range:
        return range(self.start, self.start + len(self.paths))


def compress_shard(task: Task) -> Part:
    """Do a shard. Done twice, it writes the same bytes.

    Bad samples come back as data, in the part.

    Raises
    ------
    OutputError
        If what it made cannot be written.
    """
    from .rows import map_rows

    pieces: list[bytes] = []
    failures: list[Finding] = []
    warnings: list[Finding] = []
    arrays = [map_rows(task.job, array, task.rows) for array in task.job.arrays]
    with _no_garbage_collection(), messages.captured() as take_messages:
        for index, (row, path) in enumerate(zip(task.rows, task.paths, strict=True)):
            try:
                pieces.append(_compress_sample(task.job, path, [array[index] for array in arrays]))
            except SampleError as error:
                failures.append(Finding(row, path, _reason(error, path)))
            else:
                warnings += [Finding(row, path, line) for line in take_messages()]
            finally:
                take_messages()
    pickled = metadata.group(pieces)
    part = Part(task.rows.start, task.rows.stop, len(pickled), tuple(failures), tuple(warnings))
    with output_errors(task.job.folder):
        write_part(task.job.folder, part, pickled)
    return part


def _reason(error: SampleError, path: str) -> str:
    if error.path in ("", path):
        return error.problem
    return f"{os.path.basename(error.path)}: {error.problem}"


def _compress_sample(job: Job, path: str, rows: list[NDArray[Any]]) -> bytes:
    """Fill a sample's rows; return its metadata as a piece of a pickled list."""
    options = job.options
    sample = metadata.parse(_read(path), path)
    if job.images:
        from . import images

        image_path = own_file(path, sample.get("image"), "image")
        images.convert(_read(image_path), image_path, options.image_size, rows[0])
    if not options.metadata:
        return b""
    if options.strip_regions:
        sample = metadata.strip_regions(sample, path)
    return metadata.piece(sample, path)


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except OSError as error:
        raise SampleError(f"cannot read it: {error.strerror or error}", path) from error


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """JSON is a tree: collecting while many small lists are made is most of the parsing time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
