"""The outputs of one prefix, as each process opens them for itself."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import chain
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import filenames
from ..errors import InputError, MissingError, shown
from ..formats.filestate import open_regular
from ..formats.index import Index
from ..formats.npy import kind_of, read_header
from .metadata_pickle import Metadata, open_metadata
from .row_proof import differing_row

__all__ = ["Move", "Source"]

_TRIES = 5
_CAMPAIGN = re.compile(r"campaign-?\d+|ref(-\d+)?")
Mapped = np.memmap[Any, np.dtype[Any]]
# A folder, absolute, and where it is now.
Move = tuple[str, str]


class _Identity(NamedTuple):
    """By what a file is recognized as the one that was opened."""

    inode: int
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> _Identity:
        return cls(status.st_ino, status.st_size, status.st_mtime_ns)


class _Files(NamedTuple):
    """The open files of a prefix, and what they were, by their names without the prefix."""

    arrays: dict[str, Mapped]
    metadata: Metadata | None
    identities: dict[str, _Identity]


class Source:
    """The outputs of one prefix.

    All that it hands out belongs to the files that were found first: if one of them is not there,
    or has been replaced since, it raises an `InputError`. Pickled, a source is its prefix and the
    identities of its files; the process that gets it opens them when it needs them.

    Parameters
    ----------
    prefix : str
    moves : sequence of (str, str)
        Folders of the samples that are somewhere else now. The first that a path is in counts.
    known : dict of str to _Identity, optional
        What the files are, by their names without the prefix.
    proven : iterable of str
        The arrays that are known to belong to the metadata.
    """

    def __init__(
        self,
        prefix: str,
        moves: Sequence[Move] = (),
        known: dict[str, _Identity] | None = None,
        proven: Iterable[str] = (),
    ) -> None:
        self.given = prefix
        self.prefix = os.path.abspath(prefix)
        self._moves = moves
        self._known = known
        self._proven = set(proven)

    def __reduce__(self) -> tuple[type[Source], tuple[Any, ...]]:
        known = self._known or self._files.identities
        return Source, (self.prefix, self._moves, known, self._proven)

    def __len__(self) -> int:
        for array in self._files.arrays.values():
            return len(array)
        return len(self.metadata)

    @property
    def files(self) -> frozenset[tuple[int, ...]]:
        """What the files are, which links to them are as well."""
        return frozenset(self._files.identities.values())

    @property
    def arrays(self) -> tuple[str, ...]:
        """Names of the arrays that are there: ``images``, ``masks-NAME``."""
        return tuple(self._files.arrays)

    @property
    def has_metadata(self) -> bool:
        return self._files.metadata is not None

    def array(self, name: str) -> NDArray[Any]:
        """Return an array, of shape (samples, height, width, channels).

        When it is used first, a few of its rows are compared with their checksums.
        """
        self._check(filenames.array_file(name))
        if name not in self._proven:
            self._prove(name)
            self._proven.add(name)
        return self._files.arrays[name]

    @property
    def metadata(self) -> Metadata:
        self._check(filenames.METADATA)
        assert self._files.metadata is not None
        return self._files.metadata

    def path(self, row: int) -> str:
        """Return the path of a sample's metadata file, where its folder is now."""
        return self.moved(self.metadata.path(row))

    def moved(self, path: str) -> str:
        """Return where a path is now."""
        for old, new in self._moves:
            if f"{path}/".startswith(f"{old}/"):
                return new + path[len(old) :] or "/"
        return path

    def campaign(self, path: str) -> str | None:
        """Return the campaign of a path that the metadata say, None if it names none.

        It is the last folder with such a name: where it was found or, if none is named so, where
        it is now.
        """
        folders = (os.path.dirname(each).split("/") for each in (path, self.moved(path)))
        return next(filter(_CAMPAIGN.fullmatch, chain(*map(reversed, folders))), None)

    def has_samples_in(self, folder: str) -> bool:
        """Whether the metadata file of any sample was somewhere below a folder."""
        paths = map(self.index.path, range(len(self.index))) if self.index else ()
        return any(path.startswith(f"{folder}/") for path in paths)

    @property
    def index(self) -> Index | None:
        """The index of the metadata, if there is one that can be used."""
        return None if self._files.metadata is None else self._files.metadata.index

    def file_path(self, file_name: str) -> str:
        """Return the path of a file, by its name without the prefix."""
        return f"{self.prefix}-{file_name}"

    def open(self, file_name: str) -> BinaryIO:
        """Open a file to read it, by its name without the prefix."""
        path = self.file_path(file_name)
        try:
            stream = open_regular(path, buffering=0)
        except OSError as error:
            raise InputError(f"cannot read it: {error.strerror}", path) from error
        if _Identity.of(os.fstat(stream.fileno())) != self._files.identities.get(file_name):
            stream.close()
            raise self._replaced(file_name)
        return stream

    def places(self, name: str) -> tuple[int, int]:
        """Return where the first row of an array is in its file, and how long a row is."""
        array = self._files.arrays[name]
        return array.offset, array.nbytes // max(1, len(array))

    @property
    def used(self) -> list[Mapped]:
        """The arrays that have been used."""
        return [self._files.arrays[name] for name in self._proven]

    def _prove(self, name: str) -> None:
        """Check that an array belongs to the metadata, as far as a few of its rows tell."""
        checksums = self.index.row_checksums(name) if self.index else None
        if not checksums:
            return
        start, size = self.places(name)
        pixel_bytes = self._files.arrays[name][0, 0, 0].nbytes
        file_name = filenames.array_file(name)
        with self.open(file_name) as stream:

            def read(row: int) -> bytes:
                return os.pread(stream.fileno(), size, start + row * size)

            try:
                row = differing_row(np.asarray(checksums), read, size, pixel_bytes)
            except OSError as error:
                problem = f"cannot read it: {error.strerror}"
                raise InputError(problem, self.file_path(file_name)) from error
        if row is not None:
            metadata = self.file_path(filenames.METADATA)
            raise InputError(
                f"row {row} is not what {shown(metadata)} says of it: it is damaged, or the two"
                " belong to different jobs",
                self.file_path(file_name),
                "limbo-inspect --check compares all rows",
            )

    def _check(self, file_name: str) -> None:
        """Check that a file was found, and has not been replaced."""
        known = self._files.identities.get(file_name)
        if known is None:
            raise InputError("there is no such output", self.file_path(file_name))
        if self._identity(file_name) != known:
            raise self._replaced(file_name)

    def _replaced(self, file_name: str) -> InputError:
        problem = "it has been replaced or removed since it was opened"
        return InputError(problem, self.file_path(file_name), "load it again")

    def _identity(self, file_name: str) -> _Identity | None:
        try:
            return _Identity.of(os.stat(self.file_path(file_name)))
        except OSError:
            return None

    @cached_property
    def _files(self) -> _Files:
        # A job may publish meanwhile, and files of two jobs must not be mixed.
        for _ in range(_TRIES):
            before = self._find()
            error = None
            try:
                files = self._open(before)
            except InputError as caught:
                error = caught
            if self._find() == before:
                if error is not None:
                    raise error
                return files
        raise InputError("the outputs are being replaced", self.file_path("*"), "try again")

    def _find(self) -> dict[str, _Identity]:
        """Find the files, and what they are."""
        if self._known is not None:
            file_names = list(self._known)
        else:
            file_names = [*map(filenames.array_file, _find_arrays(self.prefix)), filenames.METADATA]
        found = {name: self._identity(name) for name in file_names}
        return {name: identity for name, identity in found.items() if identity is not None}

    def _open(self, found: dict[str, _Identity]) -> _Files:
        for file_name, identity in (self._known or {}).items():
            if found.get(file_name) != identity:
                raise self._replaced(file_name)
        arrays = {}
        for file_name in found:
            name = filenames.array_of_file(file_name)
            array = _open_array(self.file_path(file_name), name) if name else None
            if name and array is not None:
                arrays[name] = array
        own = {*map(filenames.array_file, arrays), filenames.METADATA}
        identities = {file_name: found[file_name] for file_name in found if file_name in own}
        rows = self._count_rows(arrays)
        metadata = None
        if filenames.METADATA in found:
            metadata = open_metadata(self.file_path(filenames.METADATA), rows)
        elif rows is None:
            raise MissingError(
                f"there are no outputs of this prefix: no {filenames.array_file(filenames.IMAGES)},"
                f" {filenames.array_file(filenames.mask_array('NAME'))} or {filenames.METADATA}",
                self.file_path("*"),
                "give the prefix that they were written with",
            )
        return _Files(arrays, metadata, identities)

    def _count_rows(self, arrays: dict[str, Mapped]) -> int | None:
        rows = {len(array) for array in arrays.values()}
        if len(rows) > 1:
            found = (
                f"{filenames.array_file(name)} has {len(array)}" for name, array in arrays.items()
            )
            problem = f"the arrays differ in their number of rows: {', '.join(found)}"
            raise InputError(problem, self.file_path("*"))
        return rows.pop() if rows else None


