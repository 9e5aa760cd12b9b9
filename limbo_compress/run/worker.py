"""One shard, start to end: read its samples, fill their rows, and leave a shard record."""

from __future__ import annotations

import mmap
import os
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import dependencies, filenames
from ..errors import MachineError, SampleError, nearest_names, shown
from ..formats.filestate import FileState
from ..formats.index import Boxes, Entry
from ..formats.pickling import fragment, no_garbage_collection
from ..formats.shard_record import SampleIssue, ShardRecord, write_shard_record
from ..options import Options
from ..oserrors import machine_errors
from ..output.assemble import CopyRange
from ..output.growth import OldFiles, OldRow
from ..output.lock import Lock
from ..plan import Job
from ..samples.reader import SampleFiles, SampleReader
from ..samples.schema import Metadata, strip_regions
from .executor import Ending
from .sample_warnings import captured

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..output.row_writer import RowWriter

__all__ = ["ShardTask", "compress_sample", "compress_shard", "initialize"]

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
# Address space that must be free to load the libraries.
_LOADING_BYTES = 1 << 27


@dataclass(frozen=True)
class ShardTask:
    """A shard to be done.

    Attributes
    ----------
    job : Job
    start : int
        The row of its first sample.
    paths : tuple of str
        The metadata files of its samples, one per row.
    copies : tuple of CopyRange
        Metadata of finished shards, to be copied first.
    old_rows : tuple of (OldRow or None)
        For each row the one of older outputs that may serve again; empty if none does.
    """

    job: Job
    start: int
    paths: tuple[str, ...]
    copies: tuple[CopyRange, ...] = ()
    old_rows: tuple[OldRow | None, ...] = ()

    @property
    def rows(self) -> range:
        return range(self.start, self.start + len(self.paths))

    def __len__(self) -> int:
        return len(self.paths)

    def with_copies(self, copies: tuple[CopyRange, ...]) -> ShardTask:
        """Add metadata to be copied."""
        return replace(self, copies=self.copies + copies)

    def divide(self) -> list[ShardTask]:
        """Make a task of each sample; the first one also gets the metadata to be copied."""
        first, *others = (
            ShardTask(self.job, row, (path,))
            for row, path in zip(self.rows, self.paths, strict=True)
        )
        return [replace(first, copies=self.copies), *others]

    def give_up(self, ending: Ending) -> ShardRecord:
        """Report the only sample as bad: it ends every process that works on it.

        Raises
        ------
        MachineError
            If something else ended them.
        """
        text = f"the worker process {ending.text}"
        if ending.is_from_outside:
            raise MachineError(text, self.paths[0])
        issue = SampleIssue(self.start, self.paths[0], text)
        record = ShardRecord(self.start, self.start + 1, self.job.run, failures=(issue,))
        for pending in self.copies:
            pending.copy()
        _leave_record(self.job, record)
        return record


def initialize(options: Options, niceness: int = 0) -> None:
    """Prepare this process for a job: its niceness, its imports, and its allocator.

    The heavy modules are imported here because the coordinator, which imports this module
    too, starts in a fraction of the time without numpy, OpenCV and OpenEXR. OpenCV is imported
    when an image needs it.

    glibc is told to keep freed memory: getting the buffers of each sample from the system again,
    page by page, took a third of a worker's time.

    Raises
    ------
    MachineError
        If a library is missing, damaged or too old.
    """
    import ctypes

    if niceness:
        os.nice(niceness)
    with machine_errors():
        _load_libraries(options)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 1 << 25)
        mallopt(_M_TRIM_THRESHOLD, 1 << 27)


def _load_libraries(options: Options) -> None:
    # OpenBLAS prints and exits if it gets no memory while it is loaded.
    mmap.mmap(-1, _LOADING_BYTES).close()
    for library in ("numpy", "orjson", *(("OpenEXR", "mmh3") if options.masks else ())):
        dependencies.load(library)
    if options.images:
        dependencies.check_installed("cv2")
    modules = {
        "..imaging.image": options.images,
        "..imaging.cryptomatte": bool(options.masks),
        "..output.row_writer": True,
    }
    for module, is_needed in modules.items():
        if is_needed:
            import_module(module, __package__)


