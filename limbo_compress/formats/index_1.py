"""Version 1 of the index, as limbo-compress 0.1.0 wrote it: only read."""

from __future__ import annotations

import os
import struct
from array import array
from collections.abc import Iterable
from itertools import pairwise
from operator import le

from .. import deflate
from . import columns
from .columns import Lists, texts
from .index import Index, Paths, check
from .pickling import LIST_END, LIST_START

__all__ = ["read"]

_COUNTS = struct.Struct("<4Q")
_OFFSET = struct.Struct("<Q")


def read(file: int, begin: int, end: int, checksum: int) -> Index:
    """Read the index between two places of a file; damage raises what `columns.decode` raises."""
    check(end - begin >= _COUNTS.size and begin >= len(LIST_START) + len(LIST_END))
    # With a wrong length, reading the index could mean to read most of a large file.
    check(os.pread(file, _OFFSET.size, begin + _COUNTS.size) == _OFFSET.pack(len(LIST_START)))
    body = os.pread(file, end - begin, begin)
    check(deflate.crc32(body) == checksum)
    cursor = _Cursor(body)
    samples, folders, categories, sets = cursor.take("Q", 4)
    offsets = cursor.take_starts(samples, len(LIST_START))
    check(offsets[-1] == begin - len(LIST_END))
    checksums, set_ids, folder_ids = (cursor.take("I", samples) for _ in range(3))
    file_names = cursor.take_lists("B", samples)
    parents = cursor.take("I", folders)
    folder_names = cursor.take_lists("B", folders)
    names = texts(cursor.take_lists("B", categories))
    members = cursor.take_lists("I", sets)
    cursor.check_end()
    check(max(set_ids, default=-1) < sets)
    sizes = array("Q", (stop - start for start, stop in pairwise(offsets)))
    index = Index(sizes, checksums, Paths(file_names, folder_ids, folder_names, parents))
    index.set_ids = set_ids
    index.category_sets = tuple(
        frozenset(names[member] for member in members[number]) for number in range(sets)
    )
    return index


class _Cursor:
    """Takes one section of an index after the other, and never reads beyond its end."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0

    def take(self, typecode: str, count: int) -> array[int]:
        begin, size = self._at, count * struct.calcsize(typecode)
        check(size <= len(self._body) - begin)
        self._at += size
        return columns.unpack(self._body[begin : self._at], array(typecode))

    def take_starts(self, lists: int, first: int = 0) -> array[int]:
        """Take where each of some lists starts, and where the last one ends."""
        starts = self.take("Q", lists + 1)
        following: Iterable[int] = memoryview(starts)[1:]
        check(starts[0] == first and all(map(le, starts, following)))
        return starts

    def take_lists(self, typecode: str, count: int) -> Lists:
        starts = self.take_starts(count)
        items = self.take(typecode, starts[-1])
        return Lists(starts, items.tobytes() if typecode == "B" else items)

    def check_end(self) -> None:
        check(self._at == len(self._body))
