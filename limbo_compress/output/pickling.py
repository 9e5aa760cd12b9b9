"""Metadata pickled in fragments that can be joined as bytes.

A pickle of protocol 3 written with `pickle.Pickler.fast` has no memo, so the bytes
between its header and its STOP mean the same wherever they stand. A list of such
fragments is ``PROTO 3, EMPTY_LIST, (fragment, APPEND) for each fragment, STOP``, with the opcodes
of CPython's `pickletools`. Pickle itself would append many at once, between MARK and APPENDS, but
then the bytes would depend on how the samples were divided into shards.
"""

from __future__ import annotations

import io
import pickle
from typing import Any

from ..errors import SampleError

__all__ = ["LIST_END", "LIST_START", "fragment"]

_PROTOCOL = 3
_PROTO = b"\x80\x03"
LIST_START = _PROTO + pickle.EMPTY_LIST
LIST_END = pickle.STOP


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
