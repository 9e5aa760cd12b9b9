"""The output files: join the metadata, and verify all before they are published."""

from __future__ import annotations

import heapq
import json
import os
import shutil
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from .. import deflate, filenames
from ..errors import OutputError
from ..formats.filestate import open_regular
from ..formats.index_2 import IndexWriter
from ..formats.npy import ArrayFile
from ..formats.pickling import LIST_END, LIST_START
from ..formats.shard_record import SampleIssue, ShardRecord, read_edges
from ..oserrors import reading, writing
from ..plan import Job
from ..signals import finishing
from .allocate import check_space
from .filesystem import reserve, start_writing, sync_or_remove, write_at
from .made import how_made
from .older_outputs import ExistingOutputs
from .preflight import check_targets
from .publication import Publication
from .state import known_time, new_times, write_times

__all__ = ["CopyRange", "OutputFile", "Publisher"]

# malloc returns larger buffers to the system after each read, and new ones need new pages.
_COPY_CHUNK = 1 << 16
# A resumed job starts with many copies; spread them, so that no task takes long.
_COPIES_A_TASK = 8


@dataclass(frozen=True)
class OutputFile:
    """A file that was published.

    Attributes
    ----------
    path : str
    shape : tuple of int
        Of the array; for metadata, the number of samples.
    dtype : str
        Of the array; for metadata, ``list of dict``.
    bytes : int
        Size of the file.
    """

    path: str
    shape: tuple[int, ...]
    dtype: str
    bytes: int


@dataclass(frozen=True)
class CopyRange:
    """Where the pickled metadata of a record belongs in the joined file.

    Attributes
    ----------
    source, target : str
        The shard record and the joined file.
    offset, bytes : int
        Where the metadata begins in the target, and its length.
    """

    source: str
    target: str
    offset: int
    bytes: int

    def copy(self) -> None:
        """Copy the metadata. Doing it twice changes nothing.

        Raises
        ------
        OutputError
            If it cannot be written, or the shard record has become shorter.
        """
        with writing(self.target), open(self.target, "r+b") as target:
            with reading(self.source):
                source = open_regular(self.source)
            with source:
                source.seek(max(0, source.seek(0, os.SEEK_END) - self.bytes))
                target.seek(self.offset)
                shutil.copyfileobj(source, target, _COPY_CHUNK)
                target.flush()
                start_writing(target.fileno(), self.offset, self.bytes)
            if target.tell() != self.offset + self.bytes:
                raise OutputError("it is shorter than what was written", self.source)


