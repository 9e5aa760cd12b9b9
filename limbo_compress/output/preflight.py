"""Where the outputs go: whether each of them can be written and take its name, asked beforehand."""

from __future__ import annotations

import os
import stat

from ..errors import OutputError, shown
from ..oserrors import is_folder, writing
from ..plan import Job, links_of
from .owners import check_link

__all__ = ["check_targets"]

_SHORTER = "choose a shorter `prefix`"


def check_targets(job: Job) -> None:
    """Check that every output of a job may be written and take its name.

    Nothing is changed. A job asks before its work, and again before the first of its renames, so
    that all of them succeed or none is tried.

    Raises
    ------
    OutputError
        About the first output that could not be published.
    """
    if os.path.islink(job.root):
        raise OutputError("the work folder is a symbolic link", job.root, "remove the link")
    _check_lengths(job.root)
    if job.links != links_of(job):
        places = ", ".join((job.root, *job.linked_roots))
        problem = "a symbolic link to an output was changed while the job ran"
        hint = f"restore it, or remove the unfinished work ({shown(places)}) and start over"
        raise OutputError(problem, job.target, hint)
    for file_name in job.file_names:
        with writing(job.final_path(file_name)):
            if file_name in job.links:
                check_link(job.final_path(file_name))
            path = job.real_path(file_name)
            folder, own_name = os.path.dirname(path), os.path.basename(job.own_path(file_name))
            _check_lengths(path, job.root_of(file_name), os.path.join(folder, own_name))
            _check_folder(folder)
            _check_replaceable(path)
    _check_distinct(job)


def _check_lengths(*paths: str) -> None:
    """Check names against the limit of their filesystem."""
    for path in paths:
        folder, name = os.path.split(path)
        size = len(os.fsencode(name))
        try:
            limit = os.pathconf(folder, "PC_NAME_MAX")
        except OSError:
            continue
        if 0 < limit < size:
            problem = f"its name has {size} bytes, and the filesystem allows {limit}"
            raise OutputError(problem, path, _SHORTER)


def _check_folder(folder: str) -> None:
    if not is_folder(folder):
        raise OutputError("no such folder, though an output is a link to it", folder)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError("cannot write to the folder of an output", folder)


def _check_replaceable(path: str) -> None:
    """Check that a rename could put a new file in the place of whatever is there."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "what is not a regular file"
        raise OutputError(f"{kind} already has the name of this output", path)


def _check_distinct(job: Job) -> None:
    """Check that no two outputs are links to one file."""
    seen: dict[str, str] = {}
    for file_name in job.file_names:
        real = os.path.realpath(job.final_path(file_name))
        other = seen.setdefault(real, file_name)
        if other != file_name:
            raise OutputError(f"both {other} and {file_name} are to be written there", real)
