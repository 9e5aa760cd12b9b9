"""Inflating and CRC-32: by ISA-L where the extra ``[fast]`` is installed, else by zlib."""

from __future__ import annotations

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

__all__ = ["Error", "crc32", "decompressor"]

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
