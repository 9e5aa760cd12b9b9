"""The index at the end of the metadata file: where each sample is, its path, its categories.

`pickle.load` stops at the STOP opcode, so readers that do not know the index never see it. The
format is described in ``docs/format.md``. The coordinator writes the index without numpy; `dataset`
reads it with numpy.
"""

from __future__ import annotations

import os
import struct
import sys
from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from .. import deflate, limits
from .pickling import LIST_END, LIST_START

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    U32 = NDArray[np.uint32]
    U64 = NDArray[np.uint64]

__all__ = ["Entry", "Index", "IndexWriter", "categories", "read_index"]

_TRAILER = struct.Struct("<QI8sI")
_MAGIC = b"limboidx"
_VERSION = 1
_DAMAGED = "its index is damaged"
_COUNTS = struct.Struct("<4Q")
_OFFSET = struct.Struct("<Q")
# The parent of a folder that has none.
_NONE = 2**32 - 1


def categories(metadata: Any) -> tuple[str, ...]:
    """Return the distinct categories of a sample's annotations, in the order of the annotations.

    Only text counts as a category, and only in a list of objects.
    """
    annotations = metadata.get("annotations")
    if not isinstance(annotations, list):
        return ()
    found = (item.get("category") for item in annotations if isinstance(item, dict))
    return tuple(dict.fromkeys(category for category in found if isinstance(category, str)))


class Entry(NamedTuple):
    """What the index says about a sample, apart from its path."""

    size: int  # of its fragment of the pickle, in bytes
    checksum: int  # CRC-32 of the fragment
    categories: tuple[str, ...]  # distinct

    @classmethod
    def of(cls, fragment: bytes, metadata: dict[str, Any]) -> Entry:
        """Make the entry of a sample from its fragment and its metadata."""
        return cls(len(fragment), deflate.crc32(fragment), categories(metadata))


class _Lists:
    """Lists of one kind of number, in the layout of the index: where each starts, and all items."""

    def __init__(self, typecode: str) -> None:
        self._starts = array("Q", [0])
        self._items = array(typecode)

    def append(self, items: bytes | Iterable[int]) -> None:
        self._items.extend(array(self._items.typecode, items))
        self._starts.append(len(self._items))

    def __len__(self) -> int:
        return len(self._starts) - 1

    @property
    def sections(self) -> tuple[array[int], array[int]]:
        return self._starts, self._items


