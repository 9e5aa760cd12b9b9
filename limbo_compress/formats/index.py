"""The index at the end of the metadata file: what it holds, how it was made, and of what.

`pickle.load` stops at the STOP opcode, so readers that do not know the index never see it. The
format is described in ``docs/format.md``. The coordinator writes and reads it without numpy.
"""

from __future__ import annotations

import os
import re
import struct
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

from .. import deflate, limits
from .columns import Lists
from .facts import Fact, Facts, facts
from .pickling import LIST_END, LIST_START

__all__ = [
    "MAGIC",
    "NO_PARENT",
    "TRAILER",
    "Boxes",
    "BoxesOfSamples",
    "Entry",
    "Index",
    "OfSamples",
    "Paths",
    "Source",
    "Sources",
    "boxed",
    "categories",
    "check",
    "identity",
    "parts",
    "read_index",
]

TRAILER = struct.Struct("<QI8sI")
MAGIC = b"limboidx"
_DAMAGED = "its index is damaged"
# The parent of a folder that has none.
NO_PARENT = 2**32 - 1

Boxes = tuple[tuple[str | None, tuple[float, ...]], ...]


def categories(metadata: Any) -> tuple[str, ...]:
    """Return the distinct categories of a sample's annotations, in the order of the annotations.

    Only text counts as a category, and only in a list of objects.
    """
    return tuple(dict.fromkeys(category for category, _ in _categories(metadata)))


def boxed(metadata: Any) -> tuple[str, ...]:
    """Return those categories of which an annotation has a box, in the order of `categories`.

    Contours have one: their bounds. Other categories are tags.
    """
    boxes = {category for category, has_box in _categories(metadata) if has_box}
    return tuple(category for category in categories(metadata) if category in boxes)


def _categories(metadata: Any) -> Iterator[tuple[str, bool]]:
    """Yield the category of each annotation, and whether it has a box."""
    annotations = metadata.get("annotations")
    for annotation in annotations if isinstance(annotations, list) else ():
        if isinstance(annotation, dict) and isinstance(annotation.get("category"), str):
            has_box = annotation.get("bbox") is not None or bool(annotation.get("contours"))
            yield annotation["category"], has_box


class Source(NamedTuple):
    """A file of a sample, as it was read."""

    name: str  # in the sample's folder
    size: int  # in bytes
    checksum: int  # CRC-32 of its contents


class Entry(NamedTuple):
    """What the index says about a sample, apart from its path and its files."""

    size: int  # of its fragment of the pickle, in bytes
    checksum: int  # CRC-32 of the fragment
    categories: tuple[str, ...] = ()  # distinct
    boxed: tuple[str, ...] = ()  # those of them of which an annotation has a box or contours
    # The category and the corners of each box, as `geometry.boxes` returns them for the rows of
    # the job; None if they have to be read from the metadata.
    boxes: Boxes | None = None
    is_lossy: bool = False  # whether the pixels depend on the version of OpenCV
    facts: tuple[Fact, ...] = ()  # as `facts.facts` returns them

    @classmethod
    def of(
        cls,
        fragment: bytes,
        metadata: dict[str, Any],
        boxes: Boxes | None = None,
        is_lossy: bool = False,
    ) -> Entry:
        """Make the entry of a sample from its fragment and its metadata."""
        checksum = deflate.crc32(fragment)
        names, with_box = categories(metadata), boxed(metadata)
        found = tuple(facts(metadata).items())
        return cls(len(fragment), checksum, names, with_box, boxes, is_lossy, found)


