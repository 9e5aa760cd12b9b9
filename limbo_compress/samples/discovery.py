"""Directories to ordered sample paths."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ..errors import InputError, shown

__all__ = ["Samples", "find_samples"]


@dataclass(frozen=True)
class Samples:
    """The samples of one or more directories.

    Attributes
    ----------
    paths : tuple of str
        Absolute paths of the metadata files, sorted as strings over all directories.
    repeated : int
        How many of them were reached more than once, by overlapping directories or links.
    """

    paths: tuple[str, ...]
    repeated: int


def find_samples(
    directories: Iterable[str], progress: Callable[[int], object] | None = None
) -> Samples:
    """Find every metadata file below some directories.

    The rules are those of ``glob("**/*.json", recursive=True)``, which the reference
    uses: links to directories are followed, and names that start with a dot are skipped. A file
    that can be reached in several ways counts once, under a path without a link if there is
    one. Loops of links end.

    Parameters
    ----------
    directories : iterable of str
        The directories to search; their order does not matter.
    progress : callable, optional
        Called as ``progress(found)`` for each new sample, with their number so far.

    Returns
    -------
    Samples

    Raises
    ------
    InputError
        If a directory cannot be listed, or no sample is found.
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
    for path in sorted(walk.linked_files):
        walk.add(os.path.realpath(path), path)
    if not walk.found:
        raise InputError(f"no sample (no *.json file) found below {', '.join(map(shown, roots))}")
    return Samples(tuple(sorted(walk.found.values())), walk.repeated())


class _Walk:
    """What a search has seen so far. Two paths are one file if their real paths are the same."""

    def __init__(self, progress: Callable[[int], object] | None) -> None:
        self._progress = progress
        self.found: dict[str, str] = {}
        self.linked_files: list[str] = []
        self._folders: set[str] = set()
        self._folders_again: set[str] = set()
        self._files_again: set[str] = set()

    def visit(self, root: str, links: list[str]) -> None:
        """Search below `root`, which may be a link; append links to folders to `links`."""
        stack = [(root, os.path.realpath(root))]
        while stack:
            folder, real = stack.pop()
            if real in self._folders:
                self._folders_again.add(real)
                continue
            self._folders.add(real)
            for entry in _entries(folder):
                if entry.name.startswith("."):
                    continue
                if _is_folder(entry):
                    if entry.is_symlink():
                        links.append(entry.path)
                    else:
                        stack.append((entry.path, os.path.join(real, entry.name)))
                elif entry.name.endswith(".json"):
                    if entry.is_symlink():
                        self.linked_files.append(entry.path)
                    else:
                        self.add(os.path.join(real, entry.name), entry.path)

    def add(self, real: str, path: str) -> None:
        if real in self.found:
            self._files_again.add(real)
        else:
            self.found[real] = path
            if self._progress is not None:
                self._progress(len(self.found))

    def repeated(self) -> int:
        tops = tuple(os.path.join(folder, "") for folder in self._folders_again)
        return sum(real in self._files_again or real.startswith(tops) for real in self.found)


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise InputError(f"cannot list this folder: {error.strerror}", folder) from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
