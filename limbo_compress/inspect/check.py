"""Whether outputs are what was written: every row against its checksum, without the sources."""

from __future__ import annotations

import errno
import os
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from operator import sub
from typing import Any, NamedTuple

import numpy as np

from .. import deflate, filenames
from ..dataset.dataset import Dataset
from ..dataset.source import Source
from ..errors import InputError
from ..oserrors import machine_errors
from ..run.executor import Progress
from .stretches import in_stretches
from .verify import Finding

__all__ = ["CheckReport", "check"]

# Read at once, and by one task. Reads that fit the caches of a CPU take half the time.
_BLOCK_BYTES, _STRETCH_BYTES = 1 << 19, 1 << 25
_DIFFERS = "it differs from its checksum"
# What it means if all rows of a file have a problem.
_OF_ALL = {_DIFFERS: "all rows differ from their checksums: it belongs to other metadata"}


@dataclass(frozen=True)
class CheckReport:
    """What was found when outputs were compared with their checksums.

    Attributes
    ----------
    rows : int
        How many rows were checked.
    bytes : int
        How much of the outputs was compared with checksums.
    checked : tuple of str
        The files that were compared with checksums.
    unchecked : dict of str to str
        The files that have none, or not of all, and why.
    findings : tuple of Finding
        What is damaged: rows in their order, and whole files.
    """

    rows: int
    bytes: int
    checked: tuple[str, ...]
    unchecked: dict[str, str]
    findings: tuple[Finding, ...]

    def describe(self) -> str:
        """Say it in one line."""
        files = len({found.path for found in self.findings})
        found = f"{files:,} files are DAMAGED" if files else "all hold"
        return (
            f"compared {self.rows:,} rows with their checksums ({len(self.checked):,} files,"
            f" {self.bytes:,} bytes): {found}"
        )

    def as_json(self) -> dict[str, Any]:
        """Return it as values that JSON has."""
        return asdict(self)


@machine_errors()
def check(
    dataset: Dataset, progress: Progress | None = None, *, workers: int | None = None
) -> CheckReport:
    """Compare rows of all outputs with the checksums in the index of the metadata.

    No sources are needed. The index has checksums of the metadata, and of the arrays that the same
    job has written. It is checked whole. Metadata without an index are read in full: they have no
    checksums, but may be damaged so that they cannot be read.

    Parameters
    ----------
    dataset : Dataset
    progress : callable, optional
        Called as ``progress(done, rows)``.
    workers : int, optional
        Number of processes; by default, one for each CPU that this process may use.

    Returns
    -------
    CheckReport

    Raises
    ------
    InputError
        If the outputs cannot be opened.
    """
    chosen = dataset[np.unique(dataset.row_numbers, return_index=True)[1]]
    findings: list[Finding] = []
    unchecked: dict[str, str] = {}
    checked: dict[str, int] = {}  # how many rows of each file
    with_index = [np.empty(0, np.intp)]
    for source, start, rows in chosen.parts():
        findings += _problems(source)
        unchecked |= _without_checksums(source)
        checked |= {file.path: len(rows) for file in _files(source)}
        with_index += [rows + start] if source.index else []
    indexed = chosen[np.isin(chosen.row_numbers, np.concatenate(with_index))]
    compared = 0
    results = dict(in_stretches(_check_rows, indexed, _stretch(indexed), progress, workers))
    for place in sorted(results):
        found, count = results[place]
        findings += found
        compared += count
    findings = _summed_up(findings, checked)
    return CheckReport(len(indexed), compared, tuple(checked), unchecked, tuple(findings))


class _File(NamedTuple):
    """A file that has a checksum for each row."""

    name: str  # without the prefix
    path: str
    checksums: Sequence[int]
    edges: Callable[[int, int], list[int]]  # where the rows from one to another begin, and end


def _files(source: Source) -> Iterator[_File]:
    index = source.index
    if index is None:
        return
    path = source.file_path(filenames.METADATA)
    yield _File(
        filenames.METADATA,
        path,
        index.checksums,
        lambda first, last: index.offsets[first : last + 1].tolist(),
    )
    for name in source.arrays:
        checksums = index.row_checksums(name)
        if checksums is not None:
            yield _array(source, name, checksums)


def _array(source: Source, name: str, checksums: Sequence[int]) -> _File:
    start, size = source.places(name)
    file_name = filenames.array_file(name)
    return _File(
        file_name,
        source.file_path(file_name),
        checksums,
        lambda first, last: [start + row * size for row in range(first, last + 1)],
    )


