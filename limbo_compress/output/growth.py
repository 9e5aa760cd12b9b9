"""Growth: which rows of older outputs serve again, so that only the others are made.

A row serves again if the files that it was made of are as they were: by size and time, if the state
of the sources has them, else by size and CRC-32, for which the worker reads them. It is copied only
if it matches its own checksum, so the outputs have the bytes that a run from scratch gives.
"""

from __future__ import annotations

import json
import os
from array import array
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

from .. import deflate, filenames
from ..errors import shown
from ..formats.filestate import FileState, open_regular
from ..formats.index import Entry, Index, read_index
from ..formats.npy import ArrayFile
from ..formats.pickling import LIST_END, LIST_START
from ..formats.shard_record import SampleIssue, read_issues
from ..plan import Job
from .made import below_common_folder, how_made
from .state import read_times

__all__ = ["Growth", "OldFiles", "OldRow", "left_out_of_unchanged"]

# What may differ between older outputs and rows that serve again.
_ABOUT_THE_LIST = ("directories", "end", "on_error", "samples", "start", "version", "warnings")


@dataclass(frozen=True)
class OldRow:
    """A row of the older outputs, and what it was made of.

    Attributes
    ----------
    number : int
    offset : int
        Where its fragment begins in the metadata file.
    entry : Entry
    checksums : tuple of int
        CRC-32 of the row in each array of the job.
    files : tuple of FileState
        The sources.
    is_timed : bool
        Whether their times are known.
    warnings : tuple of str
        What was said about the sample.
    """

    number: int
    offset: int
    entry: Entry
    checksums: tuple[int, ...]
    files: tuple[FileState, ...]
    is_timed: bool
    warnings: tuple[str, ...]

    def is_current(self, path: str) -> bool:
        """Whether the sources of a sample have the sizes and times that they had."""
        folder = os.path.dirname(path)
        is_known = self.is_timed and bool(self.files)
        return is_known and all(file.is_exactly(folder) for file in self.files)

    def is_made_of(self, files: Iterable[FileState]) -> bool:
        """Whether the files of a sample that was read have the contents of the sources."""
        return list(map(_content, files)) == list(map(_content, self.files))


def _content(file: FileState) -> tuple[str, int, int]:
    return file.name, file.size, file.checksum


