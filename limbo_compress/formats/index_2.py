"""Version 2 of the index: a directory of sections, written and read without numpy.

Readers skip sections that they do not know, so later kinds of sections need no new version.
"""

from __future__ import annotations

import json
import os
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import accumulate
from typing import Any, BinaryIO

from .. import deflate
from . import columns
from .columns import Lists, texts
from .facts import Facts, FactsWriter
from .filestate import FileState
from .index import (
    MAGIC,
    NO_PARENT,
    TRAILER,
    Boxes,
    BoxesOfSamples,
    Entry,
    Index,
    OfSamples,
    Paths,
    Source,
    Sources,
    check,
    parts,
)
from .pickling import LIST_END

__all__ = ["VERSION", "IndexWriter", "read"]

VERSION = 2
_DIRECTORY_BYTES = 1 << 24
_ROWS = "checksums of "


class IndexWriter:
    """Collects the entries of all samples, in the order of their rows, and writes the index.

    A million samples take about 200 MB: there are no Python objects for each of them.

    Parameters
    ----------
    arrays : sequence of str
        Names of the arrays whose rows belong to the metadata.
    """

    def __init__(self, arrays: Sequence[str] = ()) -> None:
        self._sizes = array("I")
        self._checksums = array("I")
        self._rows = {name: array("I") for name in arrays}
        self._category_names = columns.Names()
        self._sets = columns.DistinctLists()
        self._folder_ids = array("I")
        self._file_names = columns.NewLists("B")
        self._parents = array("I")
        self._folder_names = columns.NewLists("B")
        self._current: dict[str, int] = {}
        self._patterns = columns.Names()
        self._sources = columns.DistinctLists()
        self._source_sizes = array("Q")
        self._source_checksums = array("I")
        self._boxes = columns.DistinctLists()
        self._corners = array("f")
        self._is_lossy = array("B")
        self._facts = FactsWriter()

    def add(
        self,
        path: str,
        entry: Entry,
        files: Iterable[FileState | Source] = (),
        checksums: Iterable[int] = (),
    ) -> None:
        """Add the next sample.

        Parameters
        ----------
        path : str
            Its metadata file, absolute.
        entry : Entry
        files : iterable of FileState or Source
            What was read of it.
        checksums : iterable of int
            CRC-32 of its row in each array.
        """
        folder, _, name = path.rpartition("/")
        if folder not in self._current:
            self._enter(folder)
        self._sizes.append(entry.size)
        self._checksums.append(entry.checksum)
        for column, checksum in zip(self._rows.values(), checksums, strict=True):
            column.append(checksum)
        with_box = set(entry.boxed)
        members = (
            2 * self._category(name) + (name in with_box) for name in sorted(entry.categories)
        )
        self._sets.append(tuple(sorted(members)))
        self._folder_ids.append(self._current[folder])
        self._file_names.append(os.fsencode(name))
        self._add_sources(name, files)
        self._add_boxes(entry.boxes)
        self._is_lossy.append(entry.is_lossy)
        self._facts.append(entry.facts)

    def _add_sources(self, file_name: str, files: Iterable[FileState | Source]) -> None:
        patterns = []
        for file in files:
            pattern = _pattern(file.name, file_name)
            patterns.append(self._patterns.number(os.fsencode(pattern)))
            self._source_sizes.append(file.size)
            self._source_checksums.append(file.checksum)
        self._sources.append(tuple(patterns))

    def _add_boxes(self, boxes: Boxes | None) -> None:
        """Add boxes: 1 if they are known, and the number of the category of each, from 1."""
        numbers = [0 if boxes is None else 1]
        for category, corners in boxes or ():
            numbers.append(0 if category is None else 1 + self._category(category))
            self._corners.extend(corners)
        self._boxes.append(tuple(numbers))

    def _enter(self, folder: str) -> None:
        """Add a folder and its parents, as far as they are new.

        Paths are sorted, so once a folder is left it does not come again: only the current one and
        its parents need to be known.
        """
        current = self._current
        while current and not folder.startswith(f"{next(reversed(current))}/"):
            current.popitem()
        path, parent = next(reversed(current.items()), ("", NO_PARENT))
        for name in folder[len(path) + 1 if current else 0 :].split("/"):
            path = f"{path}/{name}" if current else name
            self._parents.append(parent)
            self._folder_names.append(os.fsencode(name))
            parent = current[path] = len(self._parents) - 1

    def _category(self, name: str) -> int:
        # As pickle writes text: JSON may hold lone surrogates.
        return self._category_names.number(name.encode("utf-8", "surrogatepass"))

    def write(self, stream: BinaryIO, made: Mapping[str, Any] | None = None) -> None:
        """Append the index to a stream that is just behind the STOP opcode.

        `made` says how the outputs were made. Its version of OpenCV is left out if no pixel
        depends on it.
        """
        needs_opencv = any(self._is_lossy)
        said = {n: value for n, value in (made or {}).items() if n != "opencv" or needs_opencv}
        directory, at = [], stream.tell()
        for name, kind, data in self._sections(said):
            directory.append([name, kind, at, len(data), deflate.crc32(data)])
            stream.write(data)
            at += len(data)
        body = json.dumps(directory, separators=(",", ":")).encode()
        stream.write(body)
        stream.write(TRAILER.pack(len(body), deflate.crc32(body), MAGIC, VERSION))

    def _sections(self, made: dict[str, Any]) -> Iterator[tuple[str, str, bytes]]:
        """Yield the name, the type and the bytes of each section."""
        yield "made", "json", json.dumps(made, sort_keys=True).encode()
        numbers = {
            "sizes": self._sizes,
            "checksums": self._checksums,
            "folders": self._folder_ids,
            "parents": array("Q", (0 if n == NO_PARENT else n + 1 for n in self._parents)),
            "lossy": self._is_lossy,
            "source sizes": self._source_sizes,
            "source checksums": self._source_checksums,
            "category set of each sample": self._sets.places,
            "source list of each sample": self._sources.places,
            "box list of each sample": self._boxes.places,
            "fact list of each sample": self._facts.lists.places,
            **{_ROWS + name: column for name, column in self._rows.items()},
        }
        texts = {
            "file names": self._file_names,
            "folder names": self._folder_names,
            "category names": self._category_names.texts,
            "source patterns": self._patterns.texts,
            "fact names": self._facts.names.texts,
            "fact texts": self._facts.texts.texts,
            "fact columns": self._facts.columns(),
        }
        lists = {
            "category sets": self._sets.lists,
            "source lists": self._sources.lists,
            "box lists": self._boxes.lists,
            "fact lists": self._facts.lists.lists,
        }
        for name, items in (texts | lists).items():
            numbers[f"{name}: lengths"] = items.lengths
        for name, items in lists.items():
            numbers[name] = items.items
        for name, column in numbers.items():
            yield name, "numbers", columns.encode(column)
        for name, items in texts.items():
            yield name, "bytes", items.items.tobytes()
        yield "corners", "float32", columns.pack(self._corners)


