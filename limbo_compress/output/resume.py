"""What of earlier runs' work can be trusted: shards whose bytes and samples are as they were."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from .. import deflate
from ..errors import OutputError, UsageError
from ..formats.npy import ArrayFile
from ..formats.shard_record import (
    ShardRecord,
    has_its_metadata,
    read_edges,
    read_shard_records,
    rows_of,
)
from ..oserrors import reading, writing
from ..plan import Job
from .allocate import is_there
from .filesystem import forget_cached, sync_or_remove
from .record import changes, fingerprint, made_by, read_record

__all__ = ["good_records", "has_records", "is_within", "missing", "resumable_record"]

_log = logging.getLogger("limbo_compress")

_CHUNK = 1 << 20
# How much of what was on the disk is read again, to see if it is what was written. Reading all rows
# of a large job would take longer than the rest of it.
_CHECKED_BYTES = 1 << 30


def resumable_record(job: Job, paths: Sequence[str], has_other_partitions: bool) -> dict[str, Any]:
    """Read the record of the work that a run resumes; empty if there is none, or it may go.

    Parameters
    ----------
    job : Job
    paths : sequence of str
        The metadata files, one per row of all partitions.
    has_other_partitions : bool
        Whether others work on the job.

    Raises
    ------
    OutputError, UsageError
        If there is work that this run may neither use nor remove.
    """
    folder = job.folder if os.path.isdir(job.folder) else job.root
    found, wanted = read_record(folder), fingerprint(job, paths)
    has_work = has_records(folder)
    if job.options.fresh or not (has_work or has_other_partitions):
        return {}
    if not found and has_work:
        problem = "there is finished work, but its record is missing or damaged"
        raise OutputError(problem, folder, "`fresh` starts over")
    if found and found.get("format") != wanted["format"]:
        hint = "finish it with that version, or start over with `fresh`"
        raise UsageError(f"unfinished work of {made_by(found)}", job.root, hint)
    if found and (differences := changes(found, wanted)):
        hint = "`fresh` starts over"
        if job.partition:
            hint = "all partitions of a job need the same options and libraries"
        problem = f"unfinished work of another job: {', '.join(differences)}"
        raise UsageError(problem, job.root, hint)
    lost = [array.file_name for array in job.arrays if not is_there(job, array)]
    if lost and has_other_partitions:
        raise OutputError("it is missing", job.work_path(lost[0]), "end all partitions")
    if lost and not os.path.isdir(job.work_folder(lost[0])):
        problem = "unfinished work is missing: mount its disk, or restore the link to it"
        raise OutputError(problem, job.work_folder(lost[0]), "`fresh` starts over")
    if lost:
        _log.warning("unfinished work is lost: %s is missing", job.work_path(lost[0]))
    return {} if lost else found


def good_records(
    job: Job, paths: Sequence[str], runs: Sequence[str], files: Mapping[str, int]
) -> tuple[list[ShardRecord], list[str]]:
    """Read the records of a job's rows that can be trusted.

    Shards are compared with their checksums, as the disk has them rather than a cache. Of those
    that were on the disk when they were done, these are some, spread evenly, and all of them if one
    is not what was written.

    Parameters
    ----------
    job : Job
    paths : sequence of str
        The metadata files, one per row of all partitions.
    runs : sequence of str
        Whose records they may be.
    files : mapping of str to int
        Descriptors of the arrays.

    Returns
    -------
    good : list of ShardRecord
        Disjoint, in order, without failures: bad samples are tried again, for they may be fixed.
    changed : list of str
        For each record whose samples have changed since, the first such file.

    Raises
    ------
    OutputError
        If an array cannot be written to the disk; then it is removed.
    """
    found = read_shard_records(job.folder)
    ours = (record for record in found if record.run in runs and is_within(record.rows, job.rows))
    records = [record for record in ours if not record.failures]
    for array in job.arrays if records else ():
        path, file = job.work_path(array.file_name), files[array.file_name]
        with writing(path):
            sync_or_remove(path, file)
            forget_cached(file)
    rows_bytes = sum(array.row_bytes for array in job.arrays) * len(paths)
    for step in (1 + rows_bytes // _CHECKED_BYTES, 1):
        good, changed, has_lost = [], [], False
        for number, record in enumerate(records):
            is_checked = number % step == 0 or not record.is_synced
            if is_checked and not _has_its_bytes(job, record, files):
                has_lost = True
            elif (name := _changed_file(record, paths)) is None:
                # They take much memory in a large job.
                good.append(record if job.options.metadata else replace(record, files=()))
            elif name:
                changed.append(name)
        if not has_lost:
            break
    return list(_disjoint(good)), changed


def _has_its_bytes(job: Job, record: ShardRecord, files: Mapping[str, int]) -> bool:
    """Whether the rows and the metadata of a record are what was written."""
    edges, at = read_edges(job.folder, record), 0
    for array in job.arrays:
        head, tail = array.edges(record.rows)
        parts = edges[at : at + len(head)], edges[at + len(head) : at + len(head) + len(tail)]
        with reading(job.work_path(array.file_name)):
            found = tuple(_checksums(array, record.rows, files[array.file_name], parts))
        if found != record.checksums.get(array.name):
            return False
        at += len(head) + len(tail)
    return at == len(edges) and has_its_metadata(job.folder, record)


def _checksums(
    array: ArrayFile, rows: range, file: int, edges: tuple[bytes, bytes]
) -> Iterator[int]:
    """Yield the CRC-32 of each row: of its part in either edge, and of the pages between them."""
    (head, tail), (head_data, tail_data) = array.edges(rows), edges
    for row in rows:
        start, stop = array.offset(row), array.offset(row + 1)
        checksum = deflate.crc32(head_data[start - head.start : max(0, stop - head.start)])
        at, end = max(start, head.stop), min(stop, tail.start)
        while at < end and (chunk := os.pread(file, min(_CHUNK, end - at), at)):
            checksum = deflate.crc32(chunk, checksum)
            at += len(chunk)
        part = tail_data[max(0, start - tail.start) : max(0, stop - tail.start)]
        yield deflate.crc32(part, checksum)


def _changed_file(record: ShardRecord, paths: Sequence[str]) -> str | None:
    """Return the first file of its samples that is not as it was when it was read, if any.

    It is empty if the record does not tell.
    """
    paths = paths[record.start : record.stop]
    if len(record.files) != len(paths):
        return ""
    for path, states in zip(paths, record.files, strict=True):
        folder = os.path.dirname(path)
        for state in states:
            if not state.holds(folder):
                return os.path.join(folder, state.name)
    return None


def _disjoint(records: Iterable[ShardRecord]) -> Iterator[ShardRecord]:
    """Leave out shards that are done twice, as after a shard was divided."""
    row = 0
    for record in records:
        if record.start >= row:
            row = record.stop
            yield record


def is_within(rows: range | None, all_rows: range) -> bool:
    """Whether there are rows, and all of them are among others."""
    return rows is not None and all_rows.start <= rows.start and rows.stop <= all_rows.stop


def missing(done: Iterable[range], rows: range) -> list[range]:
    """Ranges of rows that are not done. Those that are done are in order, and may overlap.

    Examples
    --------
    >>> missing([range(2, 4), range(3, 5)], range(9))
    [range(0, 2), range(5, 9)]
    """
    gaps, row = [], rows.start
    for found in (*done, range(rows.stop, rows.stop)):
        if row < found.start:
            gaps.append(range(row, found.start))
        row = max(row, found.stop)
    return gaps


def has_records(folder: str) -> bool:
    """Whether any shard is done in a folder, which may be missing."""
    with suppress(FileNotFoundError):
        return any(map(rows_of, os.listdir(folder)))
    return False
