"""Columns of numbers and lists as the index stores them.

Columns are plain, or distinct values and their places.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "DistinctLists",
    "Lists",
    "Names",
    "NewLists",
    "as_numpy",
    "decode",
    "encode",
    "pack",
    "texts",
    "unpack",
]

Number = TypeVar("Number", int, float)

# The number of distinct values, or 0 for plain numbers; the bytes of a value and of a place.
_HEAD = struct.Struct("<IBB2x")
_TYPECODES = {1: "B", 2: "H", 4: "I", 8: "Q"}
_MOST_DISTINCT = 1 << 16


@dataclass(frozen=True)
class Lists:
    """Lists of numbers or the bytes of names: where each starts, and all of them."""

    starts: array[int]
    items: Any

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, number: int) -> Any:
        return self.items[self.starts[number] : self.starts[number + 1]]


class NewLists:
    """Lists of one kind of number: their lengths, and all items."""

    def __init__(self, typecode: str) -> None:
        self.lengths = array("I")
        self.items = array(typecode)

    def __len__(self) -> int:
        return len(self.lengths)

    def finish(self) -> Lists:
        """Return them as they are read back."""
        return Lists(array("Q", accumulate(self.lengths, initial=0)), self.items)

    def append(self, items: bytes | Sequence[int]) -> None:
        self.items.extend(array(self.items.typecode, items))
        self.lengths.append(len(items))


class DistinctLists:
    """Lists of numbers that are stored once each, and the place of the list of each sample."""

    def __init__(self) -> None:
        self.lists = NewLists("I")
        self.places = array("I")
        self._known: dict[tuple[int, ...], int] = {}

    def append(self, items: tuple[int, ...]) -> None:
        place = self._known.setdefault(items, len(self._known))
        if place == len(self.lists):
            self.lists.append(items)
        self.places.append(place)


class Names:
    """Names that are stored once each, numbered in the order in which they are first needed."""

    def __init__(self) -> None:
        self.texts = NewLists("B")
        self._known: dict[bytes, int] = {}

    def number(self, name: bytes) -> int:
        number = self._known.setdefault(name, len(self._known))
        if number == len(self.texts):
            self.texts.append(name)
        return number


def encode(numbers: array[int]) -> bytes:
    """Encode unsigned numbers in the shorter of the two ways."""
    width = _width(max(numbers, default=0))
    plain = _HEAD.pack(0, width, 0) + pack(array(_TYPECODES[width], numbers))
    places: dict[int, int] = {}
    for number in numbers:
        if places.setdefault(number, len(places)) == _MOST_DISTINCT:
            return plain
    place_width = _width(max(0, len(places) - 1))
    head = _HEAD.pack(len(places), width, place_width)
    if len(head) + len(places) * width + len(numbers) * place_width >= len(plain):
        return plain
    values = array(_TYPECODES[width], places)
    return (
        head + pack(values) + pack(array(_TYPECODES[place_width], map(places.__getitem__, numbers)))
    )


def decode(data: bytes, typecode: str | None = None) -> array[int]:
    """Decode a column to an array of this type, by default of the width that it is stored in.

    Raises
    ------
    ValueError, LookupError, OverflowError, struct.error
        If it is damaged.
    """
    distinct, width, place_width = _HEAD.unpack_from(data)
    stop = _HEAD.size + distinct * width if distinct else len(data)
    values = _unpack(data[_HEAD.size : stop], width)
    found: Iterable[int] = values
    if distinct:
        found = map(values.__getitem__, _unpack(data[stop:], place_width))
    elif typecode in (None, values.typecode):
        return values
    return array(typecode or values.typecode, found)


def as_numpy(data: bytes) -> NDArray[np.uint64]:
    """Decode a column as `decode` does, to an array of numpy, in a fraction of the time."""
    import numpy as np  # here because the coordinator does without

    distinct, width, place_width = _HEAD.unpack_from(data)
    stop = _HEAD.size + distinct * width if distinct else len(data)
    values = np.frombuffer(data[_HEAD.size : stop], f"<u{width}")
    if distinct:
        values = values[np.frombuffer(data[stop:], f"<u{place_width}")]
    return values.astype(np.uint64)


def texts(names: Lists) -> list[str]:
    return [bytes(names[n]).decode("utf-8", "surrogatepass") for n in range(len(names))]


def pack(numbers: array[Number]) -> bytes:
    """Return the bytes of numbers, little-endian."""
    if sys.byteorder == "big":
        numbers = numbers[:]
        numbers.byteswap()
    return numbers.tobytes()


def unpack(data: bytes, numbers: array[Number]) -> array[Number]:
    """Return an empty array with the numbers of its type that are stored little-endian."""
    numbers.frombytes(data)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def _unpack(data: bytes, width: int) -> array[int]:
    return unpack(data, array(_TYPECODES[width]))


def _width(most: int) -> int:
    """Return how many bytes a number needs that is at most this large."""
    return next(width for width in _TYPECODES if most >> 8 * width == 0)