class IndexWriter:
    """Collects the entries of all samples, in the order of their rows, and writes the index.

    A million samples take about 60 MB: there are no Python objects for each of them.
    """

    def __init__(self) -> None:
        self._offsets = array("Q", [len(LIST_START)])
        self._checksums = array("I")
        self._set_ids = array("I")
        self._folder_ids = array("I")
        self._file_names = _Lists("B")
        self._parents = array("I")
        self._folder_names = _Lists("B")
        self._category_names = _Lists("B")
        self._sets = _Lists("I")
        self._category_ids: dict[str, int] = {}
        self._set_ids_by_names: dict[tuple[str, ...], int] = {}
        self._set_ids_by_members: dict[tuple[int, ...], int] = {}
        self._current: dict[str, int] = {}

    def add(self, path: str, entry: Entry) -> None:
        """Add the next sample, whose metadata file has this absolute path."""
        folder, _, name = path.rpartition("/")
        if folder not in self._current:
            self._enter(folder)
        self._offsets.append(self._offsets[-1] + entry.size)
        self._checksums.append(entry.checksum)
        self._set_ids.append(self._set_id(entry.categories))
        self._folder_ids.append(self._current[folder])
        self._file_names.append(os.fsencode(name))

    def _enter(self, folder: str) -> None:
        """Add a folder and its parents, as far as they are new.

        Paths are sorted, so once a folder is left it does not come again: only the current one and
        its parents need to be known.
        """
        current = self._current
        while current and not folder.startswith(f"{next(reversed(current))}/"):
            current.popitem()
        path, parent = next(reversed(current.items()), ("", _NONE))
        for name in folder[len(path) + 1 if current else 0 :].split("/"):
            path = f"{path}/{name}" if current else name
            self._parents.append(parent)
            self._folder_names.append(os.fsencode(name))
            parent = current[path] = len(self._parents) - 1

    def _set_id(self, names: tuple[str, ...]) -> int:
        number = self._set_ids_by_names.get(names)
        if number is None:
            members = tuple(sorted(map(self._category_id, names)))
            number = self._set_ids_by_members.setdefault(members, len(self._sets))
            if number == len(self._sets):
                self._sets.append(members)
            self._set_ids_by_names[names] = number
        return number

    def _category_id(self, name: str) -> int:
        number = self._category_ids.setdefault(name, len(self._category_ids))
        if number == len(self._category_names):
            # As pickle writes text: JSON may hold lone surrogates.
            self._category_names.append(name.encode("utf-8", "surrogatepass"))
        return number

    def write(self, stream: BinaryIO) -> None:
        """Append the index to a stream that is just behind the STOP opcode."""
        samples, folders = len(self._checksums), len(self._parents)
        body = _COUNTS.pack(samples, folders, len(self._category_names), len(self._sets))
        checksum, size = deflate.crc32(body), len(body)
        stream.write(body)
        for section in (
            self._offsets,
            self._checksums,
            self._set_ids,
            self._folder_ids,
            *self._file_names.sections,
            self._parents,
            *self._folder_names.sections,
            *self._category_names.sections,
            *self._sets.sections,
        ):
            if sys.byteorder == "big":
                section.byteswap()
            data = section.tobytes()
            checksum, size = deflate.crc32(data, checksum), size + len(data)
            stream.write(data)
        stream.write(_TRAILER.pack(size, checksum, _MAGIC, _VERSION))


def read_index(file: int) -> Index | None:
    """Read the index of a metadata file, given by its descriptor; None if it has no index.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If the index is damaged or of a later version.
    """
    end = max(0, os.fstat(file).st_size - _TRAILER.size)
    trailer = os.pread(file, _TRAILER.size, end)
    if len(trailer) < _TRAILER.size:
        return None
    size, checksum, magic, version = _TRAILER.unpack(trailer)
    if magic != _MAGIC:
        return None
    if version != _VERSION:
        raise ValueError(f"its index is of version {version}, and this program knows {_VERSION}")
    begin = end - size
    _check(size >= _COUNTS.size and begin >= len(LIST_START) + len(LIST_END))
    # With a wrong length, reading the index could mean to read most of a large file.
    _check(os.pread(file, _OFFSET.size, begin + _COUNTS.size) == _OFFSET.pack(len(LIST_START)))
    return Index(os.pread(file, size, begin), checksum, begin - len(LIST_END))


@dataclass(frozen=True)
class _Texts:
    """The bytes of many names, as the index stores them: where each starts, and all of them."""

    starts: U64
    data: bytes

    def __getitem__(self, number: int) -> bytes:
        return self.data[self.starts[number] : self.starts[number + 1]]


