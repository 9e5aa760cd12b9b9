"""Create the unfinished outputs of a job, and reserve their space."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import replace

from .. import names
from ..errors import OutputError, UsageError, output_errors, reading_errors
from ..formats.filestate import open_regular
from ..formats.npy import ArrayFile
from ..formats.pickling import LIST_START
from ..plan import Job
from .filesystem import free_bytes, is_safe_to_map, reserve

__all__ = ["create_files", "is_there"]


def create_files(job: Job) -> Job:
    """Create the unfinished outputs and reserve their space.

    Parameters
    ----------
    job : Job
        Its folders exist. Arrays that an earlier run left are kept.

    Returns
    -------
    Job
        The job, which now knows how rows are written.

    Raises
    ------
    OutputError
        If they cannot be created, or there is no space for them.
    UsageError
        If the filesystem takes the names of two masks for one.
    """
    _check_space(job)
    mapped = frozenset(array.name for array in job.arrays if _create(job, array))
    _check_names(job)
    if job.options.metadata and job.partition is None:
        path = job.own_path(names.METADATA)
        with output_errors(path), open(path, "wb") as stream:
            stream.write(LIST_START)
    return replace(job, mapped=mapped)


def _check_space(job: Job) -> None:
    """Check each filesystem for the space of all arrays that it will hold."""
    needed: Counter[int] = Counter()
    folders: dict[int, str] = {}
    for array in job.arrays:
        if is_there(job, array):
            continue
        folder = os.path.dirname(job.real_path(array.file_name))
        with output_errors(folder):
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
    with reading_errors(path), suppress(FileNotFoundError), open_regular(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        return size == array.file_bytes and stream.read(len(array.header)) == array.header
    return False


def _create(job: Job, array: ArrayFile) -> bool:
    """Create an array and reserve its space; return whether its rows may be mapped."""
    path = job.work_path(array.file_name)
    is_new = not is_there(job, array)
    with output_errors(path), open(path, "w+b" if is_new else "r+b") as stream:
        if is_new:
            stream.write(array.header)
            stream.flush()
        is_reserved = reserve(stream.fileno(), array.file_bytes)
    how = job.options.write_rows
    if how == "auto":
        return is_reserved and is_safe_to_map(os.path.dirname(path))
    return how == "mmap"


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
                os.path.dirname(job.folder),
            )
