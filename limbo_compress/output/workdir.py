"""The work folder of a job: held by one run or several partitions, with the work that is done."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import Any

from .. import deflate, libraries
from ..errors import OutputError, UsageError, output_errors, reading_errors
from ..formats.filestate import open_regular
from ..formats.parts import Part, has_its_metadata, read_edges, read_parts, rows_of
from ..plan import Job
from .create import create_files, is_there
from .filesystem import is_written_anywhere
from .lock import Lock, partition_locks, this_boot
from .owners import opened_work_folder

__all__ = ["WorkDir", "missing", "read_record"]

_CHUNK = 1 << 20
_RECORD = "job"
_RECORD_NAME = re.compile(r"job-\d+\.json")
_LATE = "late_writers"
_DECODERS = "decoders"
_FORMAT = 7
# How much of what is on the disk is read again, to see if it is what was written. Reading all rows
# of a large job would take longer than the rest of it.
_CHECKED_BYTES = 1 << 30
# A killed worker keeps its files open for a moment.
_LATE_SECONDS = 2.0
_PAUSE_SECONDS = 0.05


class WorkDir:
    """The work folder, while a run holds it or a partition of it.

    A context manager. On leaving, the folder stays if any shard is done, and is removed if
    none is, or if all is published. Nothing in it is touched without its lock. A run of a
    partition removes nothing that may be another's.

    Parameters
    ----------
    job : Job
    paths : sequence of str
        The metadata files, one per row.

    Attributes
    ----------
    job : Job
        The job, which knows how rows are written once the folder is entered: its files exist.
    done : list of Part
        The parts of earlier runs that are whole and whose rows are intact, in order, as far as
        they belong to the rows of this run.
    changed : list of str
        For each part of an earlier run whose samples have changed since, the first such file.
    has_late_writers : bool
        Whether a process of an earlier run may still write to the arrays.
    is_kept : bool
        After leaving, whether the folder stays, with work of this job.

    Raises
    ------
    OutputError
        On entering, if another run holds the folder, or it cannot be created.
    UsageError
        On entering, if the folder belongs to another job.
    """

    def __init__(self, job: Job, paths: Sequence[str]) -> None:
        self.job = self._job = job
        self._paths = paths
        self._lock = Lock.of(job)
        self._stack = ExitStack()
        self._is_claimed = False
        self.done: list[Part] = []
        self.changed: list[str] = []
        self.has_late_writers = False
        self.is_kept = False

    def __enter__(self) -> WorkDir:
        with output_errors(self._job.folder), ExitStack() as stack:
            if self._job.partition is None:
                self._enter_whole(stack)
            else:
                self._enter_partition(stack)
            self._stack = stack.pop_all()
        return self

    def _enter_whole(self, stack: ExitStack) -> None:
        stack.enter_context(self._lock)
        self._open_linked_folders()
        stack.callback(self._leave)
        self._lock.bury_partitions()
        runs = self._claim(self._lock.dead)
        self.done = self._good_parts(runs)
        self._remove_all_but(self._files_to_go_on_with())
        self.job = create_files(self._job)

    def _enter_partition(self, stack: ExitStack) -> None:
        wait = self._job.options.wait
        with Lock(self._job.folder, self._job.run, is_claim=True, wait=wait) as claim:
            stack.enter_context(self._lock)
            self._open_linked_folders()
            stack.callback(self._leave)
            runs = self._claim(claim.dead | self._lock.dead)
            self.job = create_files(self._job)
        self.done = self._good_parts(runs)
        for name in self._own_parts() - self._files_to_go_on_with():
            _remove(os.path.join(self._job.folder, name))

    def _open_linked_folders(self) -> None:
        for folder in self._job.linked_folders:
            with output_errors(folder), opened_work_folder(folder):
                pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        with self._stack:
            if isinstance(error, OutputError):
                self._lock.check()  # if the folder is lost, that explains every other error

    def check(self) -> None:
        """Check that the folder is still this run's.

        Raises
        ------
        OutputError
            If another run has taken it over, or its files were replaced.
        """
        self._lock.check()
        with output_errors(self._job.folder):
            if _runs(read_record(self._job.folder))[-1:] != [self._job.run]:
                raise OutputError("it is no longer the work folder of this run", self._job.folder)

    def clear(self) -> None:
        """Remove all work, once the job is published. On leaving, the folder goes, too."""
        self._remove_all_but(set())

    def _leave(self) -> None:
        """Keep the folder if any shard is done; else clear it, so that the lock removes it."""
        with suppress(OSError, OutputError):
            self._lock.check()
            has_parts = self._has_parts()
            self.is_kept = self._is_claimed and has_parts
            if not has_parts and self._job.partition is None:
                self.clear()
            for folder in self._job.linked_folders:
                with suppress(OSError):  # it holds work, or a network filesystem keeps a file
                    os.rmdir(folder)

    def _has_parts(self) -> bool:
        return any(map(rows_of, os.listdir(self._job.folder)))

    def _own_parts(self) -> set[str]:
        """Names of the part-files of the rows of this run."""
        names = os.listdir(self._job.folder)
        return {name for name in names if _is_within(rows_of(name), self._job.rows)}

    def _is_in_use(self) -> bool:
        """Whether the folder holds work, or other partitions are at it."""
        return self._has_parts() or set(partition_locks(self._job.folder)) > {self._lock.name}

    def _claim(self, dead: dict[str, bool]) -> list[str]:
        """Make the folder this run's, and return the names of all runs whose parts are in it.

        `dead` has the runs from which it was taken over, see `Lock`.
        """
        fingerprint = _fingerprint(self._job, self._paths)
        found = read_record(self._job.folder)
        changes = _changes(found, fingerprint)
        is_in_use = self._is_in_use()
        if changes and self._job.partition and is_in_use and not found:
            raise OutputError("its record is missing or damaged", self._job.folder, "remove it")
        if found and changes and is_in_use and not self._job.options.fresh:
            hint = "`fresh` starts over"
            if self._job.partition:
                hint = "all partitions of a job need the same options and libraries"
            raise UsageError(
                f"unfinished work of another job: {', '.join(changes)}", self._job.folder, hint
            )
        runs = [*_runs(found), self._job.run]
        if changes or self._job.options.fresh or not is_in_use:
            self.clear()
            runs = [self._job.run]
        else:
            fingerprint = found | fingerprint
            self.has_late_writers = self._may_have_late_writers(found, dead)
        late = {_LATE: self.has_late_writers}
        self._write_record(fingerprint | late | {"runs": runs})
        self._is_claimed = True
        return runs

    def _write_record(self, record: dict[str, Any]) -> None:
        """Write the record under a new name, which no client of a network has cached."""
        older = _record_names(self._job.folder)
        number = 1 + max(map(_number, older), default=0)
        draft = self._job.own_path(_RECORD)
        with open(draft, "w", encoding="utf-8") as stream:
            json.dump(record, stream)
        os.replace(draft, self._job.work_path(f"{_RECORD}-{number}.json"))
        for name in older:
            with suppress(OSError):
                os.unlink(self._job.work_path(name))

    def _may_have_late_writers(self, record: dict[str, Any], dead: dict[str, bool]) -> bool:
        """Whether a process of a run that was taken over may still be alive, and write."""
        if record.get(_LATE) or not all(dead.values()) or not dead.keys() <= set(_runs(record)):
            return True
        deadline = time.monotonic() + _LATE_SECONDS
        while dead and any(map(is_written_anywhere, self._folders())):
            if time.monotonic() > deadline:
                return True
            time.sleep(_PAUSE_SECONDS)
        return False

    def _good_parts(self, runs: list[str]) -> list[Part]:
        """Read the parts that can be trusted.

        Of those that are on the disk, some are compared with their checksums, spread evenly; all
        of them if one is not what was written. The others are always compared.
        """
        if not all(is_there(self._job, array) for array in self._job.arrays):
            return []  # `create_files` starts such an array anew
        rows_bytes = sum(array.row_bytes for array in self._job.arrays) * len(self._paths)
        for step in (1 + rows_bytes // _CHECKED_BYTES, 1):
            self.changed.clear()
            good, has_lost = [], False
            for number, part in enumerate(read_parts(self._job.folder)):
                rows = range(part.start, part.stop)
                if part.run not in runs or not _is_within(rows, self._job.rows):
                    continue
                if part.failures:  # bad samples are tried again: they may have been fixed
                    continue
                is_checked = number % step == 0 or not _is_synced(part)
                if is_checked and not self._has_its_bytes(part):
                    has_lost = True
                elif self._has_its_samples(part):
                    good.append(replace(part, files=()))  # they take much memory in a large job
            if not has_lost:
                break
        return list(_disjoint(good))

    def _has_its_bytes(self, part: Part) -> bool:
        """Whether the rows and the metadata of a part are what was written."""
        edges, at = read_edges(self._job.folder, part), 0
        rows = range(part.start, part.stop)
        for array in self._job.arrays:
            head, tail = (len(edge) for edge in array.edges(rows))
            checksum = deflate.crc32(edges[at : at + head])
            checksum = self._checksum(array.file_name, array.whole_pages(rows), checksum)
            checksum = deflate.crc32(edges[at + head : at + head + tail], checksum)
            if checksum != part.checksums.get(array.name):
                return False
            at += head + tail
        return at == len(edges) and has_its_metadata(self._job.folder, part)

    def _has_its_samples(self, part: Part) -> bool:
        """Whether the files of its samples are as they were when they were read."""
        paths = self._paths[part.start : part.stop]
        if len(part.files) != len(paths):  # the record is damaged
            return False
        for path, states in zip(paths, part.files, strict=True):
            folder = os.path.dirname(path)
            for state in states:
                if not state.holds(folder):
                    self.changed.append(os.path.join(folder, state.name))
                    return False
        return True

    def _checksum(self, file_name: str, span: range, checksum: int) -> int:
        """Continue a checksum over a range of bytes of an array."""
        path = self._job.work_path(file_name)
        with reading_errors(path), suppress(FileNotFoundError), open_regular(path) as stream:
            stream.seek(span.start)
            left = len(span)
            while left and (chunk := stream.read(min(_CHUNK, left))):
                checksum = deflate.crc32(chunk, checksum)
                left -= len(chunk)
        return checksum

    def _files_to_go_on_with(self) -> set[str]:
        names = {os.path.basename(part.path(self._job.folder)) for part in self.done}
        if names:
            names.update(array.file_name for array in self._job.arrays)
        return names.union(_record_names(self._job.folder))

    def _folders(self) -> tuple[str, ...]:
        return (self._job.folder, *self._job.linked_folders)

    def _remove_all_but(self, kept: set[str]) -> None:
        for folder in self._folders():
            with suppress(FileNotFoundError):
                for name in set(os.listdir(folder)) - kept - {Lock.NAME, self._lock.name}:
                    _remove(os.path.join(folder, name))


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:  # the draft of a lock, or what a network filesystem keeps while it is open
        shutil.rmtree(path, ignore_errors=True)


def _disjoint(parts: Iterable[Part]) -> Iterator[Part]:
    """Leave out shards that are done twice, as after a shard was divided."""
    row = 0
    for part in parts:
        if part.start >= row:
            row = part.stop
            yield part


def read_record(folder: str) -> dict[str, Any]:
    """Read which job a work folder belongs to; empty if there is no record, or a damaged one.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    # Listed: a name that is looked up before it is there is missing for a while on a network.
    names = _record_names(folder)
    if not names:
        return {}
    try:
        path = os.path.join(folder, max(names, key=_number))
        with reading_errors(path), open_regular(path) as stream:
            record = json.load(stream)
    except (ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def _record_names(folder: str) -> list[str]:
    return [name for name in os.listdir(folder) if _RECORD_NAME.fullmatch(name)]


def _number(record_name: str) -> int:
    return int(record_name[len(_RECORD) + 1 : -len(".json")])


def _is_within(rows: range | None, all_rows: range) -> bool:
    return rows is not None and all_rows.start <= rows.start and rows.stop <= all_rows.stop


def _is_synced(part: Part) -> bool:
    """Whether a part is on the disk, or in the memory of this machine since it was written."""
    return part.unsynced_since in ("", this_boot())


def missing(done: Iterable[Part], rows: range) -> list[range]:
    """Ranges of rows that no part covers; the parts are disjoint, in order, and within the rows.

    Examples
    --------
    >>> missing([Part(2, 4, "a"), Part(4, 5, "b")], range(9))
    [range(0, 2), range(5, 9)]
    """
    inner = (edge for part in done for edge in (part.start, part.stop))
    edges = [rows.start, *inner, rows.stop]
    pairs = zip(edges[0::2], edges[1::2], strict=True)
    return [range(start, stop) for start, stop in pairs if start < stop]


def _fingerprint(job: Job, paths: Sequence[str]) -> dict[str, Any]:
    """What must not change for work to be resumed: options that matter, decoders, samples."""
    import hashlib  # here because no worker needs it

    options = job.options
    names = hashlib.sha256()
    for path in paths:
        names.update(os.fsencode(path) + b"\0")
    partitions = {"partitions": job.partition.count} if job.partition else {}
    decoders = libraries.decoders(options.images, bool(options.masks))
    return partitions | {
        "format": _FORMAT,
        "images": options.images,
        "image_size": list(options.image_size),
        "masks": [list(mask) for mask in options.masks],
        "metadata": options.metadata,
        "strip_regions": options.strip_regions,
        _DECODERS: decoders,
        "number of samples": len(paths),
        "list of samples": names.hexdigest(),
    }


def _runs(record: dict[str, Any]) -> list[str]:
    """The names of the runs that worked on a job, the latest one last."""
    runs = record.get("runs")
    return [run for run in runs if isinstance(run, str)] if isinstance(runs, list) else []


def _changes(found: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """Say how the job that was found differs from the one that is wanted."""
    changes = []
    for name, value in wanted.items():
        if name == "partitions" and name not in found:  # no partition has begun
            continue
        if found.get(name) != value:
            if name == _DECODERS:
                changes += _new_versions(found.get(name), value)
            elif isinstance(value, str):  # a digest means nothing to a reader
                changes.append(f"the {name} changed")
            else:
                changes.append(f"`{name}` was {found.get(name)}")
    return changes


def _new_versions(found: Any, wanted: dict[str, str]) -> list[str]:
    """Say which libraries have another version."""
    before = found if isinstance(found, dict) else {}
    pairs = {package: (before.get(package, "unknown"), wanted[package]) for package in wanted}
    return [f"{package} was {old}, is {new}" for package, (old, new) in pairs.items() if old != new]
