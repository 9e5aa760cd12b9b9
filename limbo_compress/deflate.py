"""Inflating and CRC-32: by ISA-L or zlib-ng where an extra has installed them, else by zlib."""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import zlib

    Error: type[Exception]
else:
    try:
        from isal import isal_zlib as zlib
    except ImportError:  # the extra [fast] is not installed
        import zlib

    Error = zlib.error

__all__ = ["Error", "crc32", "decompressor", "inflater_of_runs"]

crc32 = zlib.crc32


def decompressor() -> Any:
    """Return a new decompressor of zlib streams (RFC 1950).

    Its ``decompress(data, max_length)``, ``eof`` and ``unused_data`` are those of
    `zlib.decompressobj`; damaged data raise `Error`.
    """
    try:
        from isal import igzip_lib
    except ImportError:
        return zlib.decompressobj()
    # It grows its output in fewer steps than isal_zlib's, which saves 3 % of the time.
    return igzip_lib.IgzipDecompressor(igzip_lib.DECOMP_ZLIB)


def inflater_of_runs() -> Any:
    """Return the module that inflates long runs of equal bytes fastest, with the names of `zlib`.

    None if only zlib is installed, which takes longer than OpenEXR with its libdeflate.
    """
    for name in ("zlib_ng.zlib_ng", "isal.isal_zlib"):
        with suppress(ImportError):
            return import_module(name)
    return None
