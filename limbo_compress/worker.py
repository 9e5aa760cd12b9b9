"""One shard, start to end: read its samples, fill their rows, and leave a part-file."""

from __future__ import annotations

import ctypes
import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import messages, metadata
from .errors import SampleError
from .job import Job
from .options import Options
from .outputs import output_errors
from .parts import Finding, Part, write_part
from .samples import cryptomatte_section, own_file

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Task", "compress_shard", "initialize", "preload"]


# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


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


def preload(options: Options) -> list[str]:
    """Name the modules that only workers need, and load inside their functions.

    The coordinator, which imports this module too, starts in a fraction of the time
    without numpy, OpenCV and OpenEXR.
    """
    wanted = {"images": options.images, "masks": bool(options.masks), "rows": True}
    return [f"{__package__}.{module}" for module, needed in wanted.items() if needed]


def initialize() -> None:
    """Let a worker keep the memory that it has freed, where its C library is glibc.

    To get the buffers of each sample from the system anew, page by page, took a third
    of a worker's time.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 1 << 25)
        mallopt(_M_TRIM_THRESHOLD, 1 << 27)


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
    arrays = {array.name: map_rows(task.job, array, task.rows) for array in task.job.arrays}
    with _no_garbage_collection(), messages.captured() as take_messages:
        for index, (row, path) in enumerate(zip(task.rows, task.paths, strict=True)):
            try:
                rows = {name: array[index] for name, array in arrays.items()}
                pieces.append(_compress_sample(task.job.options, path, rows))
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


def _compress_sample(options: Options, path: str, rows: dict[str, NDArray[Any]]) -> bytes:
    """Fill a sample's rows; return its metadata as a piece of a pickled list."""
    sample = metadata.parse(_read(path), path)
    if options.images:
        from . import images

        image_path = own_file(path, sample.get("image"), "image")
        images.convert(_read(image_path), image_path, options.image_size, rows["images"])
    if options.masks:
        _fill_masks(options, path, sample, rows)
    if not options.metadata:
        return b""
    if options.strip_regions:
        sample = metadata.strip_regions(sample, path)
    return metadata.piece(sample, path)


def _fill_masks(
    options: Options, path: str, sample: metadata.Metadata, rows: dict[str, NDArray[Any]]
) -> None:
    """Fill a sample's rows of all masks, with zeros where it has no cryptomatte."""
    from . import masks

    section = cryptomatte_section(sample, path)
    if section is None:
        for name, _ in options.masks:
            rows[f"masks-{name}"][...] = 0
        return
    exr_path = own_file(path, section, "synthetic.cryptomatte")
    cryptomatte = masks.read_cryptomatte(_read(exr_path), exr_path)
    patterns = [pattern for _, pattern in options.masks]
    mattes = masks.mattes(cryptomatte, section["manifest"], patterns, exr_path)
    for (name, _), matte in zip(options.masks, mattes, strict=True):
        masks.resize_matte(matte, options.image_size, rows[f"masks-{name}"])


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
