"""The bytes of a metadata file to a dict, fast, and exactly as `json.loads` reads them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ..errors import SampleError
from .schema import Metadata

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["parse"]

_LONG = 19  # digits; no integer beyond 64 bits has fewer
_BLOCK = 1 << 18  # bytes; stays in the cache


def parse(data: bytes, path: str) -> Metadata:
    """Parse a metadata file to what `json.loads` returns for it, mostly with orjson.

    orjson refuses NaN, Infinity, a BOM, UTF-16 and lone surrogates, and turns
    integers beyond 64 bits into floats. Such files fall back to `json`.

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
    import orjson  # here because the coordinator, which never parses, starts faster without it

    if not _has_long_number(data):
        try:
            return orjson.loads(data)
        except orjson.JSONDecodeError:
            pass
    return json.loads(data)


def _has_long_number(data: bytes) -> bool:
    """Whether there are `_LONG` digits in a row, as in every integer beyond 64 bits.

    A loop over the bytes, or a regular expression, takes as long as parsing. numpy is faster, in
    blocks that fit the cache. It first looks at words of four bytes: 19 digits in a row always
    fill four consecutive words.
    """
    import numpy as np

    for at in range(0, len(data), _BLOCK):
        size = min(_BLOCK + _LONG - 1, len(data) - at)
        words = np.frombuffer(data, np.uint32, size // 4, at)
        numeric = words & 0xF0F0F0F0 == 0x30303030  # the ASCII digits and a few other characters
        if _has_run(numeric, 4):
            digits = np.frombuffer(data, np.uint8, size, at) - ord("0") < 10
            if _has_run(digits, _LONG):
                return True
    return False


def _has_run(flags: NDArray[np.bool_], length: int) -> bool:
    """Whether `length` flags in a row are set."""
    run = 1
    while run < length:
        more = min(run, length - run)
        flags = flags[more:] & flags[:-more]
        run += more
    return bool(flags.any())