def _problems(source: Source) -> Iterator[Finding]:
    """Yield what is wrong with whole files of a prefix."""
    path = source.file_path(filenames.METADATA)
    index = source.index
    for name in index.array_names if index else ():
        if name not in source.arrays:
            problem = "it is missing or its header is damaged: the metadata have its checksums"
            yield Finding(None, source.file_path(filenames.array_file(name)), problem)
    if index is None and source.has_metadata:
        try:
            len(source.metadata)  # reads them
        except InputError as error:
            yield Finding(None, path, error.problem)
        else:
            if source.metadata.problem:
                yield Finding(None, path, source.metadata.problem)


def _without_checksums(source: Source) -> Iterator[tuple[str, str]]:
    """Yield the path of each file without checksums, and why it has none."""
    index = source.index
    if source.has_metadata and index is None:
        reason = "no checksums: there is no index, so all of it was read instead"
        yield source.file_path(filenames.METADATA), reason
    for name in source.arrays:
        if index is None or index.row_checksums(name) is None:
            whose = "by version 0.1.0" if index and index.made is None else "without it"
            reason = f"the metadata were written {whose}" if index else "there is no index"
            path = source.file_path(filenames.array_file(name))
            yield path, f"no checksum for {name}: {reason}"


def _stretch(dataset: Dataset) -> int:
    """Return how many rows a task gets."""
    sizes = [
        sum(file.edges(0, 1)[1] - file.edges(0, 1)[0] for file in _files(source))
        for source, _, rows in dataset.parts()
        if len(rows)
    ]
    return max(1, _STRETCH_BYTES // max(sizes, default=1))


def _check_rows(dataset: Dataset, _: int) -> tuple[list[Finding], int]:
    """Check rows of all files; return what is damaged, and how many bytes were read."""
    found, count = [], 0
    for source, start, rows in dataset.parts():
        for file in _files(source) if len(rows) else ():
            with source.open(file.name) as stream:
                for run in np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1):
                    edges = file.edges(int(run[0]), int(run[-1]) + 1)
                    count += edges[-1] - edges[0]
                    checksums = file.checksums[run[0] : run[-1] + 1]
                    found += [
                        Finding(int(run[0]) + start + place, file.path, problem)
                        for place, problem in _damaged(stream.fileno(), edges, checksums)
                    ]
    return sorted(found, key=_row), count


def _damaged(
    file: int, edges: Sequence[int], checksums: Sequence[int]
) -> Iterator[tuple[int, str]]:
    """Yield the place of each consecutive row that is damaged, and how."""
    with suppress(AttributeError, OSError):  # macOS has none
        os.posix_fadvise(file, edges[0], edges[-1] - edges[0], os.POSIX_FADV_WILLNEED)
    buffer = memoryview(bytearray(max(_BLOCK_BYTES, *map(sub, edges[1:], edges))))
    first = 0
    while first < len(checksums):
        last = max(first + 1, bisect_right(edges, edges[first] + _BLOCK_BYTES) - 1)
        yield from _damaged_in(range(first, last), file, edges, checksums, buffer)
        first = last


def _damaged_in(
    block: range,
    file: int,
    edges: Sequence[int],
    checksums: Sequence[int],
    buffer: memoryview,
) -> Iterator[tuple[int, str]]:
    """Read a block of rows at once or, if a part of it cannot be read, each of them alone."""
    begin = edges[block.start]
    try:
        data = buffer[: _read(file, buffer[: edges[block.stop] - begin], begin)]
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        if len(block) == 1:
            yield block.start, f"it cannot be read: {error.strerror}"
        else:
            for row in block:
                yield from _damaged_in(range(row, row + 1), file, edges, checksums, buffer)
        return
    for row in block:
        if deflate.crc32(data[edges[row] - begin : edges[row + 1] - begin]) != checksums[row]:
            yield row, _DIFFERS


def _read(file: int, buffer: memoryview, begin: int) -> int:
    """Fill a buffer from a place of a file on; return how much there was."""
    size = 0
    while size < len(buffer) and (count := os.preadv(file, [buffer[size:]], begin + size)):
        size += count
    return size


def _summed_up(findings: Sequence[Finding], rows: Mapping[str, int]) -> list[Finding]:
    """Return findings with one only for a file all of whose rows have the same problem."""
    counts = Counter((found.path, found.problem) for found in findings if found.row is not None)
    of_all = {each for each, count in counts.items() if count == rows[each[0]] > 1}
    return [
        *(Finding(None, path, _OF_ALL.get(problem, problem)) for path, problem in sorted(of_all)),
        *(each for each in findings if each.row is None or (each.path, each.problem) not in of_all),
    ]


def _row(found: Finding) -> int:
    return -1 if found.row is None else found.row