def _pattern(name: str, file_name: str) -> str:
    """Derive the name of a file from that of the metadata file of its sample, if possible.

    No name of a file holds ``/`` or NUL, so they are the stem, and its last digits.
    """
    stem, digits = parts(file_name)
    if stem and stem in name:
        return name.replace(stem, "/", 1)
    return name.replace(digits, "\0", 1) if digits else name


def read(file: int, begin: int, end: int, checksum: int) -> Index:
    """Read the index whose directory is between two places of a file.

    Damage raises what `columns.decode` raises, or a `TypeError` or `RecursionError`.
    """
    check(end - begin <= min(end, _DIRECTORY_BYTES))
    body = os.pread(file, end - begin, begin)
    check(deflate.crc32(body) == checksum)
    return _of_sections(_Sections(file, body, begin))


class _Sections:
    """The sections of an index of version 2, by their names."""

    def __init__(self, file: int, directory: bytes, end: int) -> None:
        self._file = file
        self._kept: dict[str, bytes] = {}
        self._found = {name: (kind, *place) for name, kind, *place in json.loads(directory)}
        places = [range(at, at + size) for _, at, size, _ in self._found.values()]
        self.begin = min((place.start for place in places), default=0)
        check(self.begin > 0 and all(place.stop <= end for place in places))

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def keep(self, *kinds: str) -> None:
        """Read the sections whose names begin so now: the file may be closed later."""
        for name, (kind, *_) in self._found.items():
            if name.startswith(kinds):
                self._kept[name] = self.read(name, kind)

    def read(self, name: str, kind: str) -> bytes:
        if name in self._kept:
            return self._kept[name]
        found, at, size, checksum = self._found[name]
        check(found == kind and size >= 0)
        data = os.pread(self._file, size, at)
        check(len(data) == size and deflate.crc32(data) == checksum)
        return data

    def numbers(self, name: str, typecode: str = "I") -> array[int]:
        return columns.decode(self.read(name, "numbers"), typecode)

    def texts(self, name: str) -> Lists:
        return _lists(self.numbers(f"{name}: lengths"), self.read(name, "bytes"))

    def lists(self, name: str) -> list[tuple[int, ...]]:
        found = _lists(self.numbers(f"{name}: lengths"), self.numbers(name))
        return [tuple(found[number]) for number in range(len(found))]


