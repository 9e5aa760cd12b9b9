"""Metadata pickled in fragments that can be joined as bytes.

A pickle of protocol 3 written with `pickle.Pickler.fast` has no memo, so the bytes
between its header and its STOP mean the same wherever they stand. A list of such
fragments is ``PROTO 3, EMPTY_LIST, (fragment, APPEND) for each fragment, STOP``, with the opcodes
of CPython's `pickletools`. Pickle itself would append many at once, between MARK and APPENDS, but
then the bytes would depend on how the samples were divided into shards.
"""

from __future__ import annotations

import gc
import io
import pickle
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, NoReturn

from .. import deflate
from ..errors import SampleError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "LIST_END",
    "LIST_START",
    "PlainUnpickler",
    "Points",
    "abridge",
    "fragment",
    "load_abridged",
    "load_compact",
    "load_fragment",
    "no_garbage_collection",
]

_PROTOCOL = 3
_PROTO = b"\x80\x03"
LIST_START = _PROTO + pickle.EMPTY_LIST
LIST_END = pickle.STOP
_FRAMED_LIST_START = b"\x80\x04]\x95"  # PROTO 4, EMPTY_LIST, FRAME
# A number in a fragment. Only integers of more than 32 bits are written in another way.
_NUMBER = rb"(?:G.{8}|J.{4}|M..|K.)"
_OPCODE = _NUMBER + rb"|[\]}(Naeus\x88\x89]"
# Several lists of two numbers in a row, or any opcode whose length does not vary.
_POINTS_OR_OPCODE = re.compile(rb"((?:\]\(" + 2 * _NUMBER + rb"e){3,}+)|" + _OPCODE, re.DOTALL)
# The same for lists of two floats, which all have the same length.
_FLOAT_POINTS_OR_OPCODE = re.compile(rb"((?:\]\(G.{8}G.{8}e){3,}+)|" + _OPCODE, re.DOTALL)
_FLOAT_POINT_BYTES = 21
# For those followed by a length: how many bytes the length has.
_LENGTH_BYTES = {pickle.BINUNICODE[0]: 4, pickle.LONG1[0]: 1, pickle.LONG4[0]: 4}


@cache  # only readers need it
def _opcodes() -> re.Pattern[bytes]:
    """Opcodes whose length does not vary; points are in front because most are of them."""
    return re.compile(
        rb"(?:\]\(" + 2 * _NUMBER + rb"e|" + _NUMBER + rb"|[\]}(Naeus\x88\x89])++", re.DOTALL
    )