class Index:
    """The index of a metadata file, made of all of it but the trailer.

    `checksum` is its CRC-32 according to the trailer, `stop` where the STOP opcode is.

    Attributes
    ----------
    offsets : ndarray of uint64, shape (samples + 1,)
        Where the fragment of each sample begins in the file, in bytes; each ends where the next
        one begins.
    checksums : ndarray of uint32, shape (samples,)
        CRC-32 of each fragment.
    set_ids : ndarray of uint32, shape (samples,)
        Number, in `category_sets`, of each sample's set of categories.
    category_sets : tuple of frozenset of str
        The distinct sets of categories.

    Raises
    ------
    ValueError
        If it is damaged: nothing in it is used before it has been checked.
    """

    def __init__(self, body: bytes, checksum: int, stop: int) -> None:
        _check(deflate.crc32(body) == checksum)
        cursor = _Cursor(body)
        samples, folders, categories, sets = cursor.take("<u8", 4).tolist()
        self.offsets = cursor.take_starts(samples, len(LIST_START))
        self.checksums = cursor.take("<u4", samples)
        self.set_ids = cursor.take_numbers(samples, sets)
        self._folder_ids = cursor.take_numbers(samples, folders)
        self._file_names = cursor.take_texts(samples)
        self._parents = cursor.take("<u4", folders)
        self._folder_names = cursor.take_texts(folders)
        names = cursor.take_texts(categories)
        starts = cursor.take_starts(sets)
        members = cursor.take_numbers(int(starts[-1]), categories)
        cursor.check_end()
        _check(int(self.offsets[-1]) == stop)
        _check(int((self.offsets[1:] - self.offsets[:-1]).max(initial=0)) <= limits.FRAGMENT_BYTES)
        _check_parents(self._parents)
        _check_depth(self._parents, self._folder_names)
        self._folders: dict[int, str] = {}
        self.category_sets = _sets([names[i] for i in range(categories)], starts, members)

    def __len__(self) -> int:
        return len(self.checksums)

    def path(self, row: int) -> str:
        """Return the absolute path that a sample's metadata file had."""
        folder = self._folder(int(self._folder_ids[row]))
        return f"{folder}/{os.fsdecode(self._file_names[row])}"

    def _folder(self, number: int) -> str:
        """Return the path of a folder. Those of its parents are kept for the next ones."""
        new: list[int] = []
        while number != _NONE and number not in self._folders:
            new.append(number)
            number = int(self._parents[number])
        path = self._folders.get(number)
        for number in reversed(new):
            name = os.fsdecode(self._folder_names[number])
            path = self._folders[number] = name if path is None else f"{path}/{name}"
        assert path is not None
        return path


class _Cursor:
    """Takes one section of an index after the other, and never reads beyond its end."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0

    def take(self, dtype: str, count: int) -> NDArray[Any]:
        import numpy as np  # here because the coordinator starts faster without it

        begin, size = self._at, count * int(dtype[-1])
        _check(size <= len(self._body) - begin)
        self._at += size
        return np.frombuffer(self._body, dtype, count, begin)

    def take_numbers(self, count: int, limit: int) -> NDArray[Any]:
        """Take numbers of things of which there are `limit`."""
        numbers = self.take("<u4", count)
        _check(bool((numbers < limit).all()))
        return numbers

    def take_starts(self, lists: int, first: int = 0) -> NDArray[Any]:
        """Take where each of some lists starts, and where the last one ends."""
        starts = self.take("<u8", lists + 1)
        _check(int(starts[0]) == first and bool((starts[1:] >= starts[:-1]).all()))
        return starts

    def take_texts(self, count: int) -> _Texts:
        starts = self.take_starts(count)
        return _Texts(starts, self.take("u1", int(starts[-1])).tobytes())

    def check_end(self) -> None:
        _check(self._at == len(self._body))


def _check_parents(parents: U32) -> None:
    """Check that each parent comes before its children, so that there are no loops."""
    import numpy as np

    _check(bool(((parents < np.arange(len(parents))) | (parents == _NONE)).all()))


def _check_depth(parents: U32, names: _Texts) -> None:
    """Check that no folder has a longer path than any system opens.

    Each step adds the length of as many ancestors again, so there are few steps.
    """
    import numpy as np

    # The last element is the parent of those that have none.
    ancestors = np.append(np.minimum(parents, len(parents)), len(parents))
    lengths = np.append(np.diff(names.starts) + 1, 0)
    while (ancestors < len(parents)).any():
        lengths += lengths[ancestors]
        _check(int(lengths.max()) <= limits.PATH_BYTES)
        ancestors = ancestors[ancestors]


def _sets(names: list[bytes], starts: U64, members: U32) -> tuple[frozenset[str], ...]:
    texts = [name.decode("utf-8", "surrogatepass") for name in names]
    edges, numbers = starts.tolist(), members.tolist()
    return tuple(
        frozenset(texts[number] for number in numbers[start:stop])
        for start, stop in pairwise(edges)
    )


def _check(is_whole: bool) -> None:
    if not is_whole:
        raise ValueError(_DAMAGED)