def _lists(lengths: Iterable[int], items: Any) -> Lists:
    starts = array("Q", accumulate(lengths, initial=0))
    check(starts[-1] == len(items))
    return Lists(starts, items)


def _of_sections(sections: _Sections) -> Index:
    take = sections.numbers
    parents = array("I", (NO_PARENT if n == 0 else n - 1 for n in take("parents", "Q")))
    paths = Paths(
        sections.texts("file names"), take("folders"), sections.texts("folder names"), parents
    )
    index = Index(take("sizes"), take("checksums"), paths)
    check(sections.begin == index.offsets[-1] + len(LIST_END))
    index.made = json.loads(sections.read("made", "json"))
    check(isinstance(index.made, dict))
    names = texts(sections.texts("category names"))
    members = sections.lists("category sets")
    index.set_ids = take("category set of each sample")
    index.category_sets = tuple(frozenset(names[n // 2] for n in each) for each in members)
    index.boxed_sets = tuple(frozenset(names[n // 2] for n in each if n % 2) for each in members)
    check(max(index.set_ids, default=-1) < len(members))
    rows = {name.removeprefix(_ROWS): name for name in sections if name.startswith(_ROWS)}
    index._rows = {array_name: take(name) for array_name, name in rows.items()}
    index._is_lossy = take("lossy")
    sections.keep("source", "box", "corners", "fact")
    index._take_sources = partial(_sources, sections, len(index))
    index._take_boxes = partial(_boxes, sections, len(index), names)
    if "fact lists" in sections:
        index._take_facts = partial(_facts, sections, len(index))
    counted = (index.set_ids, index._is_lossy, *index._rows.values())
    check(all(len(column) == len(index) for column in counted))
    return index


def _sources(sections: _Sections, samples: int) -> Sources:
    patterns, lists = sections.texts("source patterns"), sections.lists("source lists")
    check(all(kind < len(patterns) for kinds in lists for kind in kinds))
    of_samples = OfSamples(lists, sections.numbers("source list of each sample"), samples)
    sizes, checksums = sections.numbers("source sizes", "Q"), sections.numbers("source checksums")
    return Sources(of_samples, patterns, sizes, checksums)


def _boxes(sections: _Sections, samples: int, names: list[str]) -> BoxesOfSamples:
    lists = sections.lists("box lists")
    check(all(kinds and max(kinds[1:], default=0) <= len(names) for kinds in lists))
    places = sections.numbers("box list of each sample")
    corners = columns.unpack(sections.read("corners", "float32"), array("f"))
    return BoxesOfSamples(OfSamples(lists, places, samples, skipped=1), names, corners)


def _facts(sections: _Sections, samples: int) -> Facts:
    places, encoded = sections.numbers("fact list of each sample"), sections.texts("fact columns")
    check(len(places) == samples)
    return Facts(
        texts(sections.texts("fact names")),
        texts(sections.texts("fact texts")),
        sections.lists("fact lists"),
        places,
        encoded,
    )