class OldFiles:
    """The older outputs, as a worker reads them. A context manager."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._stack = ExitStack()
        self._streams: dict[str, BinaryIO] = {}
        self._rows = {array.name: bytearray(array.row_bytes) for array in job.arrays}

    def __enter__(self) -> OldFiles:
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def read(self, old: OldRow) -> tuple[dict[str, bytearray], bytes] | None:
        """Return a row of each array, whose memory the next call uses again, and its fragment.

        None if any of it cannot be read or is not what was written.
        """
        with suppress(OSError):
            for array_file, checksum in zip(self._job.arrays, old.checksums, strict=True):
                row = self._rows[array_file.name]
                stream = self._at(array_file.file_name, array_file.offset(old.number))
                if stream.readinto(row) != len(row) or deflate.crc32(row) != checksum:
                    return None
            fragment = self._at(filenames.METADATA, old.offset).read(old.entry.size)
            is_whole = (len(fragment), deflate.crc32(fragment)) == old.entry[:2]
            return (self._rows, fragment) if is_whole else None
        return None

    def _at(self, file_name: str, offset: int) -> Any:
        if file_name not in self._streams:
            stream = open_regular(self._job.final_path(file_name), buffering=0)
            self._streams[file_name] = self._stack.enter_context(stream)
        self._streams[file_name].seek(offset)
        return self._streams[file_name]


class Growth:
    """What a job takes from the older outputs under its prefix, which its run must hold.

    Parameters
    ----------
    job : Job
    paths : sequence of str
        The metadata files, one per row.

    Attributes
    ----------
    obstacle : str
        Why nothing of older outputs serves again; empty if something may, or there are none.
    left_out : tuple of SampleIssue
        The samples that the older outputs leave out, if there is nothing else to do.
    """

    def __init__(self, job: Job, paths: Sequence[str]) -> None:
        self.obstacle = ""
        self.left_out: tuple[SampleIssue, ...] = ()
        self._job = job
        self._older: _Older | None = None
        if job.options.fresh or not job.options.metadata:
            return
        try:
            self._older = _Older(job, paths)
        except FileNotFoundError:  # there are no metadata
            return
        except OSError as error:
            self.obstacle = f"they cannot be read: {error.strerror}"
        except ValueError as error:
            self.obstacle = str(error)
        if self._older is not None:
            self.left_out = self._older.left_out_of_unchanged() or ()
            self._numbers, self._has_moved = _pair(paths, self._older.index)

    def old_rows(self, rows: range) -> tuple[OldRow | None, ...]:
        """Return for each row of a shard the older one that may serve for it; empty without any."""
        if self._older is None:
            return ()
        numbers = self._numbers[rows.start : rows.stop]
        old_rows = (None if number < 0 else self._older.row(number) for number in numbers)
        if self._has_moved:
            old_rows = (old and replace(old, is_timed=False) for old in old_rows)
        return tuple(old_rows)


def left_out_of_unchanged(job: Job, paths: Sequence[str]) -> tuple[SampleIssue, ...] | None:
    """Return the samples that outputs leave out which are what a job would write.

    None if its outputs would be others, or nothing tells. No contents of rows or sources are read.

    Parameters
    ----------
    job : Job
    paths : sequence of str
        The metadata files, one per row.
    """
    if job.options.metadata and not job.options.fresh:
        with suppress(OSError, ValueError):
            return _Older(job, paths).left_out_of_unchanged()
    return None


class _Older:
    """Outputs whose rows may serve a job again.

    Raises
    ------
    FileNotFoundError
        If there are no metadata.
    OSError
        If they cannot be read.
    ValueError
        If they are not whole, or were made in another way.
    """

    def __init__(self, job: Job, paths: Sequence[str]) -> None:
        self._job = job
        self._paths = paths
        self._times: array[int] | None = None
        with open_regular(job.final_path(filenames.METADATA)) as stream:
            index = read_index(stream.fileno())
            if index is None or index.made is None:
                raise ValueError("they do not say how they were made")
            if index.facts is None:
                raise ValueError("they have no table of samples")
            file = stream.fileno()
            ends = os.pread(file, len(LIST_START), 0) + os.pread(file, 1, index.offsets[-1])
            if ends != LIST_START + LIST_END:
                raise ValueError("their metadata are damaged")
            self.index, self._made = index, index.made
            self._failures = _read_issues(job, filenames.FAILURES)[1]
            self._wanted = how_made(job.options, paths, leaves_out=bool(self._failures))
            if "opencv" not in self._made:  # no pixel depends on it
                self._wanted.pop("opencv", None)
            self._check_made()
            self._times = read_times(job, stream.fileno(), index.source_starts[-1])
        for array_file in job.arrays:
            _check_array(job, replace(array_file, rows=len(index)))
        columns = [index.row_checksums(each.name) for each in job.arrays]
        self._checksums = [column for column in columns if column is not None]
        if len(self._checksums) != len(job.arrays):
            raise ValueError("they have no checksums")
        self._warnings: dict[str, list[str]] = defaultdict(list)
        checksum, warnings = _read_issues(job, filenames.WARNINGS)
        if checksum != self._made.get("warnings"):
            raise ValueError("their list of warnings is another one")
        for issue in warnings:
            self._warnings[issue.path].append(issue.reason)
        if len(index):
            self.row(0)  # what the index decodes when it is first used

    def _check_made(self) -> None:
        for name, value in self._wanted.items():
            found = self._made.get(name)
            if name not in _ABOUT_THE_LIST and found != value:
                raise ValueError(
                    f"`{name}` was {found}" if name != "opencv" else f"OpenCV was {found}"
                )

    def row(self, number: int) -> OldRow:
        index, path = self.index, self.index.path(number)
        at = index.source_starts[number]
        files = tuple(
            FileState(name, size, self._times[at + n] if self._times else 0, checksum)
            for n, (name, size, checksum) in enumerate(index.sources(number))
        )
        return OldRow(
            number,
            index.offsets[number],
            index.entry(number),
            tuple(column[number] for column in self._checksums),
            files,
            self._times is not None,
            tuple(self._warnings.get(path, ())),
        )

    def left_out_of_unchanged(self) -> tuple[SampleIssue, ...] | None:
        wanted = self._wanted.items()
        if any(self._made.get(name) != value for name, value in wanted if name != "version"):
            return None
        left_out = {issue.row: issue.path for issue in self._failures}
        has_list = os.path.lexists(self._job.final_path(filenames.FAILURES))
        if any(path not in self._paths[row : row + 1] for row, path in left_out.items()):
            return None
        good = [path for row, path in enumerate(self._paths) if row not in left_out]
        if len(good) != len(self.index) or has_list != bool(left_out):
            return None
        is_current = all(
            self.index.path(number) == path and self.row(number).is_current(path)
            for number, path in enumerate(good)
        )
        return self._failures if is_current else None


def _pair(paths: Sequence[str], index: Index) -> tuple[array[int], bool]:
    """Find the older row of each sample, -1 for none; also return whether all of them have moved.

    Names below the folder that all have in common tell the samples of a campaign that has moved.
    """
    older = [index.path(row) for row in range(len(index))]
    numbers = _merge(paths, older)
    if older and max(numbers) < 0:
        return _merge(below_common_folder(paths), below_common_folder(older)), True
    return numbers, False


def _merge(names: Sequence[str], older: Sequence[str]) -> array[int]:
    """Return the position of each name among older ones, -1 for none. Both are sorted."""
    numbers, row = array("q", [-1]) * len(names), 0
    for number, name in enumerate(older):
        while row < len(names) and names[row] < name:
            row += 1
        if row < len(names) and names[row] == name:
            numbers[row] = number
    return numbers


def _check_array(job: Job, array_file: ArrayFile) -> None:
    """Check the header and the size of an array of the older outputs."""
    path = job.final_path(array_file.file_name)
    try:
        with open_regular(path) as stream:
            size = os.fstat(stream.fileno()).st_size
            is_whole = stream.read(len(array_file.header)) == array_file.header
    except FileNotFoundError:
        raise ValueError(f"{shown(path)} is missing") from None
    if size != array_file.file_bytes or not is_whole:
        raise ValueError(f"{shown(path)} is damaged")


def _read_issues(job: Job, file_name: str) -> tuple[int | None, tuple[SampleIssue, ...]]:
    """Read a list of the older outputs, and the CRC-32 of its file, None if there is none."""
    try:
        with open_regular(job.final_path(file_name)) as stream:
            data = stream.read()
    except FileNotFoundError:
        return None, ()
    try:
        return deflate.crc32(data), read_issues([json.loads(line) for line in data.splitlines()])
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise ValueError(f"{shown(job.final_path(file_name))} is damaged") from error
