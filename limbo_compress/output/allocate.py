"""Create the unfinished outputs of a job, and reserve their space."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import replace

from .. import filenames
from ..errors import OutputError, UsageError
from ..formats.filestate import open_regular
from ..formats.npy import ArrayFile
from ..formats.pickling import LIST_START
from ..oserrors import reading, writing
from ..plan import Job
from .filesystem import free_bytes, is_safe_to_map, lock_for_writing, reserve

__all__ = ["check_space", "create_files", "is_there", "open_files"]

_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


def create_files(job: Job) -> None:
    """Create the unfinished arrays in a new place, and reserve their space.

    Raises
    ------
    OutputError
        If they cannot be created, or there is no space for them.
    UsageError
        If the filesystem takes the names of two masks for one.
    """
    check_space(job)
    for array in job.arrays:
        path = job.work_path(array.file_name)
        with writing(path):
            try:
                stream = open(path, "xb")  # noqa: SIM115
            except FileExistsError:
                _check_names(job)
                raise
            with stream:
                stream.write(array.header)
                stream.flush()
                reserve(stream.fileno(), array.file_bytes)


def open_files(job: Job, files: dict[str, int]) -> Job:
    """Open the unfinished outputs, as they stay open until they are synced.

    A descriptor hears of each failed write since it was opened; one that is opened later may not.

    Parameters
    ----------
    job : Job
    files : dict of str to int
        Receives the descriptor of each output, to be closed even after an error.

    Returns
    -------
    Job
        The job, which now knows how rows are written.

    Raises
    ------
    OutputError
        If they cannot be opened, or there is no space for them.
    """
    mapped, locked = set(), set()
    for array in job.arrays:
        path = job.work_path(array.file_name)
        with writing(path):
            files[array.file_name] = file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            is_reserved = reserve(file, array.file_bytes)
            if not is_there(job, array):
                raise OutputError("it is not the unfinished array of this job", path)
            if is_safe_to_map(os.path.dirname(path)) and lock_for_writing(file):
                locked.add(array.name)
        how = job.options.write_rows
        if how == "mmap" or (how == "auto" and is_reserved and array.name in locked):
            mapped.add(array.name)
    if job.options.metadata and job.partition is None:
        path = job.own_path(filenames.METADATA)
        with writing(path):
            files[filenames.METADATA] = os.open(path, _NEW, 0o666)
            os.write(files[filenames.METADATA], LIST_START)
    return replace(job, mapped=frozenset(mapped), locked=frozenset(locked))


def check_space(job: Job) -> None:
    """Check each filesystem for the space of another copy of all arrays that it will hold.

    Raises
    ------
    OutputError
        If there is too little.
    """
    needed: Counter[int] = Counter()
    folders: dict[int, str] = {}
    for array in job.arrays:
        folder = os.path.dirname(job.real_path(array.file_name))
        with writing(folder):
            filesystem = os.stat(folder).st_dev
        folders.setdefault(filesystem, folder)
        needed[filesystem] += array.file_bytes
    for filesystem, size in needed.items():
        free = free_bytes(folders[filesystem])
        if free is not None and free < size:
            raise OutputError(
                f"not enough space: {size:,} bytes needed, {free:,} free",
                folders[filesystem],
                "free some, or choose a `prefix` elsewhere",
            )


def is_there(job: Job, array: ArrayFile) -> bool:
    """Whether an earlier run left this array, complete with its header and its size.

    Raises
    ------
    OutputError
        If it cannot be read.
    """
    path = job.work_path(array.file_name)
    with reading(path), suppress(FileNotFoundError), open_regular(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        return size == array.file_bytes and stream.read(len(array.header)) == array.header
    return False


def _check_names(job: Job) -> None:
    """Check that no two arrays became one file, as where names differ in case only."""
    alike = defaultdict(list)
    for array in job.arrays:
        if array.file_name not in job.links:
            alike[array.file_name.casefold()].append(array.file_name)
    for file_names in alike.values():
        if len(file_names) > 1 and not set(file_names) <= set(os.listdir(job.folder)):
            raise UsageError(
                f"`masks`: the filesystem takes {' and '.join(file_names)} for one name",
                os.path.dirname(job.root),
            )
