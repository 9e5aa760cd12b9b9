"""The headers of an OpenEXR file.

OpenEXR's Python bindings crash on some valid headers, such as those with a thumbnail or a name
that is not UTF-8, and allocate whatever a header asks for. So the headers are read here, and
OpenEXR is only asked for channels that exist, of a size that is within the limits.

The format is "OpenEXR File Layout", in the documentation of OpenEXR.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from .. import limits
from ..errors import SampleError

__all__ = ["FLOAT", "HALF", "MAGIC", "Channel", "ExrPart", "Window", "read_header"]

MAGIC = b"\x76\x2f\x31\x01"
_TILED, _DEEP, _MULTI_PART = 0x200, 0x800, 0x1000
_LONGEST_NAME = 255
# Per part. Real files have some dozens; a damaged one of a gigabyte could have 100 million.
_MOST_ATTRIBUTES = 10_000
# By the number of a compression: its name, and how many lines it compresses together.
_COMPRESSIONS = (
    *(("none", 1), ("RLE", 1), ("ZIPS", 1), ("ZIP", 16), ("PIZ", 32), ("PXR24", 16)),
    *(("B44", 32), ("B44A", 32), ("DWAA", 32), ("DWAB", 256)),
    *(("HTJ2K256", 256), ("HTJ2K32", 32), ("LJ2K", 256), ("ZSTD", 1)),
)
# Pixel types.
HALF, FLOAT = 1, 2

Attribute = tuple[bytes, bytes]  # type and value


class Window(NamedTuple):
    """A rectangle of pixels; the last column and row belong to it."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return self.bottom - self.top + 1, self.right - self.left + 1


class Channel(NamedTuple):
    """The pixel type of a channel, and its distance between values: in columns and rows."""

    pixel_type: int
    sampling: tuple[int, int]

    @property
    def value_bytes(self) -> int:
        return 2 if self.pixel_type == HALF else 4