class Publisher:
    """The files of an unfinished job, on their way to publication.

    Parameters
    ----------
    job : Job
        Its files are created.
    paths : sequence of str
        The metadata files, one per row.
    existing : ExistingOutputs
        The older outputs that stay.
    files : mapping of str to int
        Descriptors of the unfinished outputs.

    Attributes
    ----------
    failures, warnings : list of SampleIssue
        Those of the records collected so far.
    hits : Counter of str
        For each mask, the number of samples of these records in which it covers anything.
    labels : set of str
        The labels that these records name.
    copied : int
        How many of their rows were copied from older outputs.
    rotted : set of int
        Rows of older outputs that were not what was written.
    """

    def __init__(
        self,
        job: Job,
        paths: Sequence[str],
        existing: ExistingOutputs,
        files: Mapping[str, int],
    ) -> None:
        self._job = job
        self._paths = paths
        self._files = files
        self._index = IndexWriter([array.name for array in job.arrays])
        self._existing = existing
        self._rows: list[tuple[range, dict[str, tuple[int, ...]]]] = []
        self._joined = 0
        self._waiting: list[tuple[int, ShardRecord]] = []
        self._copies: deque[CopyRange] = deque()
        self._metadata_bytes = len(LIST_START)
        self._sources: dict[str, str | None] = dict.fromkeys(job.file_names)
        self._written: list[OutputFile] = []
        self.failures: list[SampleIssue] = []
        self.warnings: list[SampleIssue] = []
        self.hits: Counter[str] = Counter()
        self.labels: set[str] = set()
        self.copied = 0
        self.rotted: set[int] = set()
        self._times = new_times()

    def collect(self, record: ShardRecord) -> None:
        """Take a finished shard, in any order. Its metadata waits for the shards before it.

        Raises
        ------
        OutputError
            If it leaves out other samples than the existing outputs, or its edges cannot be
            written.
        """
        self._existing.check(record)
        self.failures += record.failures
        self.warnings += record.warnings
        self.hits.update(record.hits)
        self.labels.update(record.labels)
        self.copied += record.copied
        self.rotted.update(record.rotted)
        if self._job.partition is None:
            self._join(record)

    def _join(self, record: ShardRecord) -> None:
        if record.edge_bytes:
            self._write_edges(record)
        self._rows.append((record.rows, record.checksums))
        heapq.heappush(self._waiting, (record.start, record))
        while self._waiting and self._waiting[0][0] == self._joined:
            _, record = heapq.heappop(self._waiting)
            self._joined = record.stop
            if self._job.options.metadata:
                source, target = (
                    record.path(self._job.folder),
                    self._job.own_path(filenames.METADATA),
                )
                copy = CopyRange(source, target, self._metadata_bytes, record.metadata_bytes)
                self._metadata_bytes += copy.bytes
                self._copies.append(copy)
                self._add_to_index(record)

    def _write_edges(self, record: ShardRecord) -> None:
        """Write what shares a page with other shards; only the coordinator writes these pages."""
        edges, at = read_edges(self._job.folder, record), 0
        for array in self._job.arrays:
            file = self._files[array.file_name]
            with writing(self._job.work_path(array.file_name)):
                for edge in array.edges(record.rows):
                    write_at(file, memoryview(edges)[at : at + len(edge)], edge.start)
                    at += len(edge)

    def _add_to_index(self, record: ShardRecord) -> None:
        bad = {issue.row for issue in record.failures}
        good = (row for row in record.rows if row not in bad)
        checksums: Iterable[tuple[int, ...]] = [()] * len(record.entries)
        if record.checksums:
            checksums = zip(*record.checksums.values(), strict=True)
        for row, entry, files, row_checksums in zip(
            good, record.entries, record.files, checksums, strict=True
        ):
            self._index.add(self._paths[row], entry, files, row_checksums)
            self._times.extend(map(known_time, files))

    def take_copies(self) -> tuple[CopyRange, ...]:
        """Hand out metadata for a worker to copy: many workers copy faster than one process."""
        return tuple(self._copies.popleft() for _ in range(min(_COPIES_A_TASK, len(self._copies))))

    def copy(self) -> None:
        """Copy the metadata that is due, where no worker does it.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        while self._copies:
            self._copies.popleft().copy()

    def publish(self, check: Callable[[], None], has_late_writers: bool) -> tuple[OutputFile, ...]:
        """Verify what was written, and give it its names.

        Parameters
        ----------
        check : callable
            Called before each rename; raises an error if the work is no longer this run's.
        has_late_writers : bool
            Whether a process that was given up may still write to the arrays. Copies of them are
            published then.

        Raises
        ------
        OutputError
            If something is missing, or the files cannot be written or renamed.
        """
        rows = len(self._paths)
        if self._joined != rows:
            raise OutputError(f"{self._joined} of {rows} samples were done", self._job.folder)
        check()
        with writing(self._job.folder):
            self._finish_arrays(has_late_writers)
            self._write_issues(filenames.FAILURES, self.failures)
            # Older warnings stay where they are about outputs that stay.
            warnings = {*self._existing.warnings, *self.warnings}
            self._write_issues(filenames.WARNINGS, warnings)
            if self._job.options.metadata:
                self._finish_metadata()
            check_targets(self._job)
            with finishing():
                Publication(self._job, self._sources).publish(check)
                if self._job.options.metadata:
                    write_times(self._job, self._times, check)
        return tuple(self._written)

    @property
    def failures_path(self) -> str | None:
        """Path of the list of bad samples, or None if there are none."""
        return self._job.final_path(filenames.FAILURES) if self.failures else None

    @property
    def warnings_path(self) -> str | None:
        """Path of the list of warnings, or None if there are none."""
        return self._job.final_path(filenames.WARNINGS) if self.warnings else None

    def _finish_arrays(self, has_late_writers: bool) -> None:
        are_copied = bool(self.failures) or has_late_writers
        if are_copied:
            check_space(self._job)
        for array in self._job.arrays:
            final = replace(array, rows=array.rows - len(self.failures))
            if are_copied:
                path = self._job.own_path(array.file_name)
                self._copy_good_rows(array, final, path)
            else:
                path = self._job.work_path(array.file_name)
                with writing(path):
                    sync_or_remove(path, self._files[array.file_name])
            dtype = array.kind.dtype
            self._finish(path, array.file_name, final.shape, dtype, final.file_bytes)

    def _copy_good_rows(self, array: ArrayFile, final: ArrayFile, path: str) -> None:
        """Write an array without its bad rows to a new file, which nobody else has open.

        Raises
        ------
        OutputError
            If rows are not those that were written.
        """
        bad = {failure.row for failure in self.failures}
        source_path = self._job.work_path(array.file_name)
        with open(path, "w+b") as target, open(source_path, "rb", buffering=0) as source:
            reserve(target.fileno(), final.file_bytes)
            target.write(final.header)
            for rows, checksums in sorted(self._rows, key=lambda item: item[0].start):
                good = (row for row in rows if row not in bad)
                for row, checksum in zip(good, checksums.get(array.name, ()), strict=True):
                    source.seek(array.offset(row))
                    values = source.read(array.row_bytes)
                    if deflate.crc32(values) != checksum:
                        hint = "another process writes there: end it"
                        raise OutputError(f"row {row} is not what was written", source_path, hint)
                    target.write(values)
            target.flush()
            os.fsync(target.fileno())

    def _write_issues(self, file_name: str, issues: Collection[SampleIssue]) -> None:
        """Write a list of issues, if there are any."""
        if not issues:
            return
        path, lines = self._job.own_path(file_name), _as_lines(issues)
        with open(path, "wb") as stream:
            stream.write(lines)
            stream.flush()
            os.fsync(stream.fileno())
        self._finish(path, file_name, (len(issues),), "JSON lines", len(lines))

    def _finish_metadata(self) -> None:
        self.copy()
        options, path = self._job.options, self._job.own_path(filenames.METADATA)
        made = how_made(options, self._paths, bool(self.failures))
        if self.warnings:  # growth takes those of each row from their list
            made["warnings"] = deflate.crc32(_as_lines(set(self.warnings)))
        with open(path, "r+b") as stream:
            stream.seek(self._metadata_bytes)
            stream.write(LIST_END)
            self._index.write(stream, made)
            size = stream.tell()
        with writing(path):
            os.fsync(self._files[filenames.METADATA])
        good = len(self._paths) - len(self.failures)
        self._finish(path, filenames.METADATA, (good,), "list of dict", size)

    def _finish(
        self, path: str, file_name: str, shape: tuple[int, ...], dtype: str, size: int
    ) -> None:
        """Check the size of a file that is on the disk, to be published under its name."""
        found = os.stat(path).st_size
        if found != size:
            raise OutputError(f"{found:,} bytes where {size:,} were written", path)
        self._sources[file_name] = os.path.basename(path)
        self._written.append(OutputFile(self._job.final_path(file_name), shape, dtype, size))


def _as_lines(issues: Iterable[SampleIssue]) -> bytes:
    ordered = sorted(issues, key=lambda issue: (issue.row, issue.reason))
    records = ({"path": each.path, "row": each.row, "reason": each.reason} for each in ordered)
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)
