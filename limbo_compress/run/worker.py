"""One shard, start to end: read its samples, fill their rows, and leave a part-file."""

from __future__ import annotations

import gc
import os
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import messages, metadata
from .errors import OutputError, SampleError, output_errors
from .files import Files, Reader, cryptomatte_section
from .job import Job
from .options import Options
from .parts import Finding, Join, Part, write_part

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .rows import Rows

__all__ = ["Task", "compress_shard", "initialize"]


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
    joins : tuple of Join
        Metadata of shards that are done, to be copied first.
    """

    job: Job
    start: int
    paths: tuple[str, ...]
    joins: tuple[Join, ...] = ()

    @property
    def rows(self) -> range:
        return range(self.start, self.start + len(self.paths))

    def joining(self, joins: tuple[Join, ...]) -> Task:
        """Add joins to the task."""
        return replace(self, joins=self.joins + joins)

    def divide(self) -> list[Task]:
        """Make a task of each sample; the joins go with the first."""
        return [
            Task(self.job, row, (path,), () if number else self.joins)
            for number, (row, path) in enumerate(zip(self.rows, self.paths, strict=True))
        ]

    def give_up(self, ending: str) -> Part:
        """Count the sample, the only one, as bad: it ends the processes that work on it."""
        finding = Finding(self.start, self.paths[0], f"the worker process {ending}")
        part = Part(self.start, self.start + 1, failures=(finding,))
        for join in self.joins:
            join.copy()
        with output_errors(part.path(self.job.folder)):
            write_part(self.job.folder, part)
        return part


def initialize(options: Options) -> None:
    """Make ready what a job needs.

    The modules that only workers need are loaded here: the coordinator, which imports this one
    too, starts in a fraction of the time without numpy, OpenCV and OpenEXR.

    A C library that is glibc is told to keep memory that was freed: to get the buffers of each
    sample from the system anew, page by page, took a third of a worker's time.
    """
    import ctypes

    wanted = {"images": options.images, "masks": bool(options.masks), "rows": True}
    for module, needed in wanted.items():
        if needed:
            import_module(f".{module}", __package__)
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
    from .png import zlib  # ISA-L's where it is installed
    from .rows import Rows

    for join in task.joins:
        join.copy()
    with ExitStack() as stack:
        stack.enter_context(_no_garbage_collection())
        take_messages = stack.enter_context(messages.captured())
        arrays = {
            array.name: stack.enter_context(Rows(task.job, array, task.rows))
            for array in task.job.arrays
        }
        reader = stack.enter_context(Reader(task.job.options, task.paths))
        pieces, failures, warnings = _compress_samples(task, reader, arrays, take_messages)
    pickled = b"".join(pieces)
    part = Part(
        start=task.rows.start,
        stop=task.rows.stop,
        metadata_bytes=len(pickled),
        metadata_checksum=zlib.crc32(pickled),
        checksums={name: array.checksum for name, array in arrays.items()},
        failures=tuple(failures),
        warnings=tuple(warnings),
    )
    if not failures or task.job.options.on_error == "skip":
        with output_errors(part.path(task.job.folder)):
            write_part(task.job.folder, part, pickled)
    return part


def _compress_samples(
    task: Task, reader: Reader, arrays: dict[str, Rows], take_messages: Callable[[], list[str]]
) -> tuple[list[bytes], list[Finding], list[Finding]]:
    """Do a shard's samples; return their pickled metadata, the failures and the warnings."""
    pieces: list[bytes] = []
    failures: list[Finding] = []
    warnings: list[Finding] = []
    options = task.job.options
    for row, path in zip(task.rows, task.paths, strict=True):
        try:
            with ExitStack() as places:
                rows = {n: places.enter_context(array.row(row)) for n, array in arrays.items()}
                piece = _compress_sample(options, reader.next(), rows)
        except OutputError:
            raise
        except Exception as error:  # whatever one sample does, the others go on
            failures.append(Finding(row, path, _reason(error, path)))
            take_messages()
        else:
            pieces.append(piece)
            warnings += [Finding(row, path, line) for line in take_messages()]
    return pieces, failures, warnings


def _reason(error: Exception, path: str) -> str:
    if not isinstance(error, SampleError):
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{os.path.basename(frame.filename)}:{frame.lineno}"
        return f"unexpected {type(error).__name__} at {place}: {error}"
    if error.path in ("", path):
        return error.problem
    return f"{os.path.basename(error.path)}: {error.problem}"


def _compress_sample(options: Options, files: Files, rows: dict[str, NDArray[Any]]) -> bytes:
    """Fill a sample's rows; return its metadata as a piece of a pickled list."""
    _crash_on_request(files.path)
    if files.image is not None:
        from . import images

        images.convert(files.image.data, files.image.path, options, rows["images"])
    if options.masks:
        _fill_masks(options, files, rows)
    if not options.metadata:
        return b""
    sample = files.metadata
    if options.strip_regions:
        sample = metadata.strip_regions(sample, files.path)
    return metadata.piece(sample, files.path)


def _crash_on_request(path: str) -> None:
    """Die as a decoder might, for tests: on samples whose path contains a given text."""
    wanted = os.environ.get("LIMBO_COMPRESS_CRASH_ON")
    if wanted and wanted in path:
        os.kill(os.getpid(), signal.SIGSEGV)


def _fill_masks(options: Options, files: Files, rows: dict[str, NDArray[Any]]) -> None:
    """Fill a sample's rows of all masks, with zeros where it has no cryptomatte."""
    from . import masks

    file = files.cryptomatte
    section = cryptomatte_section(files.metadata, files.path)
    if file is None or section is None:
        for name, _ in options.masks:
            rows[f"masks-{name}"][...] = 0
        return
    cryptomatte = masks.read_cryptomatte(file.data, file.path, options.max_pixels)
    patterns = [pattern for _, pattern in options.masks]
    mattes = masks.mattes(cryptomatte, section["manifest"], patterns, file.path)
    for (name, _), matte in zip(options.masks, mattes, strict=True):
        masks.resize_matte(matte, options.image_size, rows[f"masks-{name}"])


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