def compress_shard(task: ShardTask) -> Generator[str, None, ShardRecord]:
    """Do a shard. Doing it twice writes the same bytes.

    Bad samples come back as data, in the record.

    Yields
    ------
    str
        The path of each sample before it is read.

    Raises
    ------
    OutputError
        If its outputs cannot be written, or another run has taken over the work folder.
    MachineError
        If the machine fails on one of its samples, which may be good.
    """
    with machine_errors():
        return (yield from _compress_shard(task))


def _compress_shard(task: ShardTask) -> Generator[str, None, ShardRecord]:
    from ..output.row_writer import RowWriter

    lock = Lock.of(task.job)
    yield task.paths[0]
    lock.check()
    for pending in task.copies:
        pending.copy()
    with ExitStack() as stack:
        stack.enter_context(no_garbage_collection())
        take_messages = stack.enter_context(captured())
        writers = {
            array.name: stack.enter_context(RowWriter(task.job, array, task.rows))
            for array in task.job.arrays
        }
        # The lock is still ours, so the arrays that are open now are not those of a later job.
        lock.check()
        done = yield from _compress_samples(task, writers, take_messages)
    edges = b"".join(writer.edges for writer in writers.values())
    record = ShardRecord(
        start=task.rows.start,
        stop=task.rows.stop,
        run=task.job.run,
        entries=tuple(done.entries),
        checksums={name: tuple(writer.checksums) for name, writer in writers.items()},
        failures=tuple(done.failures),
        warnings=tuple(done.warnings),
        files=tuple(done.files),
        edge_bytes=len(edges),
        hits=dict(done.hits),
        labels=done.labels_near_misses(task.job.options),
        is_synced=task.job.syncs_shards,
        copied=done.copied,
        rotted=tuple(done.rotted),
    )
    if not done.failures or task.job.options.on_error == "skip":
        _leave_record(task.job, record, b"".join(done.fragments), edges)
    # The index needs them, or a later run.
    return record if task.job.options.metadata else replace(record, files=())


def _check_size(head: bytes, size: int, path: str) -> None:
    from ..imaging.file_size import check_file_size  # here because hardly any file is that large

    check_file_size(head, size, path)


def _leave_record(job: Job, record: ShardRecord, metadata: bytes = b"", edges: bytes = b"") -> None:
    """Write a shard record, unless another run has taken over the work folder."""
    Lock.of(job).check()
    write_shard_record(job.folder, record, metadata, edges)


@dataclass
class _Done:
    """What the samples of a shard gave."""

    fragments: list[bytes] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    failures: list[SampleIssue] = field(default_factory=list)
    warnings: list[SampleIssue] = field(default_factory=list)
    files: list[tuple[FileState, ...]] = field(default_factory=list)
    hits: Counter[str] = field(default_factory=Counter)
    labels: set[str] = field(default_factory=set)
    copied: int = 0
    rotted: list[int] = field(default_factory=list)

    def labels_near_misses(self, options: Options) -> tuple[str, ...]:
        """Choose labels that resemble the patterns of the masks without a hit."""
        misses = [pattern for name, pattern in options.masks.items() if not self.hits[name]]
        return nearest_names(misses, self.labels) if misses else ()

    def add(self, sample: _Sample) -> None:
        if sample.entry is not None:
            self.fragments.append(sample.fragment)
            self.entries.append(sample.entry)
        self.files.append(sample.files)
        self.hits.update(sample.hits)
        self.labels.update(sample.labels)
        self.copied += sample.is_copied


class _Sample(NamedTuple):
    """What a sample gave besides its rows."""

    fragment: bytes
    entry: Entry | None
    hits: list[str]
    files: tuple[FileState, ...]
    labels: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    is_copied: bool = False


def _compress_samples(
    task: ShardTask, writers: dict[str, RowWriter], take_messages: Callable[[], list[str]]
) -> Generator[str, None, _Done]:
    done, options = _Done(), task.job.options
    old_rows = task.old_rows or (None,) * len(task)
    samples = [
        (row, path, old, old is not None and old.is_current(path))
        for row, path, old in zip(task.rows, task.paths, old_rows, strict=True)
    ]
    unread = [path for _, path, _, is_current in samples if not is_current]
    with SampleReader(options, unread, _check_size) as reader, OldFiles(task.job) as old_files:
        for row, path, old, is_current in samples:
            yield path
            try:
                with machine_errors(path), ExitStack() as stack:
                    files = None if is_current else reader.next()
                    sample = None
                    if old is not None and (files is None or old.is_made_of(files.states)):
                        sample = _copy(row, old, files, old_files, writers)
                        done.rotted += [] if sample else [old.number]
                    if sample is None:
                        rows = {n: stack.enter_context(w.row(row)) for n, w in writers.items()}
                        sample = _make(options, files or _read(options, path), rows)
            except SampleError as error:  # one bad sample must not stop the others
                done.failures.append(SampleIssue(row, path, _reason(error, path)))
                take_messages()
            else:
                done.add(sample)
                messages = (*sample.warnings, *take_messages())
                done.warnings += [SampleIssue(row, path, line) for line in messages]
    return done


