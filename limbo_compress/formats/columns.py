"""Columns of numbers as the index stores them: plain, or as distinct values and their places."""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterable
from typing import TypeVar

__all__ = ["decode", "encode", "pack", "unpack"]

Number = TypeVar("Number", int, float)

# The number of distinct values, or 0 for plain numbers; the bytes of a value and of a place.
_HEAD = struct.Struct("<IBB2x")
_TYPECODES = {1: "B", 2: "H", 4: "I", 8: "Q"}
_MOST_DISTINCT = 1 << 16


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


def decode(data: bytes, typecode: str) -> array[int]:
    """Decode a column to an array of this type.

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
    elif values.typecode == typecode:
        return values
    return array(typecode, found)


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
