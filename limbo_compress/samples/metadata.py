"""Metadata: parse it, strip it, and pickle samples so that the pieces can be joined as bytes.

A pickle of protocol 3 written with `pickle.Pickler.fast` has no memo, so the bytes
between its header and its STOP mean the same wherever they stand. A list is joined from such
pieces as ``PROTO 3, EMPTY_LIST, (piece, APPEND) for each piece, STOP``, with the opcodes of
CPython's `pickletools`. Pickle itself would append many at once, between MARK and APPENDS; then
the bytes would tell how the samples were divided into shards.
"""

from __future__ import annotations

import io
import json
import pickle
from typing import TYPE_CHECKING, Any

from .errors import SampleError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["LIST_END", "LIST_START", "Metadata", "parse", "piece", "strip_regions"]

Metadata = dict[str, Any]

_LONG = 19  # digits: as many as the least integer beyond 64 bits has
_BLOCK = 1 << 18
_PROTOCOL = 3
_PROTO = b"\x80\x03"
LIST_START = _PROTO + pickle.EMPTY_LIST
LIST_END = pickle.STOP


def parse(data: bytes, path: str) -> Metadata:
    """Parse a metadata file to what ``json.loads`` makes of it, mostly with orjson.

    orjson refuses NaN, Infinity, a BOM, UTF-16 and lone surrogates, and turns
    integers beyond 64 bits into floats: those files go to `json`.

    Parameters
    ----------
    data : bytes
        The whole file.
    path : str
        Its path, for errors.

    Raises
    ------
    SampleError
        If it is not JSON, or not an object.
    """
    try:
        value = _loads(data)
    except RecursionError as error:
        raise SampleError("its metadata is nested too deeply", path) from error
    except ValueError as error:
        raise SampleError(f"its metadata is not JSON: {error}", path) from error
    if not isinstance(value, dict):
        raise SampleError(f"its metadata is a JSON {type(value).__name__}, not an object", path)
    return value


def _loads(data: bytes) -> Any:
    import orjson  # here, for the coordinator starts in less time without it

    if not _has_long_number(data):
        try:
            return orjson.loads(data)
        except orjson.JSONDecodeError:
            pass
    return json.loads(data)


def _has_long_number(data: bytes) -> bool:
    """Whether there are `_LONG` digits in a row, as in all integers beyond 64 bits.

    With numpy, for to look at every byte in another way takes as long as to parse them; in blocks
    that stay in the cache; and by words of four bytes first: 19 digits fill four of them, wherever
    they begin.
    """
    import numpy as np

    for at in range(0, len(data), _BLOCK):
        size = min(_BLOCK + _LONG - 1, len(data) - at)
        words = np.frombuffer(data, np.uint32, size // 4, at)
        numeric = words & 0xF0F0F0F0 == 0x30303030  # in ASCII the digits, and a few others
        if _has_run(numeric, 4):
            digits = np.frombuffer(data, np.uint8, size, at) - ord("0") < 10
            if _has_run(digits, _LONG):
                return True
    return False


def _has_run(flags: NDArray[np.bool_], length: int) -> bool:
    """Whether so many flags are set in a row."""
    run = 1
    while run < length:
        more = min(run, length - run)
        flags = flags[more:] & flags[:-more]
        run += more
    return bool(flags.any())


def strip_regions(metadata: Metadata, path: str) -> Metadata:
    """Reduce the annotations to one ``{"category": ...}`` for each distinct category.

    Returns
    -------
    dict
        A shallow copy with the categories in the order they are first seen.

    Raises
    ------
    SampleError
        If the annotations are not a list of objects, or a category is not a plain value.
    """
    annotations = metadata.get("annotations", [])
    try:
        categories = dict.fromkeys(annotation.get("category") for annotation in annotations)
    except (AttributeError, TypeError) as error:
        raise SampleError(
            "its annotations are not a list of objects with a category", path
        ) from error
    return metadata | {"annotations": [{"category": category} for category in categories]}


def piece(metadata: Metadata, path: str) -> bytes:
    """Pickle one sample's metadata as a piece of a list, with the opcode that appends it.

    Raises
    ------
    SampleError
        If it is nested deeper than `pickle` can follow.
    """
    buffer = io.BytesIO()
    pickler = pickle.Pickler(buffer, _PROTOCOL)
    pickler.fast = True
    try:
        pickler.dump(metadata)
    except RecursionError as error:
        raise SampleError("its metadata is nested too deeply", path) from error
    return buffer.getvalue()[len(_PROTO) : -len(LIST_END)] + pickle.APPEND