class Index:
    """The index of a metadata file, checked.

    Attributes
    ----------
    offsets : array of uint64, shape (samples + 1,)
        Where the fragment of each sample begins in the file, in bytes; each ends where the next
        one begins.
    checksums : array of uint32, shape (samples,)
        CRC-32 of each fragment.
    set_ids : array of uint32, shape (samples,)
        Number, in `category_sets`, of each sample's set of categories.
    category_sets : tuple of frozenset of str
        The sets of categories.
    boxed_sets : tuple of frozenset of str, or None
        Those categories of each set of which an annotation has a box; None if that is not known,
        as in version 1. Equal sets of categories may differ in it.
    paths : Paths
    made : dict, or None
        How the outputs were made; None in version 1.
    array_names : tuple of str
        The arrays of whose rows there are checksums.
    """

    made: dict[str, Any] | None = None
    boxed_sets: tuple[frozenset[str], ...] | None = None
    _rows: Mapping[str, array[int]] = {}
    _take_sources: Callable[[], Sources] | None = None
    _take_boxes: Callable[[], BoxesOfSamples] | None = None
    _take_facts: Callable[[], Facts] | None = None
    _is_lossy: array[int] | None = None

    def __init__(self, sizes: array[int], checksums: array[int], paths: Paths) -> None:
        self.offsets = array("Q", accumulate(sizes, initial=len(LIST_START)))
        check(len(sizes) == len(checksums) == len(paths))
        check(max(sizes, default=0) <= limits.FRAGMENT_BYTES)
        self.checksums = checksums
        self.paths = paths
        self.set_ids = array("I")
        self.category_sets: tuple[frozenset[str], ...] = ()

    def __len__(self) -> int:
        return len(self.checksums)

    @property
    def array_names(self) -> tuple[str, ...]:
        return tuple(self._rows)

    def row_checksums(self, name: str) -> array[int] | None:
        """Return the CRC-32 of each row of an array; None if they are not known."""
        return self._rows.get(name)

    def path(self, row: int) -> str:
        """Return the absolute path that a sample's metadata file had."""
        return self.paths.path(row)

    def sources(self, row: int) -> tuple[Source, ...]:
        """Return the files of a sample, the metadata file first; empty if they are not known.

        Raises
        ------
        ValueError
            If the index is damaged. So do `boxes`, `facts` and `entry`: these parts are decoded
            when they are first used, though their checksums are right.
        """
        return self._sources.of(row, self.paths.name(row)) if self._sources else ()

    @property
    def source_starts(self) -> Sequence[int]:
        """Position of the first file of each sample among the files of all, and their number."""
        return self._sources.starts if self._sources else (0,) * (1 + len(self))

    @cached_property
    def _sources(self) -> Sources | None:
        with damage():
            return self._take_sources() if self._take_sources else None

    @cached_property
    def _boxes(self) -> BoxesOfSamples | None:
        with damage():
            return self._take_boxes() if self._take_boxes else None

    @cached_property
    def facts(self) -> Facts | None:
        """Facts about each sample; None if only the metadata tell it, as in older files."""
        with damage():
            return self._take_facts() if self._take_facts else None

    def boxes(self, row: int) -> Boxes | None:
        """Return the boxes of a sample in pixels of a row of ``made["image_size"]``.

        None if they are not known: then the metadata tell them.
        """
        return self._boxes.of(row) if self._boxes else None

    def entry(self, row: int) -> Entry:
        """Return the entry that a sample was added with; its categories are in another order."""
        number = self.set_ids[row]
        with_box = self.boxed_sets[number] if self.boxed_sets else frozenset()
        with damage():
            found = self.facts.of(row) if self.facts else ()
        return Entry(
            self.offsets[row + 1] - self.offsets[row],
            self.checksums[row],
            tuple(sorted(self.category_sets[number])),
            tuple(sorted(with_box)),
            self.boxes(row),
            bool(self._is_lossy and self._is_lossy[row]),
            found,
        )


class Paths:
    """The paths of all samples.

    Attributes
    ----------
    folder_ids : array of uint32, shape (samples,)
        The number of the folder of each sample.
    """

    def __init__(
        self,
        file_names: Lists,
        folder_ids: array[int],
        folder_names: Lists,
        parents: array[int],
    ) -> None:
        check(len(file_names) == len(folder_ids) and len(folder_names) == len(parents))
        check(max(folder_ids, default=-1) < len(parents))
        self.folder_ids = folder_ids
        self._file_names = file_names
        self._folder_names, self._parents = folder_names, parents
        self._check_depth()
        self._folders: dict[int, str] = {}

    def _check_depth(self) -> None:
        """Check that parents come before their children, and that a system opens the paths."""
        lengths: list[int] = []
        starts = self._folder_names.starts
        for number, parent in enumerate(self._parents):
            check(parent < number or parent == NO_PARENT)
            above = 0 if parent == NO_PARENT else lengths[parent]
            lengths.append(above + 1 + starts[number + 1] - starts[number])
        check(max(lengths, default=0) <= limits.PATH_BYTES)

    def __len__(self) -> int:
        return len(self._file_names)

    def name(self, row: int) -> str:
        return os.fsdecode(self._file_names[row])

    def path(self, row: int) -> str:
        return f"{self._folder(self.folder_ids[row])}/{self.name(row)}"

    def names(self) -> list[str]:
        """Return the names of all files, faster than `name` for each."""
        starts, names = self._file_names.starts, bytes(self._file_names.items)
        if not names.isascii():
            return [self.name(row) for row in range(len(self))]
        text = names.decode()
        return [text[start:stop] for start, stop in pairwise(starts)]

    def folders(self) -> list[str]:
        """Return the paths of all folders."""
        return [self._folder(number) for number in range(len(self._parents))]

    def _folder(self, number: int) -> str:
        """Return the path of a folder. Those of its parents are kept for the next ones."""
        new: list[int] = []
        while number != NO_PARENT and number not in self._folders:
            new.append(number)
            number = self._parents[number]
        path = self._folders.get(number)
        for number in reversed(new):
            name = os.fsdecode(self._folder_names[number])
            path = self._folders[number] = name if path is None else f"{path}/{name}"
        assert path is not None
        return path


