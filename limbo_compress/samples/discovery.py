"""Directories to ordered sample paths."""

from __future__ import annotations

import errno
import os
import stat
from bisect import bisect
from collections.abc import Callable, Iterable
from typing import NamedTuple

from ..errors import InputError, shown
from ..oserrors import is_about_file, machine_errors, retry

__all__ = ["FoundSamples", "find_samples"]


# What is said of a link that leads nowhere.
_NOWHERE = (errno.ENOENT, errno.ELOOP)


class FoundSamples(NamedTuple):
    """The samples of one or more directories."""

    paths: tuple[str, ...]  # absolute, of the metadata files, sorted as strings
    repeated: int  # those reached again, by overlapping directories or links to folders
    unlisted: dict[str, str]  # for each folder that could not be listed the reason

    def describe_unlisted(self) -> str:
        """Describe the folders that could not be listed, in one line; empty if there are none."""
        if not self.unlisted:
            return ""
        path, reason = next(iter(self.unlisted.items()))
        folders = "1 folder" if len(self.unlisted) == 1 else f"{len(self.unlisted)} folders"
        return f"{folders} could not be listed (the first is {shown(path)}: {reason})"


def find_samples(
    directories: Iterable[str], progress: Callable[[int], object] | None = None
) -> FoundSamples:
    """Find every metadata file below some directories.

    The rules are those of ``glob("**/*.json", recursive=True)``, which the reference
    uses: links to directories are followed, names that start with a dot are skipped, and so are
    folders that may not be listed. A folder that can be reached in several ways counts once, under
    a path without a link if there is one. Loops of links end. A link to a file is a sample
    of its own, as stores that keep each content once make them: its image is next to the link.

    The order of the directories does not matter. `progress` is called for each new sample, with
    their number so far.

    Raises
    ------
    InputError
        If one of these directories cannot be listed, or no sample is found.
    MachineError
        If it is the machine that keeps a folder from being listed.
    """
    roots = sorted({os.path.abspath(directory) for directory in directories})
    walk = _Walk(progress)
    # Real folders first and links after them, so that a path without a link wins.
    waiting = roots
    while waiting:
        links: list[str] = []
        for directory in waiting:
            walk.visit(directory, links)
        waiting = sorted(links)
    for root in roots:
        if root in walk.unlisted:
            raise InputError(f"cannot list this folder: {walk.unlisted[root]}", root)
    samples = FoundSamples(tuple(sorted(walk.found.values())), walk.repeated(), walk.unlisted)
    if not samples.paths:
        raise InputError(
            f"no sample (no *.json file) found below {', '.join(map(shown, roots))}",
            "",
            samples.describe_unlisted(),
        )
    return samples


class _Walk:
    """What a search has seen so far. Two folders are one if their real paths are the same."""

    def __init__(self, progress: Callable[[int], object] | None) -> None:
        self._progress = progress
        self.found: dict[str, str] = {}  # samples by the real path of their folder and their name
        self.unlisted: dict[str, str] = {}
        self._folders: set[str] = set()
        self._folders_again: set[str] = set()

    def visit(self, root: str, links: list[str]) -> None:
        """Search below `root`, which may be a link; append links to folders to `links`."""
        stack = [(root, os.path.realpath(root))]
        while stack:
            folder, real = stack.pop()
            if real in self._folders:
                self._folders_again.add(real)
                continue
            self._folders.add(real)
            for entry in self._entries(folder):
                if entry.name.startswith("."):
                    continue
                if self._is_folder(entry):
                    if entry.is_symlink():
                        links.append(entry.path)
                    else:
                        stack.append((entry.path, os.path.join(real, entry.name)))
                elif entry.name.endswith(".json"):
                    # Without links on the way, one text serves as both.
                    is_real = folder == real
                    self._add(entry.path if is_real else f"{real}/{entry.name}", entry.path)

    def _add(self, real: str, path: str) -> None:
        self.found[real] = path
        if self._progress is not None:
            self._progress(len(self.found))

    def _entries(self, folder: str) -> list[os.DirEntry[str]]:
        with machine_errors(folder):
            try:
                return retry(lambda: _list(folder), folder)
            except OSError as error:
                self._pass_over(folder, error)
                return []

    def _is_folder(self, entry: os.DirEntry[str]) -> bool:
        with machine_errors(entry.path):
            try:
                return retry(lambda: _leads_to_folder(entry), entry.path)
            except OSError as error:
                leads_nowhere = error.errno in _NOWHERE and is_about_file(error, entry.path)
                # What has the name of a sample is read later, and fails then.
                if not leads_nowhere and not entry.name.endswith(".json"):
                    self._pass_over(entry.path, error)
                return False

    def _pass_over(self, folder: str, error: OSError) -> None:
        if not is_about_file(error, folder):
            raise error
        self.unlisted[folder] = str(error.strerror)

    def repeated(self) -> int:
        """Count the samples below a folder that was reached again."""
        tops: list[str] = []  # those that are in none of the others, sorted
        for top in sorted(os.path.join(folder, "") for folder in self._folders_again):
            if not tops or not top.startswith(tops[-1]):
                tops.append(top)
        tops.insert(0, "\0")  # no path starts with it
        return sum(real.startswith(tops[bisect(tops, real) - 1]) for real in self.found)


def _leads_to_folder(entry: os.DirEntry[str]) -> bool:
    if entry.is_symlink():  # `is_dir` takes any failure to find it for a link that leads nowhere
        return stat.S_ISDIR(os.stat(entry.path).st_mode)
    return entry.is_dir()


def _list(folder: str) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return list(entries)