def _find_arrays(prefix: str) -> list[str]:
    """Find the arrays that are a prefix's own, as far as the names of files tell."""
    folder, start = os.path.split(f"{prefix}-")
    try:
        listed = sorted(os.listdir(folder or os.curdir))
    except OSError as error:
        raise InputError(f"cannot list this folder: {error.strerror}", folder) from error
    own = (name.removeprefix(start) for name in listed if name.startswith(start))
    arrays = [array for name in own if (array := filenames.array_of_file(name))]
    return [
        array
        for array in arrays
        if array == filenames.IMAGES
        or (filenames.mask_of_array(array) and not _is_of_another(prefix, array))
    ]


def _open_array(path: str, name: str) -> Mapped | None:
    """Map an array, reading its header only; None if it is a stranger with the name of a mask."""
    kind = kind_of(name)
    try:
        with open_regular(path) as stream:
            found = read_header(stream)
            if found.is_of(kind):
                found.check_size(stream)
                return np.memmap(stream, found.descr, "r", found.offset, found.shape)
    except (OSError, ValueError) as error:
        problem = getattr(error, "strerror", None) or error  # without the number and the path
        raise InputError(f"cannot read it: {problem}", path) from error
    if name == filenames.IMAGES:
        raise InputError(f"it is not an array of {kind.dtype} RGB images", path)
    return None


def _is_of_another(prefix: str, array: str) -> bool:
    """Whether a mask such as ``masks-x-masks-y`` is the mask y of the prefix ``PREFIX-masks-x``."""
    other, _, _ = array.rpartition("-" + filenames.mask_array(""))
    return bool(other) and any(
        os.path.exists(f"{prefix}-{other}-{file}")
        for file in (filenames.array_file(filenames.IMAGES), filenames.METADATA)
    )
