"""The work folder of a job: held by one run or several partitions, with the work that is done."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import Any

from ..errors import OutputError
from ..formats.shard_record import ShardRecord, rows_of
from ..oserrors import writing
from ..plan import PLACE, Job
from ..renaming import rename_folder
from .allocate import check_space, create_files, is_there, open_files
from .filesystem import is_written_elsewhere, sync_folders
from .lock import Lock, partition_locks
from .owners import opened_work_folder
from .publication import Publication, is_interrupted
from .record import fingerprint, last_record, read_record, record_names, runs_of, write_record
from .resume import good_records, has_records, is_within, resumable_record

__all__ = ["WorkDir", "place_in"]

_log = logging.getLogger("limbo_compress")

_NEW, _OLD = "new-", "old-"
# Stand while processes of a run may write to arrays: where locks of the kernel tell, and elsewhere.
_LOCKING, _WRITING = "locking-", "writing-"


class WorkDir:
    """The work folder, while a run holds it or a partition of it.

    A context manager. On leaving, the folder stays if any shard is done, and is removed if
    none is, or if all is published. Nothing in it is touched without its lock. A run of a
    partition removes nothing that may be another's.

    All work is in one folder inside, the place of the run that holds the lock. A run that takes
    over renames it first, unless other partitions are at work there. So whatever an earlier run
    asks for by its path is not there, should it be alive still: it cannot change, remove or
    publish what now belongs to another. A place appears with all its arrays and its record; what
    is to be removed is renamed first. Nothing in between is ever taken for work.

    Parameters
    ----------
    job : Job
    paths : sequence of str
        The metadata files, one per row.
    is_local : bool
        Whether all its workers are on this machine.

    Attributes
    ----------
    job : Job
        The job, which knows how rows are written once the folder is entered: its files exist.
    files : dict of str to int
        Descriptors of the unfinished outputs.
    done : list of ShardRecord
        The records of earlier runs that are whole and whose rows are intact, in order, as far as
        they belong to the rows of this run.
    changed : list of str
        For each record of an earlier run whose samples have changed since, the first such file.
    has_late_writers : bool
        Whether a process of an earlier run, or of this one, may still write to the arrays.
    is_kept : bool
        After leaving, whether the folder stays, with work of this job.

    Raises
    ------
    OutputError
        On entering, if another run holds the folder, or it cannot be created.
    UsageError
        On entering, if the folder belongs to another job.
    """

    def __init__(self, job: Job, paths: Sequence[str], is_local: bool) -> None:
        self.job = self._job = job
        self._paths = paths
        self._is_local = is_local
        self._lock = Lock.of(job)
        self._held = [self._lock]
        self._stack = ExitStack()
        self._is_claimed = False
        self._locked: frozenset[str] = frozenset()
        self.files: dict[str, int] = {}
        self.done: list[ShardRecord] = []
        self.changed: list[str] = []
        self.has_late_writers = False
        self.is_kept = False

    def __enter__(self) -> WorkDir:
        with writing(self._job.root), ExitStack() as stack:
            if self._job.partition is None:
                self._hold(stack)
                self._lock.bury_partitions()
                runs = self._open()
            else:
                wait = self._job.options.wait
                with Lock(self._job.root, self._job.run, is_claim=True, wait=wait) as claim:
                    self._hold(stack)
                    self._held.append(claim)
                    try:
                        runs = self._open()
                        self._ask()
                    except (OSError, OutputError):
                        self._ask()  # as in `_explain`
                        raise
                    finally:
                        self._held.remove(claim)
            self.done, self.changed = good_records(self.job, self._paths, runs, self.files)
            self._remove_other_files()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def _hold(self, stack: ExitStack) -> None:
        """Take the lock, to be released after all else."""
        stack.enter_context(self._lock)
        stack.callback(self._leave)
        stack.push(self._explain)

    def _explain(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Check the lock after an error: if the folder is lost, that explains every other one."""
        if isinstance(error, (OSError, OutputError)):
            self._lock.check()
            if self._is_claimed and not os.path.isdir(self._job.folder):
                raise _taken_over(self._job)

    def check(self) -> None:
        """Check that the folder is still this run's.

        Raises
        ------
        OutputError
            If another run has taken it over, or its files were replaced.
        """
        self._lock.check()
        with writing(self._job.folder):
            if runs_of(read_record(self._job.folder))[-1:] != [self._job.run]:
                raise _taken_over(self._job)

    def may_be_written(self) -> bool:
        """Whether anyone else may write to the arrays, now that all workers have ended."""
        locked = (array for array in self.job.arrays if array.name in self._locked)
        files = [self.files[array.file_name] for array in locked]
        return self.has_late_writers or any(map(is_written_elsewhere, files))

    def clear(self) -> None:
        """Remove all work. On leaving, the folder goes, too."""
        self._close_files()
        self._remove_all_but()

    def _open(self) -> list[str]:
        """Make the place of work this run's, and return all runs whose records are in it."""
        place = place_in(self._job.root)
        # A run that has made no place yet has lost its claim to this one, and cannot go on.
        has_others = bool(place) and self._lock.has_other_partitions()
        if has_others:
            self._job = replace(self._job, place=place)
        job = self._job
        for root in job.linked_roots:
            with writing(root), opened_work_folder(root):
                pass
        self._take_over(job.linked_roots)
        self._settle_publication()
        found = resumable_record(job, self._paths, has_others)
        wanted = fingerprint(job, self._paths)
        if found:
            runs = write_record(job, job.folder, found | wanted)
        else:
            self._remove_all_but()
            runs = [job.run]
            self._build(wanted)
        self._is_claimed = True
        opened = open_files(job, self.files)
        self._locked = opened.locked
        self.job = opened if self._is_local else opened.for_other_machines()
        self._look_for_late_writers()
        return runs

    def _settle_publication(self) -> None:
        """Take an interrupted publication back, or remove what one that is complete has left."""
        publication = Publication.read(self._job)
        if publication is None:
            return
        self._take_over(publication.job.linked_roots)
        if publication.settle():
            _log.warning("the publication of an earlier run was complete: this one starts anew")
            self._remove_all_but()
        else:
            _log.warning("the publication of an earlier run was interrupted: it is taken back")

    def _take_over(self, linked_roots: Iterable[str]) -> None:
        """Give the place of an earlier run's work the name of this run's, wherever it has files.

        A run that wakes up may be about to remove that place.
        """
        with suppress(FileNotFoundError):
            return self._take_over_once(linked_roots)
        return self._take_over_once(linked_roots)

    def _take_over_once(self, linked_roots: Iterable[str]) -> None:
        if not (name := place_in(self._job.root)):
            return
        self._make_own(self._job.root, name)
        for root in linked_roots:
            places = _places(root)
            if name in places or len(places) == 1:
                self._make_own(root, name if name in places else places[0])

    def _make_own(self, root: str, name: str) -> None:
        """Give a place in a work folder the name of this run's."""
        self._ask()  # what was listed may be a successor's
        if name != self._job.place:
            rename_folder(os.path.join(root, name), self._own_place(root))

    def _build(self, record: dict[str, Any]) -> None:
        """Make a new place, which appears with all that belongs to it."""
        draft = replace(self._job, place=_NEW + self._job.run)
        roots = self._roots()
        try:
            with writing(self._job.root):  # before the rest is removed
                for root in roots:
                    with opened_work_folder(root):  # the last run may have removed it meanwhile
                        os.mkdir(os.path.join(root, draft.place))
                create_files(draft)
                write_record(draft, draft.folder, record)
                for root in reversed(roots):
                    self._make_own(root, draft.place)
        except BaseException:
            for root in roots:
                shutil.rmtree(os.path.join(root, draft.place), ignore_errors=True)
            raise
        sync_folders({*roots, *map(os.path.dirname, roots)})

    def _look_for_late_writers(self) -> None:
        """Find out who may still write to the arrays, and let others know that this run does."""
        job, arrays = self.job, {array.name for array in self.job.arrays}
        if job.partition is None:
            # Locks say nothing to a client of a network.
            marks = (_WRITING,) if self._locked >= arrays else (_WRITING, _LOCKING)
            has_marks = any(name.startswith(marks) for name in _names(job.folder))
            self.has_late_writers = has_marks or self.may_be_written()
        if self.has_late_writers:
            _log.warning("processes of an earlier run may still write: copies will be published")
            check_space(job)
        mark = _WRITING if self.has_late_writers or not job.locked >= arrays else _LOCKING
        with open(job.work_path(mark + job.run), "x"):
            pass

    def _leave(self) -> None:
        """Keep the work, if there is any; else clear it, so that the lock removes the folder."""
        job = self._job
        self._close_files()
        with suppress(OSError, OutputError):
            self._ask()
            if self._is_claimed:
                self._keep_or_clear()
            for root in job.linked_roots:
                self._ask()  # a successor may just have made it
                with suppress(OSError):  # it holds work, or a network filesystem keeps a file
                    os.rmdir(root)

    def _keep_or_clear(self) -> None:
        job = self._job
        has_arrays = all(is_there(job, array) for array in job.arrays)
        self.is_kept = has_records(job.folder) and (has_arrays or is_interrupted(job.folder))
        for mark in () if self.has_late_writers else (_LOCKING, _WRITING):
            with suppress(FileNotFoundError):
                os.unlink(job.work_path(mark + job.run))
        if not self.is_kept and job.partition is None:
            self.clear()

    def _close_files(self) -> None:
        while self.files:
            os.close(self.files.popitem()[1])

    def _roots(self) -> tuple[str, ...]:
        return (self._job.root, *self._job.linked_roots)

    def _own_place(self, root: str) -> str:
        return os.path.join(root, self._job.place)

    def _remove_all_but(self, kept: str = "") -> None:
        """Remove what is neither kept nor a lock from the work folders."""
        all_kept = {Lock.NAME, *partition_locks(self._job.root), kept}
        for root in self._roots():
            for name in self._names_in(root):
                if name in all_kept:
                    continue
                path = os.path.join(root, name)
                if name.startswith(PLACE):  # else half of it could be taken for a place
                    path = os.path.join(root, _OLD + os.urandom(4).hex())
                    rename_folder(os.path.join(root, name), path)
                _remove(path)

    def _remove_other_files(self) -> None:
        """Remove what this run does not continue, unless it may be another partition's."""
        job = self._job
        kept = {os.path.basename(record.path(job.folder)) for record in self.done}
        kept.update(record_names(job.folder), (array.file_name for array in job.arrays))
        if job.partition is None:
            self._remove_all_but(job.place)
        for root in self._roots():
            for name in self._names_in(self._own_place(root)):
                if job.partition:
                    is_left = is_within(rows_of(name), job.rows)
                else:
                    is_left = job.run not in name and not name.startswith(_WRITING)
                if is_left and name not in kept:
                    _remove(os.path.join(self._own_place(root), name))

    def _names_in(self, folder: str) -> list[str]:
        """List a folder of this run.

        Raises
        ------
        OutputError
            If another run had taken it over, so that the names may be that one's.
        """
        names = _names(folder)
        self._ask()
        return names

    def _ask(self) -> None:
        """Check all locks that this run holds."""
        for lock in self._held:
            lock.check()


def _taken_over(job: Job) -> OutputError:
    return OutputError("another run has taken over this work folder", job.root)


def place_in(root: str) -> str:
    """Return the name of the place in a work folder that holds work; empty if there is none.

    Raises
    ------
    OutputError
        If there are two.
    """
    places = _places(root)
    used = [name for name in places if has_records(os.path.join(root, name))]
    if len(used) > 1:
        raise OutputError(f"{' and '.join(used)} both hold work", root, "move one away")
    return max(used or places, key=lambda name: last_record(os.path.join(root, name)), default="")


def _places(root: str) -> list[str]:
    return [name for name in _names(root) if name.startswith(PLACE)]


def _names(folder: str) -> list[str]:
    with suppress(FileNotFoundError):
        return sorted(os.listdir(folder))
    return []


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:  # a folder, or what a network filesystem keeps while it is open
        shutil.rmtree(path, ignore_errors=True)