def _copy(
    row: int,
    old: OldRow,
    files: SampleFiles | None,
    old_files: OldFiles,
    writers: dict[str, RowWriter],
) -> _Sample | None:
    """Copy a sample from older outputs; None if what they have is not what was written."""
    found = old_files.read(old)
    if found is None:
        return None
    rows, fragment = found
    for (name, writer), checksum in zip(writers.items(), old.checksums, strict=True):
        writer.copy(row, rows[name], checksum)
    hits = [
        mask
        for name, values in rows.items()
        if (mask := filenames.mask_of_array(name)) and values != bytes(len(values))
    ]
    states, labels = (files.states, files.labels) if files else (old.files, ())
    return _Sample(fragment, old.entry, hits, states, labels, old.warnings, is_copied=True)


def _make(options: Options, files: SampleFiles, rows: dict[str, NDArray[Any]]) -> _Sample:
    return _Sample(*compress_sample(options, files, rows), files.states, files.labels)


def _read(options: Options, path: str) -> SampleFiles:
    with SampleReader(options, (path,), _check_size) as reader:
        return reader.next()


def _reason(error: SampleError, path: str) -> str:
    if error.path in ("", path):
        return error.problem
    return f"{shown(os.path.basename(error.path))}: {error.problem}"


def compress_sample(
    options: Options, files: SampleFiles, rows: dict[str, NDArray[Any]]
) -> tuple[bytes, Entry | None, list[str]]:
    """Fill a sample's rows, and pickle its metadata, which are emptied then.

    Parameters
    ----------
    options : Options
    files : SampleFiles
        All that was read of the sample.
    rows : dict of str to ndarray
        The sample's row of each array, by the array's name.

    Returns
    -------
    fragment : bytes
        Of the pickled list; empty if no metadata is asked for.
    entry : Entry or None
        What the index says about it.
    hits : list of str
        Names of the masks that cover anything.
    """
    pickled, entry = b"", None
    hits: list[str] = []
    if options.metadata:
        metadata = files.metadata
        if options.strip_regions:
            metadata = strip_regions(metadata, files.path)
        pickled = fragment(metadata, files.path)
        boxes = _boxes(metadata, options) if rows else None
        entry = Entry.of(pickled, metadata, boxes, files.has_jpeg)
        # Pickling and freeing many small objects is faster while the CPU still caches them.
        files.metadata.clear()
    if files.image is not None:
        from ..imaging.image import convert

        convert(files.image.data, files.image.path, options, rows[filenames.IMAGES])
    if options.masks:
        hits = _fill_masks(options, files, rows)
    return pickled, entry, hits


def _boxes(metadata: Metadata, options: Options) -> Boxes | None:
    """Return the boxes of a sample for the index; None if any of them is not as Limbo's are."""
    from ..formats import geometry

    problems: set[str] = set()
    try:
        found = geometry.boxes(metadata, options.image_size, problems.add)
    except ValueError:  # whoever asks for them gets this error
        return None
    if problems:  # or this warning
        return None
    return tuple((box.category, tuple(box.xyxy.tolist())) for box in found)


def _fill_masks(options: Options, files: SampleFiles, rows: dict[str, NDArray[Any]]) -> list[str]:
    """Fill a sample's rows of all masks, with zeros if it has no cryptomatte.

    Returns the names of the masks that cover anything.
    """
    from ..imaging.cryptomatte import mattes, open_cryptomatte, resize_matte

    masks = [rows[filenames.mask_array(mask)] for mask in options.masks]
    file = files.cryptomatte
    if file is None:
        for row in masks:
            row[...] = 0
        return []
    cryptomatte = open_cryptomatte(file.data, file.path, options.max_pixels)
    found = mattes(cryptomatte, files.labels, list(options.masks.values()))
    return [
        name
        for name, row, matte in zip(options.masks, masks, found, strict=True)
        if resize_matte(matte, options.image_size, row)
    ]
