"""Unpickle a whole file of metadata that has no index, without trusting it."""

from __future__ import annotations

import mmap
import pickle
import re
from typing import Any, BinaryIO

from ..formats.pickling import PlainUnpickler, no_garbage_collection

__all__ = ["DAMAGED", "load_list"]

# What unpickling may raise on damaged data.
DAMAGED = (
    pickle.UnpicklingError,
    EOFError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    OverflowError,
    MemoryError,
)

# The opcodes by which `pickle` writes JSON values in protocols 2 to 5, but for those below whose
# length varies. LONG_BINPUT (r) of a number below 2**20 is frequent in protocols 2 and 3.
_FIXED = re.compile(
    rb"(?:G.{8}|[\]}(Naeus\x88\x89\x94]|[Kqh\x80].|M..|[Jj].{4}|r..[\x00-\x0f]\x00)++",
    re.DOTALL,
)
# For those followed by a length: the opcode, and how many bytes the length has.
_SIZED = {
    pickle.BINUNICODE[0]: 4,
    pickle.SHORT_BINUNICODE[0]: 1,
    pickle.BINUNICODE8[0]: 8,
    pickle.LONG1[0]: 1,
    pickle.LONG4[0]: 4,
}
_GLOBALS = (pickle.GLOBAL[0], pickle.STACK_GLOBAL[0])
# JSON with more is not parsed either.
_MOST_LEVELS = 1000
# A reference of two bytes may mean a text of some hundred, such as a license.
_MOST_TEXT = 100


def load_list(stream: BinaryIO) -> list[dict[str, Any]]:
    """Unpickle a list of dict of plain values; what is damaged raises one of `DAMAGED`."""
    with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        _check_opcodes(data)
        size = len(data)
    with no_garbage_collection():
        samples = PlainUnpickler(stream).load()
    if not isinstance(samples, list) or not all(isinstance(sample, dict) for sample in samples):
        raise pickle.UnpicklingError("it holds no list of dict")
    _check_values(samples, size)
    return samples


def _check_values(samples: list[Any], most: int) -> None:
    """Check that lists and dicts are not shared so that there are more values than bytes.

    A list of two references to a list of two references to … doubles with every few bytes. The
    values of metadata take a byte each, at least.
    """
    level, text = samples, _MOST_TEXT * most
    for _ in range(_MOST_LEVELS):
        most -= sum(map(len, level))
        text -= sum(map(_text_length, level))
        if most < 0 or text < 0:
            raise pickle.UnpicklingError("it has more values than bytes")
        level = [
            value
            for values in level
            for value in (values.values() if isinstance(values, dict) else values)
            if isinstance(value, list | dict)
        ]
        if not level:
            return
    raise pickle.UnpicklingError("it is nested too deeply")


def _text_length(values: list[Any] | dict[Any, Any]) -> int:
    """Return how long the texts in a list or dict are together; a reference counts as its text."""
    items = [*values, *values.values()] if isinstance(values, dict) else values
    if str not in map(type, items):  # such as points, of which there are most
        return 0
    return sum(len(value) for value in items if type(value) is str)


def _check_opcodes(data: mmap.mmap) -> None:
    """Check that unpickling needs no more memory than the size of the pickle warrants.

    `pickle` believes the lengths that it finds, and the numbers of memo entries, before it knows
    whether there are as many bytes: a single flipped bit may ask for 60 GB.
    """
    at = 0
    while True:
        run = _FIXED.match(data, at)
        at = run.end() if run else at
        if at >= len(data):
            raise EOFError("it ends before its STOP opcode")
        opcode = data[at]
        if opcode == pickle.STOP[0] or opcode in _GLOBALS:  # the unpickler refuses globals
            return
        at = _skip(data, at)


def _skip(data: mmap.mmap, at: int) -> int:
    """Return where the opcode after the one at `at` begins."""
    opcode = data[at]
    if opcode in _SIZED:
        start = at + 1 + _SIZED[opcode]
        end = start + int.from_bytes(data[at + 1 : start], "little")
    elif opcode == pickle.FRAME[0]:
        end = at + 9
        if end + int.from_bytes(data[at + 1 : end], "little") > len(data):
            raise EOFError(f"the frame at byte {at:,} is cut short")
    elif opcode == pickle.LONG_BINPUT[0] and int.from_bytes(data[at + 1 : at + 5], "little") < at:
        end = at + 5
    else:
        problem = f"byte {at:,}: opcode {opcode:#04x} does not belong in metadata"
        raise pickle.UnpicklingError(problem)
    return end
