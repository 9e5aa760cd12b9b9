"""The headers of an OpenEXR file, and one of its parts as a file of its own.

OpenEXR's Python bindings crash on some valid headers, such as those with a thumbnail or a name
that is not UTF-8, and decode the first part only. So the headers are read here, and OpenEXR is only
asked for channels that exist.

The format is "OpenEXR File Layout", in the documentation of OpenEXR.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from ..errors import SampleError

__all__ = ["FLOAT", "HALF", "Channel", "Header", "Part", "Window", "extract_part", "read_header"]

_MAGIC = b"\x76\x2f\x31\x01"
_VERSION = 2
_TILED, _LONG_NAMES, _DEEP, _MULTI_PART = 0x200, 0x400, 0x800, 0x1000
_LONGEST_NAME = 255
# Per part. Real files have some dozens; a damaged one of a gigabyte could have 100 million.
_MOST_ATTRIBUTES = 100_000
# What a part needs to be decoded.
_NEEDED = (
    b"channels",
    b"compression",
    b"dataWindow",
    b"displayWindow",
    b"lineOrder",
    b"pixelAspectRatio",
    b"screenWindowCenter",
    b"screenWindowWidth",
    b"tiles",
)
# Pixel types.
HALF, FLOAT = 1, 2

Attribute = tuple[bytes, bytes]  # type and value


@dataclass(frozen=True)
class Window:
    """A rectangle of pixels; the last column and row belong to it."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return self.bottom - self.top + 1, self.right - self.left + 1


@dataclass(frozen=True)
class Channel:
    """The pixel type of a channel, and its distance between values: in columns and rows."""

    pixel_type: int
    sampling: tuple[int, int]


@dataclass(frozen=True)
class Part:
    """A part of a file: an image of its own. Most files have one.

    Attributes
    ----------
    attributes : dict of bytes to (bytes, bytes)
        The type and the value of each attribute, as they are stored.
    data_window, display_window : Window
        What is stored, and the whole image.
    channels : dict of str to Channel
        By name. What is not UTF-8 in a name is escaped with surrogates.
    is_deep : bool
        Whether its pixels have several samples each.
    tile_shape : (int, int)
        Height and width of a tile; (0, 0) if there are none.
    """

    attributes: dict[bytes, Attribute]
    data_window: Window
    display_window: Window
    channels: dict[str, Channel]
    is_deep: bool
    tile_shape: tuple[int, int]


@dataclass(frozen=True)
class Header:
    """Everything before the offset tables.

    Attributes
    ----------
    flags : int
        The version field.
    parts : tuple of Part
    size : int
        In bytes.
    """

    flags: int
    parts: tuple[Part, ...]
    size: int

    @property
    def is_multi_part(self) -> bool:
        return bool(self.flags & _MULTI_PART)


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


def read_header(data: bytes, path: str) -> Header:
    """Read the headers of all parts.

    Parameters
    ----------
    data : bytes
        The whole file.
    path : str
        Its path, for errors.

    Raises
    ------
    SampleError
        If it is not an OpenEXR file, or its header is damaged.
    """
    cursor = _Cursor(data, path)
    if cursor.take(4) != _MAGIC:
        raise SampleError("the cryptomatte is not an OpenEXR file", path)
    flags = cursor.take_int()
    parts = []
    while attributes := _take_attributes(cursor, path):
        parts.append(_part(attributes, flags, path))
        if not flags & _MULTI_PART:
            break
    if not parts:
        raise _damaged("its header is empty", path)
    return Header(flags, tuple(parts), cursor.at)


def _take_attributes(cursor: _Cursor, path: str) -> dict[bytes, Attribute]:
    attributes: dict[bytes, Attribute] = {}
    while name := cursor.take_name():
        if name in attributes or len(attributes) == _MOST_ATTRIBUTES:
            raise _damaged("its header has an attribute twice, or too many", path)
        attributes[name] = cursor.take_name(), cursor.take(cursor.take_int())
    return attributes


def _part(attributes: dict[bytes, Attribute], flags: int, path: str) -> Part:
    _, kind = attributes.get(b"type", (b"", b""))
    return Part(
        attributes,
        data_window=_window(attributes, b"dataWindow", path),
        display_window=_window(attributes, b"displayWindow", path),
        channels=_channels(_value(attributes, b"channels", b"chlist", path), path),
        is_deep=kind.startswith(b"deep") or flags & (_DEEP | _MULTI_PART) == _DEEP,
        tile_shape=_tile_shape(attributes, path),
    )