def fragment(metadata: dict[str, Any], path: str) -> bytes:
    """Pickle one sample's metadata as an item of a list, with the opcode that appends it.

    Raises
    ------
    SampleError
        If it is nested more deeply than `pickle` can follow.
    """
    buffer = io.BytesIO()
    pickler = pickle.Pickler(buffer, _PROTOCOL)
    pickler.fast = True
    try:
        pickler.dump(metadata)
    except RecursionError as error:
        raise SampleError("its metadata is nested too deeply", path) from error
    return buffer.getvalue()[len(_PROTO) : -len(LIST_END)] + pickle.APPEND


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Suspend garbage collection, which takes most of the time to make many small lists."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class PlainUnpickler(pickle.Unpickler):
    """An unpickler that accepts plain values only: nothing in a pickle is executed."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"{module}.{name} does not belong in metadata: not loaded")


def load_fragment(data: bytes) -> Any:
    """Unpickle what `fragment` returned.

    Raises
    ------
    ValueError
        If it has an opcode that `fragment` does not write: others can ask for any amount of memory.
    pickle.UnpicklingError
        If it is not such a fragment. Damaged data may raise other exceptions as well, see the
        documentation of `pickle`.
    """
    opcodes, at = _opcodes(), 0
    while at < len(data):
        run = opcodes.match(data, at)
        at = run.end() if run else _skip(data, at)
    return _load(data)


def load_abridged(data: bytes) -> Any:
    """Unpickle a fragment as `abridge` returns it, which has checked its opcodes.

    Raises
    ------
    ValueError, pickle.UnpicklingError
        As `load_fragment`.
    """
    return _load(abridge(data))


def _load(data: bytes, runs: Sequence[Points] = ()) -> Any:
    if not data.endswith(pickle.APPEND):
        raise pickle.UnpicklingError("a fragment must end with APPEND")
    unpickler = PlainUnpickler(_FramedFragment(data))
    if runs:
        unpickler.persistent_load = runs.__getitem__  # type: ignore[method-assign]
    (item,) = unpickler.load()
    return item


class Points(bytes):
    """Three or more points of a contour that are floats, as the bytes of the fragment."""

    @property
    def number(self) -> int:
        """How many they are."""
        return len(self) // _FLOAT_POINT_BYTES

    def array(self) -> NDArray[np.float64]:
        """Return the points, shape (number, 2)."""
        import numpy as np  # here because the coordinator does without

        points = np.frombuffer(self, "S3, >f8, S1, >f8, S1")
        return np.stack([points["f1"], points["f3"]], axis=1).astype(np.float64)


def load_compact(data: bytes) -> Any:
    """Unpickle a fragment, but leave the points of contours as they are: `Points`.

    To make an object of each number takes most of the time to unpickle a sample and to use it.

    Raises
    ------
    ValueError, pickle.UnpicklingError
        As `load_fragment`.

    Examples
    --------
    >>> data = fragment({"contours": [[[1.0, 2.0], [3.0, 4.0], [5.0, 6.5]], [[7, 8]]]}, "")
    >>> load_compact(data)["contours"][0][0].array().tolist()
    [[1.0, 2.0], [3.0, 4.0], [5.0, 6.5]]
    """
    runs: list[Points] = []

    def keep(points: bytes) -> bytes:
        runs.append(Points(points))
        return pickle.BININT + (len(runs) - 1).to_bytes(4, "little") + pickle.BINPERSID

    return _load(_replace_points(data, _FLOAT_POINTS_OR_OPCODE, keep), runs)


class _FramedFragment:
    """A pickled list with one fragment, as a stream.

    The unpickler reads a frame (PEP 3154) in one piece. Without it, it would call the stream for
    every opcode, which takes 2.5 times as long; to join the bytes takes a tenth more.
    """

    def __init__(self, data: bytes) -> None:
        self._start = io.BytesIO(_FRAMED_LIST_START + len(data).to_bytes(8, "little"))
        self._rest = [LIST_END, data]

    def read(self, size: int) -> bytes:
        return self._start.read(size) or (self._rest.pop() if self._rest else b"")

    def readline(self) -> bytes:
        raise pickle.UnpicklingError("no opcode of a fragment reads a line")


def abridge(data: bytes) -> bytes:
    """Replace the points of contours in a fragment by their checksum.

    Most of a sample is points, and to make an object of each number takes most of the time to
    unpickle it. Who only wants to know which contours there are can tell equal ones by this.

    In the fragment that is returned, an integer, a CRC-32, replaces three or more lists of two
    numbers that follow each other in a list. Where such a list is long, there are several.

    Raises
    ------
    ValueError
        If it is not such a fragment.

    Examples
    --------
    >>> load_fragment(abridge(fragment({"contours": [[[1, 2], [3, 4], [5, 6.5]], [[7, 8]]]}, "")))
    {'contours': [[-412398297], [[7, 8]]]}
    """
    return _replace_points(data, _POINTS_OR_OPCODE, _checksum)


def _checksum(points: bytes) -> bytes:
    return pickle.BININT + deflate.crc32(points).to_bytes(4, "little")


def _replace_points(
    data: bytes, points_or_opcode: re.Pattern[bytes], replace: Callable[[bytes], bytes]
) -> bytes:
    parts = []
    at = kept = 0
    while at < len(data):
        found = points_or_opcode.match(data, at)
        if found is None:
            at = _skip(data, at)
            continue
        at = found.end()
        if found[1]:
            parts += [data[kept : found.start()], replace(found[1])]
            kept = at
    return b"".join([*parts, data[kept:]])


def _skip(data: bytes, at: int) -> int:
    """Return where the opcode after the one at `at`, which is followed by a length, begins."""
    if data[at] not in _LENGTH_BYTES:
        raise ValueError(f"byte {at:,}: opcode {data[at]:#04x} does not belong in a fragment")
    start = at + 1 + _LENGTH_BYTES[data[at]]
    return start + int.from_bytes(data[at + 1 : start], "little")