class OfSamples:
    """Things of each sample, which has one of some lists of their kinds."""

    def __init__(
        self, lists: list[tuple[int, ...]], places: array[int], samples: int, skipped: int = 0
    ) -> None:
        check(len(places) == samples and max(places, default=-1) < len(lists))
        self._lists, self._places = lists, places
        lengths = [len(each) - skipped for each in lists]
        self.starts = array("Q", accumulate(map(lengths.__getitem__, places), initial=0))

    def kinds(self, row: int) -> tuple[int, ...]:
        return self._lists[self._places[row]]


class Sources:
    """The files of all samples."""

    def __init__(
        self, of_samples: OfSamples, patterns: Lists, sizes: array[int], sums: array[int]
    ) -> None:
        check(of_samples.starts[-1] == len(sizes) == len(sums))
        self._of_samples, self._patterns = of_samples, patterns
        self._sizes, self._checksums = sizes, sums

    @property
    def starts(self) -> Sequence[int]:
        return self._of_samples.starts

    def of(self, row: int, file_name: str) -> tuple[Source, ...]:
        stem, digits = parts(file_name)
        start = self._of_samples.starts[row]
        return tuple(
            Source(
                os.fsdecode(self._patterns[kind]).replace("/", stem).replace("\0", digits),
                self._sizes[at],
                self._checksums[at],
            )
            for at, kind in enumerate(self._of_samples.kinds(row), start)
        )


class BoxesOfSamples:
    """The boxes of all samples."""

    def __init__(self, of_samples: OfSamples, names: list[str], corners: array[float]) -> None:
        check(4 * of_samples.starts[-1] == len(corners))
        self._of_samples, self._corners = of_samples, corners
        self._names = (None, *names)

    def of(self, row: int) -> Boxes | None:
        is_known, *kinds = self._of_samples.kinds(row)
        start = self._of_samples.starts[row]
        boxes = (
            (self._names[kind], tuple(self._corners[4 * at : 4 * at + 4]))
            for at, kind in enumerate(kinds, start)
        )
        return tuple(boxes) if is_known else None


def identity(file: int) -> bytes:
    """Return bytes that tell a metadata file from others: its trailer, with a checksum of all.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    return os.pread(file, TRAILER.size, max(0, os.fstat(file).st_size - TRAILER.size))


def read_index(file: int) -> Index | None:
    """Read the index of a metadata file, given by its descriptor; None if it has no index.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If the index is damaged or of a later version: nothing in it is used before it has been
        checked.
    """
    from . import index_1, index_2  # which import this module

    end = max(0, os.fstat(file).st_size - TRAILER.size)
    trailer = os.pread(file, TRAILER.size, end)
    if len(trailer) < TRAILER.size:
        return None
    size, checksum, magic, version = TRAILER.unpack(trailer)
    if magic != MAGIC:
        # No version of the index ends in the byte that ends a pickle.
        check(trailer.endswith(LIST_END))
        return None
    readers = {1: index_1.read, index_2.VERSION: index_2.read}
    if version not in readers:
        known = index_2.VERSION
        raise ValueError(f"its index is of version {version}, and this program knows {known}")
    with damage():
        return readers[version](file, end - size, end, checksum)


@contextmanager
def damage() -> Iterator[None]:
    """Turn whatever decoding damaged sections raises into one `ValueError`."""
    try:
        yield
    except (
        ValueError,
        LookupError,
        OverflowError,
        TypeError,
        RecursionError,
        struct.error,
    ) as error:
        raise ValueError(_DAMAGED) from error


def parts(file_name: str) -> tuple[str, str]:
    """Return the stem of the name of a metadata file, and the last digits of the stem."""
    stem = file_name.rpartition(".")[0]
    return stem, next(iter(re.findall(r"[0-9]+", stem)[-1:]), "")


def check(is_whole: bool) -> None:
    if not is_whole:
        raise ValueError(_DAMAGED)
