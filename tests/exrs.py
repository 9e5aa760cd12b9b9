"""OpenEXR files, even with headers that OpenEXR's Python bindings do not write."""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import OpenEXR
from numpy.typing import NDArray

_PIXEL_TYPES = {"<u4": 0, "<f2": 1, "<f4": 2}
_MULTI_PART, _DEEP, _LONG_NAMES = 0x1000, 0x800, 0x400


def attribute(name: bytes, kind: bytes, value: bytes) -> bytes:
    return name + b"\0" + kind + b"\0" + struct.pack("<i", len(value)) + value


NAMED = attribute(b"cryptomatte/abcdef0/name", b"string", b"crypto")


@dataclass(frozen=True)
class Part:
    """An image of uncompressed scan lines.

    Parameters
    ----------
    planes : mapping of bytes to ndarray
        By the name of the channel, of ``<u4``, ``<f2`` or ``<f4``; all of one shape.
    attributes : iterable of bytes
        More attributes, encoded.
    kind : bytes
        What the attribute ``type`` says where there is one.
    sampling : int
        What the header says about the channels: the distance between values.
    """

    planes: Mapping[bytes, NDArray[np.generic]]
    attributes: Iterable[bytes] = (NAMED,)
    kind: bytes = b"scanlineimage"
    sampling: int = 1
    name: bytes = field(default=b"part")

    @property
    def lines(self) -> list[bytes]:
        planes = [plane for _, plane in sorted(self.planes.items())]
        return [b"".join(row.tobytes() for row in rows) for rows in zip(*planes, strict=True)]

    def header(self, typed: bool) -> bytes:
        height, width = next(iter(self.planes.values())).shape
        window = struct.pack("<4i", 0, 0, width - 1, height - 1)
        channels = b"".join(
            name
            + b"\0"
            + struct.pack("<i4x2i", _PIXEL_TYPES[plane.dtype.str], *[self.sampling] * 2)
            for name, plane in sorted(self.planes.items())
        )
        attributes = [
            attribute(b"channels", b"chlist", channels + b"\0"),
            attribute(b"compression", b"compression", b"\0"),
            attribute(b"dataWindow", b"box2i", window),
            attribute(b"displayWindow", b"box2i", window),
            attribute(b"lineOrder", b"lineOrder", b"\0"),
            attribute(b"pixelAspectRatio", b"float", struct.pack("<f", 1)),
            attribute(b"screenWindowCenter", b"v2f", bytes(8)),
            attribute(b"screenWindowWidth", b"float", struct.pack("<f", 1)),
            *self.attributes,
        ]
        if typed:
            attributes += [
                attribute(b"name", b"string", self.name),
                attribute(b"type", b"string", self.kind),
                attribute(b"chunkCount", b"int", struct.pack("<i", height)),
            ]
        return b"".join(attributes) + b"\0"


def exr(*parts: Part, deep: bool = False) -> bytes:
    """A file of one part, or of several."""
    several = len(parts) > 1
    flags = (_MULTI_PART if several else 0) | (_DEEP if deep else 0) | _LONG_NAMES
    headers = b"".join(part.header(several) for part in parts) + (b"\0" if several else b"")
    start = b"\x76\x2f\x31\x01" + struct.pack("<I", 2 | flags) + headers
    chunks = [
        (struct.pack("<i", number) if several else b"") + struct.pack("<2i", y, len(line)) + line
        for number, part in enumerate(parts)
        for y, line in enumerate(part.lines)
    ]
    ends = np.cumsum([len(start) + 8 * len(chunks), *map(len, chunks)])
    return start + ends[:-1].astype("<u8").tobytes() + b"".join(chunks)


def written(
    planes: Mapping[str, NDArray[Any]], compression: str, is_tiled: bool = False, *others: Any
) -> bytes:
    """A cryptomatte as OpenEXR writes it, with other parts of OpenEXR's after it."""
    header = {
        "type": OpenEXR.tiledimage if is_tiled else OpenEXR.scanlineimage,
        "compression": getattr(OpenEXR, f"{compression}_COMPRESSION"),
        "cryptomatte/abcdef0/name": "crypto",
    }
    if is_tiled:
        header["tiles"] = tiles = OpenEXR.TileDescription()
        tiles.xSize, tiles.ySize = 4, 3
    crypto = OpenEXR.Part(header, {name: plane.copy() for name, plane in planes.items()}, "crypto")
    with tempfile.NamedTemporaryFile(suffix=".exr") as file:
        OpenEXR.File([crypto, *others]).write(file.name)
        return Path(file.name).read_bytes()