def _value(attributes: dict[bytes, Attribute], name: bytes, kind: bytes, path: str) -> bytes:
    found_kind, value = attributes.get(name, (b"", b""))
    if found_kind != kind:
        raise _damaged(f"its header has no {name.decode()}", path)
    return value


def _window(attributes: dict[bytes, Attribute], name: bytes, path: str) -> Window:
    value = _value(attributes, name, b"box2i", path)
    if len(value) != 16:
        raise _damaged(f"its header has no {name.decode()}", path)
    return Window(*struct.unpack("<4i", value))


def _tile_shape(attributes: dict[bytes, Attribute], path: str) -> tuple[int, int]:
    if b"tiles" not in attributes:
        return 0, 0
    value = _value(attributes, b"tiles", b"tiledesc", path)
    if len(value) != 9:
        raise _damaged("its header has no tiles", path)
    width, height = struct.unpack_from("<2I", value)
    return height, width


def _channels(value: bytes, path: str) -> dict[str, Channel]:
    cursor = _Cursor(value, path)
    channels = {}
    while name := cursor.take_name():
        pixel_type, *sampling = struct.unpack("<i4x2i", cursor.take(16))
        channels[name.decode(errors="surrogateescape")] = Channel(pixel_type, tuple(sampling))
    return channels


def extract_part(data: bytes, header: Header, number: int, path: str) -> bytes:
    """Turn one part of a multi-part file into a file of its own, with the attributes it needs.

    Parameters
    ----------
    data : bytes
        The whole file.
    header : Header
    number : int
        Which part.
    path : str
        Its path, for errors.

    Raises
    ------
    SampleError
        If the part is truncated or damaged.
    """
    attributes = header.parts[number].attributes
    tiled = attributes.get(b"type", (b"", b""))[1].startswith(b"tiled")
    flags = _VERSION | header.flags & _LONG_NAMES | (_TILED if tiled else 0)
    kept = [(name, *attributes[name]) for name in _NEEDED if name in attributes]
    fields = [
        b"%b\0%b\0%b%b" % (name, kind, len(value).to_bytes(4, "little"), value)
        for name, kind, value in kept
    ]
    head = b"".join((_MAGIC, flags.to_bytes(4, "little"), *fields, b"\0"))
    chunks = _chunks(data, _offsets(data, header, number, path), number, tiled, path)
    table, at = [], len(head) + 8 * len(chunks)
    for chunk in chunks:
        table.append(at)
        at += len(chunk)
    return b"".join((head, struct.pack(f"<{len(table)}Q", *table), *chunks))


def _offsets(data: bytes, header: Header, number: int, path: str) -> tuple[int, ...]:
    """Return where the chunks of a part begin."""
    counts = [
        int.from_bytes(_value(part.attributes, b"chunkCount", b"int", path), "little", signed=True)
        for part in header.parts[: number + 1]
    ]
    start = header.size + 8 * sum(counts[:number])
    if min(counts) < 1 or start + 8 * counts[number] > len(data):
        raise _damaged("its offset table is incomplete", path)
    return struct.unpack_from(f"<{counts[number]}Q", data, start)


def _chunks(
    data: bytes, offsets: tuple[int, ...], number: int, tiled: bool, path: str
) -> list[memoryview]:
    """Return the chunks of a part, without the part's number at the beginning of each."""
    # The part, the coordinates of the chunk (y, or a tile's x, y and levels), and its size.
    leader = struct.Struct("<6i" if tiled else "<3i")
    view = memoryview(data)
    chunks = []
    for offset in offsets:
        if offset + leader.size > len(data):
            raise _damaged("a chunk is incomplete", path)
        part, *_, size = leader.unpack_from(data, offset)
        stop = offset + leader.size + size
        if part != number or size < 0 or stop > len(data):
            raise _damaged("a chunk is incomplete", path)
        chunks.append(view[offset + 4 : stop])
    if sum(map(len, chunks)) > len(data):
        raise _damaged("its chunks overlap", path)
    return chunks
