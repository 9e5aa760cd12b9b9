"""Directories to ordered sample paths, and a parsed sample to its own files."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from .errors import InputError, SampleError

__all__ = ["Samples", "cryptomatte_section", "find_samples", "own_file", "read_file"]


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


def find_samples(directories: Iterable[str]) -> Samples:
    """Find every metadata file below some directories.

    The rules are those of ``glob("**/*.json", recursive=True)``, which the reference
    uses: links to directories are followed and names that start with a dot skipped. A file
    that can be reached by several ways counts once, under the path with no link in
    it where there is one, and loops of links end.

    Parameters
    ----------
    directories : iterable of str
        The directories to search; their order does not matter.

    Returns
    -------
    Samples

    Raises
    ------
    InputError
        If a directory cannot be listed, or no sample is found.
    """
    roots = sorted({os.path.abspath(directory) for directory in directories})
    walk = _Walk()
    # Real folders first and links after them, so that a file is known by its plainest path.
    waiting = roots
    while waiting:
        links: list[str] = []
        for directory in waiting:
            walk.visit(directory, links)
        waiting = sorted(links)
    for path in sorted(walk.linked_files):
        walk.add(os.path.realpath(path), path)
    if not walk.found:
        raise InputError(f"no sample (no *.json file) found below {', '.join(roots)}")
    return Samples(tuple(sorted(walk.found.values())), walk.repeated())


class _Walk:
    """What a search has seen so far; real paths tell whether two paths are one file."""

    def __init__(self) -> None:
        self.found: dict[str, str] = {}
        self.linked_files: list[str] = []
        self._folders: set[str] = set()
        self._folders_again: set[str] = set()
        self._files_again: set[str] = set()

    def visit(self, root: str, links: list[str]) -> None:
        """Search below `root`, which may be a link; leave links to folders in `links`."""
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


def own_file(metadata_path: str, section: Any, what: str) -> str:
    """Path of a file that a section of a sample's metadata names.

    Parameters
    ----------
    metadata_path : str
        The sample's metadata file.
    section : object
        What stands at ``image`` or ``synthetic.cryptomatte``; expected is a dict with a
        ``filename``, which must lie in the folder of the metadata file.
    what : str
        How to call the section in an error.

    Returns
    -------
    str

    Raises
    ------
    SampleError
        If the section names no file, or one outside the sample's folder.
    """
    name = section.get("filename") if isinstance(section, dict) else None
    if not isinstance(name, str) or not name:
        raise SampleError(f"its metadata has no {what}.filename", metadata_path)
    if name in (os.curdir, os.pardir) or "/" in name or os.sep in name or "\0" in name:
        raise SampleError(
            f"{what}.filename {name!r} is not a plain file name in the sample's folder",
            metadata_path,
        )
    return os.path.join(os.path.dirname(metadata_path), name)


def read_file(path: str, most: int) -> bytes:
    """Read a file of a sample, be it through a link, but nothing that is no regular file.

    Parameters
    ----------
    path : str
    most : int
        The largest file to read, in bytes.

    Raises
    ------
    SampleError
        If it cannot be read, is a pipe or a device, is too large, or changes meanwhile.
    """
    try:
        # Without blocking: to open a pipe that nobody writes to would wait for ever.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as stream:
            before = os.fstat(stream.fileno())
            if not stat.S_ISREG(before.st_mode):
                raise SampleError("it is not a regular file", path)
            if before.st_size > most:
                raise SampleError(f"it is too large: {before.st_size:,} bytes of {most:,}", path)
            data = stream.read(before.st_size + 1)
            after = os.fstat(stream.fileno())
    except (OSError, ValueError) as error:
        raise SampleError(f"cannot read it: {getattr(error, 'strerror', error)}", path) from error
    if (len(data), before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise SampleError("it changed while it was read", path)
    return data


def cryptomatte_section(metadata: dict[str, Any], path: str) -> dict[str, Any] | None:
    """Give what a sample's metadata says of its cryptomatte, or None where it has none.

    Raises
    ------
    SampleError
        If it says something that is not a file name and a list of labels.
    """
    synthetic = metadata.get("synthetic")
    section = synthetic.get("cryptomatte") if isinstance(synthetic, dict) else None
    if section is None:
        return None
    labels = section.get("manifest") if isinstance(section, dict) else None
    if (
        isinstance(section, dict)
        and isinstance(labels, list)
        and all(isinstance(label, str) for label in labels)
    ):
        return section
    raise SampleError("its synthetic.cryptomatte.manifest is not a list of labels", path)
