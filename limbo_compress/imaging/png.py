"""Plain PNGs to pixels, in one half to two thirds of the time that OpenCV takes.

OpenCV's libpng inflates line by line with the system's zlib and undoes the filters pixel by
pixel. Here everything is inflated at once, and ``_unfilter.c`` undoes the filters of eight lines
at a time. Every PNG that is not plain, or has any defect, is left to OpenCV.
"""

from __future__ import annotations

import struct
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from .. import deflate, limits
from ..errors import SampleError

try:
    from . import _unfilter as compiled
except ImportError:  # installed without a C compiler, or for another kind of CPU
    compiled = None  # type: ignore[assignment]

__all__ = ["SIGNATURE", "Chunk", "compiled", "decode_plain", "find_chunks", "leave_out_unused"]

_CHUNK = struct.Struct(">I4s")  # a chunk's length and kind
_CRC = struct.Struct(">I")
SIGNATURE = b"\x89PNG\r\n\x1a\n"
# The chunks that every decoder treats alike: no animation, no transparency.
_PLAIN = frozenset(
    (b"IHDR", b"IDAT", b"IEND", b"bKGD", b"cHRM", b"gAMA", b"pHYs", b"sRGB", b"tEXt", b"tIME")
)
# What makes a PNG an animation, and what libpng would inflate for nothing.
_UNUSED = frozenset((b"acTL", b"fcTL", b"fdAT", b"iCCP", b"iTXt", b"zTXt"))
_CHANNELS = {2: 3, 6: 4}  # by color type: RGB and RGBA
# RFC 1950: deflate with a window of 32 KiB. libpng fails if data reach back further than the
# window that they declare, which inflating everything at once would not notice.
_LARGEST_WINDOW = b"\x78"

# A part of a PNG: its kind, and where its contents begin and end.
Chunk = tuple[bytes, int, int]


def find_chunks(data: bytes, path: str) -> list[Chunk]:
    """Find the chunks of a PNG, which begins with `SIGNATURE`, without looking into them.

    Raises
    ------
    SampleError
        If one is incomplete, or there are too many. OpenCV would allocate the 2 GB that an
        incomplete chunk may claim.

    Notes
    -----
    PNG (ISO/IEC 15948) section 5.3: length, kind, contents, CRC-32 of kind and contents.
    """
    chunks = []
    kind, stop = b"", len(SIGNATURE) - _CRC.size
    while kind != b"IEND" and stop + _CRC.size + _CHUNK.size <= len(data):
        length, kind = _CHUNK.unpack_from(data, stop + _CRC.size)
        start = stop + _CRC.size + _CHUNK.size
        stop = start + length
        chunks.append((kind, start, stop))
        if len(chunks) > limits.PNG_CHUNKS:
            raise SampleError(f"the image has more than {limits.PNG_CHUNKS:,} chunks", path)
    if kind != b"IEND" or stop + _CRC.size > len(data):
        raise SampleError("the image is truncated or damaged: a chunk is incomplete", path)
    return chunks


def leave_out_unused(data: bytes, chunks: list[Chunk], path: str) -> tuple[bytes, list[Chunk]]:
    """Leave out animations, color profiles and compressed text: decoders see the still image alone.

    Of an animation OpenCV would decode the first frame, which need not be the still image, and
    rounds 16-bit values in it, where other decoders keep their high byte. A kilobyte of text can
    take libpng as long as a megapixel.

    Notes
    -----
    PNG, third edition (W3C) section 11.3.6.
    """
    if _UNUSED.isdisjoint(kind for kind, _, _ in chunks):
        return data, chunks
    kept = [
        data[start - _CHUNK.size : stop + _CRC.size]
        for kind, start, stop in chunks
        if kind not in _UNUSED
    ]
    data = SIGNATURE + b"".join(kept)
    return data, find_chunks(data, path)


def decode_plain(data: bytes, chunks: list[Chunk]) -> NDArray[np.uint8] | None:
    """Decode an 8-bit RGB or RGBA PNG that is not interlaced. Alpha is dropped.

    Returns
    -------
    ndarray of uint8, shape (height, width, 3), or None
        None if it is of another kind, or anything about it is wrong.

    Notes
    -----
    PNG (ISO/IEC 15948) sections 9, 10 and 11.2.
    """
    if compiled is None or not _is_plain(data, chunks):
        return None
    width, height, color_type = struct.unpack_from(">IIxB", data, 16)
    channels = _CHANNELS[color_type]
    filtered = _inflate(data, chunks, height * (1 + width * channels))
    if filtered is None:
        return None
    pixels = np.empty((height, width, 3), np.uint8)
    return pixels if compiled.unfilter(filtered, width, channels, pixels) else None


def _is_plain(data: bytes, chunks: list[Chunk]) -> bool:
    if chunks[0] != (b"IHDR", 16, 29):
        return False
    width, height, depth, color_type, *methods = struct.unpack_from(">IIBBBBB", data, 16)
    kinds = [kind for kind, _, _ in chunks]
    pieces = [kind for kind, _ in groupby(kinds)]  # image data may be in several chunks, in a row
    return (
        0 < width <= limits.SIDE
        and 0 < height <= limits.SIDE
        and depth == 8
        and color_type in _CHANNELS
        and methods == [0, 0, 0]
        and _PLAIN.issuperset(pieces)
        and kinds.count(b"IHDR") == pieces.count(b"IDAT") == 1
    )


def _inflate(data: bytes, chunks: list[Chunk], size: int) -> bytes | None:
    """Inflate the image data, or return None if a checksum or the size is wrong."""
    view = memoryview(data)
    for _, start, stop in chunks:
        if deflate.crc32(view[start - 4 : stop]) != _CRC.unpack_from(data, stop)[0]:
            return None
    deflated = b"".join(view[start:stop] for kind, start, stop in chunks if kind == b"IDAT")
    if not deflated.startswith(_LARGEST_WINDOW):
        return None
    stream = deflate.decompressor()
    try:
        # At most one byte more than expected, so that a bomb takes no more memory than an image.
        filtered = stream.decompress(deflated, size + 1)
    except deflate.Error:
        return None
    return filtered if stream.eof and len(filtered) == size and not stream.unused_data else None
