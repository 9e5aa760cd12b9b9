"""Small images for the tests, and PNGs of kinds that Pillow cannot write."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image

SIZE = WIDTH, HEIGHT = 40, 30


def picture() -> Image.Image:
    x, y = np.linspace(0, 1, WIDTH)[None, :], np.linspace(0, 1, HEIGHT)[:, None]
    shade = np.stack([x * y, x * (1 - y), (x + y) / 2], axis=-1)
    return Image.fromarray((255 * shade).astype(np.uint8))


def picture_with_alpha() -> Image.Image:
    alpha = np.linspace(0, 255, WIDTH * HEIGHT).reshape(HEIGHT, WIDTH).astype(np.uint8)
    return Image.merge("RGBA", (*picture().split(), Image.fromarray(alpha)))


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def chunk(kind: bytes, contents: bytes) -> bytes:
    checksum = zlib.crc32(kind + contents)
    return struct.pack(">I", len(contents)) + kind + contents + struct.pack(">I", checksum)


def png(size: tuple[int, int], depth: int, color_type: int, *deflated: bytes) -> bytes:
    """A PNG whose image data is split into these IDAT chunks."""
    header = png_header(size, depth, color_type)
    return png_of(header, *(chunk(b"IDAT", data) for data in deflated))


def png_header(size: tuple[int, int], depth: int, color_type: int, interlaced: int = 0) -> bytes:
    fields = struct.pack(">IIBBBBB", *size, depth, color_type, 0, 0, interlaced)
    return chunk(b"IHDR", fields)


def png_of(*chunks: bytes) -> bytes:
    """A PNG of these chunks and the one that ends it."""
    return b"".join((b"\x89PNG\r\n\x1a\n", *chunks, chunk(b"IEND", b"")))