class ExrPart(NamedTuple):
    """A part of a file: an image of its own. Most files have one."""

    attributes: dict[bytes, Attribute]
    data_window: Window  # what is stored
    display_window: Window  # the whole image
    channels: dict[str, Channel]  # what is not UTF-8 in a name is escaped with surrogates
    compression: str  # its name, such as "ZIP"
    chunk_lines: int  # those that are compressed together, or those of a tile
    is_deep: bool  # pixels have several samples each
    tile_shape: tuple[int, int]  # height and width; (0, 0) if there are no tiles
    offsets_at: int  # where those of the chunks begin, in a file of scan lines and one part; else 0

    @property
    def pixel_bytes(self) -> int:
        """Decoded size of a pixel with all channels, in bytes."""
        return sum(found.value_bytes for found in self.channels.values())

    @property
    def chunks(self) -> int:
        """How many chunks there are at full resolution."""
        height, width = self.data_window.shape
        across = -(-width // self.tile_shape[1]) if self.tile_shape[1] else 1
        return across * -(-height // self.chunk_lines)


class _Cursor:
    """A position in bytes, from which values are read."""

    def __init__(self, data: bytes, path: str) -> None:
        self._data = data
        self._path = path
        self.at = 0

    def take(self, size: int) -> bytes:
        taken = self._data[self.at : self.at + size]
        if size < 0 or len(taken) < size:
            raise _damaged("its header is incomplete", self._path)
        self.at += size
        return taken

    def take_name(self) -> bytes:
        """Take a name and the zero after it. The empty name ends a list."""
        end = self._data.find(b"\0", self.at, self.at + _LONGEST_NAME + 1)
        if end < 0:
            raise _damaged("its header is incomplete", self._path)
        return self.take(end + 1 - self.at)[:-1]

    def take_int(self) -> int:
        return int.from_bytes(self.take(4), "little", signed=True)


def _damaged(problem: str, path: str) -> SampleError:
    return SampleError(f"the cryptomatte is truncated or damaged: {problem}", path)


def read_header(data: bytes, path: str) -> tuple[ExrPart, ...]:
    """Read the headers of all parts. Of the file, they are all that `data` needs to hold.

    Raises
    ------
    SampleError
        If it is not an OpenEXR file, or its header is damaged.
    """
    cursor = _Cursor(data, path)
    if cursor.take(4) != MAGIC:
        raise SampleError("the cryptomatte is not an OpenEXR file", path)
    flags = cursor.take_int()
    parts: list[ExrPart] = []
    while attributes := _take_attributes(cursor, path):
        if len(parts) == limits.EXR_PARTS:
            raise _damaged(f"it has more than {limits.EXR_PARTS} parts", path)
        parts.append(_part(attributes, flags, cursor.at, path))
        if not flags & _MULTI_PART:
            break
    if not parts:
        raise _damaged("its header is empty", path)
    return tuple(parts)


def _take_attributes(cursor: _Cursor, path: str) -> dict[bytes, Attribute]:
    attributes: dict[bytes, Attribute] = {}
    while name := cursor.take_name():
        if name in attributes or len(attributes) == _MOST_ATTRIBUTES:
            raise _damaged("its header has an attribute twice, or too many", path)
        attributes[name] = cursor.take_name(), cursor.take(cursor.take_int())
    return attributes


def _part(attributes: dict[bytes, Attribute], flags: int, end: int, path: str) -> ExrPart:
    _, kind = attributes.get(b"type", (b"", b""))
    compression, lines = _compression(attributes, path)
    tile_shape = _tile_shape(attributes, path)
    is_plain = (
        tile_shape == (0, 0)
        and not flags & (_TILED | _DEEP | _MULTI_PART)
        and kind in (b"", b"scanlineimage")
    )
    return ExrPart(
        attributes,
        data_window=_window(attributes, b"dataWindow", path),
        display_window=_window(attributes, b"displayWindow", path),
        channels=_channels(_value(attributes, b"channels", b"chlist", path), path),
        compression=compression,
        chunk_lines=tile_shape[0] or lines,
        is_deep=kind.startswith(b"deep") or flags & (_DEEP | _MULTI_PART) == _DEEP,
        tile_shape=tile_shape,
        offsets_at=end if is_plain else 0,
    )


def _compression(attributes: dict[bytes, Attribute], path: str) -> tuple[str, int]:
    """Return the name of the compression, and how many lines it compresses together."""
    value = _value(attributes, b"compression", b"compression", path)
    if len(value) != 1:
        raise _damaged("its header has no compression", path)
    number = value[0]
    if number >= len(_COMPRESSIONS):
        raise SampleError(f"the cryptomatte has an unknown compression: {number}", path)
    return _COMPRESSIONS[number]


def _value(
    attributes: dict[bytes, Attribute], name: bytes, kind: bytes, path: str, size: int | None = None
) -> bytes:
    found_kind, value = attributes.get(name, (b"", b""))
    if found_kind != kind or size not in (None, len(value)):
        raise _damaged(f"its header has no {name.decode()}", path)
    return value


def _window(attributes: dict[bytes, Attribute], name: bytes, path: str) -> Window:
    return Window(*struct.unpack("<4i", _value(attributes, name, b"box2i", path, 16)))


def _tile_shape(attributes: dict[bytes, Attribute], path: str) -> tuple[int, int]:
    if b"tiles" not in attributes:
        return 0, 0
    width, height = struct.unpack_from("<2I", _value(attributes, b"tiles", b"tiledesc", path, 9))
    return height, width


def _channels(value: bytes, path: str) -> dict[str, Channel]:
    cursor = _Cursor(value, path)
    channels = {}
    while name := cursor.take_name():
        pixel_type, *sampling = struct.unpack("<i4x2i", cursor.take(16))
        channels[name.decode(errors="surrogateescape")] = Channel(pixel_type, tuple(sampling))
    return channels
