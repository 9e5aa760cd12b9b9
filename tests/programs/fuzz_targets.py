"""What `fuzz` feeds to each reader of foreign bytes, and how it changes what it feeds.

A change keeps what a reader checks first: checksums, sizes, offsets. Else hardly any input would
come past them. Readers of files read them from the current folder.
"""

from __future__ import annotations

import json
import os
import pickle
import random
import re
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from limbo_compress.array_kinds import KINDS
from limbo_compress.dataset.untrusted_pickle import DAMAGED, load_list
from limbo_compress.errors import LimboError
from limbo_compress.formats import columns, npy, shard_record
from limbo_compress.formats.filestate import FileState
from limbo_compress.formats.index import Entry, damage, read_index
from limbo_compress.formats.pickling import abridge, fragment, load_fragment
from limbo_compress.imaging import scanlines
from limbo_compress.imaging.cryptomatte import label_id, mattes, open_cryptomatte
from limbo_compress.imaging.decode import decode
from limbo_compress.imaging.image import convert
from limbo_compress.options import Options
from limbo_compress.output.record import read_record
from limbo_compress.samples.metadata_json import parse
from limbo_compress.samples.schema import cryptomatte_section, strip_regions
from tests import exrs, jpegs, pickles, pictures

# Changes bytes somehow, to at most this many.
Change = Callable[[bytes, int], bytes]

_SAMPLES = Path(__file__).parents[1] / "reference" / "samples"
_OPTIONS = Options((".",), "out", images=True, image_size=(8, 6), max_pixels=10**6)
_METADATA = {
    "image": {"filename": "x.png", "text": "\ud800"},
    "annotations": [
        {"category": "30B", "contours": [[[1, 2], [3.5, 4], [70000, 6]]], "area": 2**70},
        {"category": "48G", "flags": [True, False, None, -1]},
    ],
    "synthetic": {"cryptomatte": {"filename": "x.exr", "manifest": ["a", "b"]}},
}
# A value in JSON, unless it is a list or an object, and others to put in its place.
_SCALAR = re.compile(rb'"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*|true|false|null')
_VALUES = (
    *(b"null", b"-1", b"0", b"1e999", b"NaN", b"-Infinity", b"true", b"[]", b"{}", b"[[]]"),
    *(b"9" * 25, b"9" * 5000, b'""', b'"../x"', b'"\\ud800"', b'{"a": [1]}', b"[" * 2000),
)


def _mutate(choice: random.Random, data: bytes, change: Change) -> bytes:
    return change(data, len(data) + 100)


class WrongResultError(Exception):
    """A reader gave a result, but not the right one."""


@dataclass(frozen=True)
class Target:
    """A reader, and what to feed to it.

    Attributes
    ----------
    read : callable
        Reads bytes; returns whether they could be read, or raises one of `errors`.
    seeds : sequence of bytes
        Inputs to begin with.
    errors : tuple of type
        What the reader may raise.
    mutate : callable
        ``mutate(random, data, change)`` changes an input with `change`, and keeps checksums.
    """

    read: Callable[[bytes], bool]
    seeds: Sequence[bytes]
    errors: tuple[type[Exception], ...] = (LimboError,)
    mutate: Callable[[random.Random, bytes, Change], bytes] = _mutate


@contextmanager
def _stream(data: bytes) -> Iterator[BinaryIO]:
    with open(os.memfd_create("fuzz"), "w+b", buffering=0) as file:
        file.write(data)
        file.seek(0)
        with open(file.fileno(), "rb", closefd=False) as stream:
            yield stream


def _same_size(data: bytes, change: Change) -> bytes:
    return change(data, len(data))[: len(data)].ljust(len(data), b"\0")


def _mutate_json(choice: random.Random, data: bytes, change: Change) -> bytes:
    """Put another value in the place of one, or change any bytes."""
    places = [match.span() for match in _SCALAR.finditer(data)]
    if not places or choice.random() < 0.4:
        return change(data, len(data) + 100)
    start, end = choice.choice(places)
    value = choice.choice(_VALUES) if choice.random() < 0.7 else change(data[start:end], 100)
    return data[:start] + value + data[end:]


def _read_image(data: bytes) -> bool:
    convert(data, "x", _OPTIONS, np.empty((6, 8, 3), np.float16))
    return True


def _read_png(data: bytes) -> bool:
    _read_image(data)
    pixels = decode(data, "x")
    if not np.array_equal(pixels, decode(data, "x", "opencv")):
        raise WrongResultError("OpenCV decodes other pixels")
    return True


def _png_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    chunks, at = [], 8
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    return chunks


def _mutate_png(choice: random.Random, data: bytes, change: Change) -> bytes:
    """Change a chunk, or what is deflated in it, or where chunks are."""
    chunks = _png_chunks(data)
    if not chunks or choice.random() < 0.1:
        return change(data, len(data) + 100)
    at = choice.randrange(len(chunks))
    kind, contents = chunks[at]
    how = choice.random()
    if how < 0.1:
        kind = choice.choice((b"tRNS", b"PLTE", b"iCCP", b"acTL", b"gAMA", b"IDAT", b"bKGD"))
        chunks.insert(at, (kind, change(contents[:100], 100)))
    elif how < 0.2:
        del chunks[at]
    elif kind == b"IDAT" and how < 0.8:
        try:
            lines = zlib.decompressobj().decompress(contents, 1 << 20)
        except zlib.error:
            lines = contents
        chunks[at] = kind, zlib.compress(_same_size(lines, change), 1)
    else:
        chunks[at] = kind, change(contents, len(contents) + 20)
    return data[:8] + b"".join(pictures.chunk(*chunk) for chunk in chunks)


def _pngs() -> list[bytes]:
    pixels = np.arange(12 * 25, dtype=np.uint8).reshape(12, 25).tobytes()
    images = [pictures.picture(), pictures.picture_with_alpha()]
    return [
        *(path.read_bytes() for path in _SAMPLES.glob("*.png")),
        *(pictures.encoded(image.resize((8, 12))) for image in images),
        *(pictures.encoded(images[0].convert(mode)) for mode in ("L", "P", "1", "I;16")),
        pictures.png((8, 12), 8, 2, zlib.compress(pixels)),
    ]


def _jpegs() -> list[bytes]:
    values = np.arange(48, dtype=np.int64).reshape(4, 4, 3)
    return [
        *(path.read_bytes() for path in _SAMPLES.glob("*.jpg")),
        jpegs.ARITHMETIC,
        jpegs.ARITHMETIC_WITH_RESTARTS,
        *(jpegs.jpeg(values, frame, restart_rows=2) for frame in (0xC0, 0xC1, 0xC2, 0xC3)),
        pictures.encoded(pictures.picture(), "JPEG", progressive=True),
        pictures.encoded(pictures.picture().convert("CMYK"), "JPEG"),
    ]


def _read_exr(data: bytes) -> bool:
    found = _read_mattes(data)
    compiled, scanlines.compiled = scanlines.compiled, None  # type: ignore[assignment]
    try:
        if not np.array_equal(found, _read_mattes(data)):
            raise WrongResultError("OpenEXR reads other mattes")
    finally:
        scanlines.compiled = compiled
    return bool(np.isfinite(found).all())


def _read_mattes(data: bytes) -> NDArray[np.float64]:
    cryptomatte = open_cryptomatte(data, "x.exr", _OPTIONS.max_pixels)
    return np.array(list(mattes(cryptomatte, ("box", "b"), ["o", "."])))


def _exr_regions(data: bytes) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Where the values of attributes are, and the contents of chunks."""
    (flags,) = struct.unpack_from("<I", data, 4)
    several = bool(flags & 0x1000)
    values, at = [], 8
    while data[at]:
        while data[at]:
            at = data.index(b"\0", data.index(b"\0", at) + 1) + 1
            (size,) = struct.unpack_from("<I", data, at)
            values.append((at + 4, at + 4 + size))
            at += 4 + size
        at += 1
        if not several:
            break
    at += several
    (first,) = struct.unpack_from("<Q", data, at)
    offsets = struct.unpack_from(f"<{(first - at) // 8}Q", data, at)
    head = 12 if several else 8  # the number of the part, the line, the size
    ends = [*offsets[1:], len(data)]
    return values, [(start + head, end) for start, end in zip(offsets, ends, strict=True)]


def _mutate_exr(choice: random.Random, data: bytes, change: Change) -> bytes:
    """Change the contents of a chunk or the value of an attribute, and keep all sizes."""
    try:
        values, chunks = _exr_regions(data)
    except (struct.error, ValueError, IndexError, MemoryError):
        return change(data, len(data) + 100)
    how = choice.random()
    if how < 0.05:
        return change(data, len(data) + 100)
    start, end = choice.choice(chunks if how < 0.7 else values)
    if not 0 <= start < end <= len(data):
        return _same_size(data, change)
    return data[:start] + _same_size(data[start:end], change) + data[end:]


def _exrs() -> list[bytes]:
    coverage = np.linspace(0, 1, 42, dtype="<f4").reshape(6, 7)
    planes = {
        b"crypto00.R": np.full((6, 7), label_id("box"), "<f4"),
        b"crypto00.G": coverage,
        b"crypto00.B": np.full((6, 7), label_id("b"), "<f4"),
        b"crypto00.A": coverage[::-1].astype("<f2"),
    }
    crypto = exrs.Part(planes)
    beauty = exrs.Part({b"R": coverage}, (), name=b"beauty")
    thumbnail = exrs.attribute(b"preview", b"preview", struct.pack("<II", 1, 1) + bytes(4))
    seeds = [
        exrs.exr(crypto),
        exrs.exr(crypto, beauty),
        exrs.exr(exrs.Part(planes, (exrs.NAMED, thumbnail))),
    ]
    channels = {name.decode(): plane for name, plane in planes.items()}
    floats = {name: plane.astype("<f4") for name, plane in channels.items()}
    compressions = ("NO", "RLE", "ZIPS", "ZIP", "PIZ", "B44", "HTJ2K32", "ZSTD")
    return (
        seeds
        + [
            exrs.written(channels, compression, is_tiled)
            for compression in compressions
            for is_tiled in (False, True)
        ]
        + [exrs.written(floats, compression) for compression in ("NO", "ZIPS", "ZIP")]
    )


def _read_json(data: bytes) -> bool:
    metadata = parse(data, "x.json")
    # Written, since NaN is not itself.
    if repr(metadata) != repr(json.loads(data)):
        raise WrongResultError("json reads other values")
    cryptomatte_section(metadata, "x.json")
    strip_regions(metadata, "x.json")
    return True


def _jsons() -> list[bytes]:
    text = json.dumps(_METADATA)
    return [
        *(path.read_bytes() for path in _SAMPLES.glob("*.json")),
        *(text.encode(encoding) for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32")),
        b'{"a": [NaN, Infinity, -0.0, 1e22, 12345678901234567890123, "\\ud83d\\ude00"]}',
    ]


def _read_index(data: bytes) -> bool:
    with _stream(data) as stream:
        index = read_index(stream.fileno())
    if index is None:
        return False
    for row in range(len(index)):
        assert len(index.path(row)) < 1 << 20
        assert index.entry(row).categories is not None
        assert len(index.sources(row)) < 1 << 20
        [(index.row_checksums(name) or ())[row] for name in index.array_names]
    if facts := index.facts:
        for column in range(len(facts.columns)):
            with damage():
                columns.as_numpy(facts.encoded(column))
    return True


_TRAILER = struct.Struct("<QI8sI")


def _mutate_index(choice: random.Random, data: bytes, change: Change) -> bytes:
    """Change the index, and make its checksums right again."""
    end = len(data) - _TRAILER.size
    size, _, magic, version = _TRAILER.unpack_from(data, end) if end > 0 else (0, 0, b"", 0)
    if choice.random() < 0.1 or not 0 < size <= end:
        return change(data, len(data) + 100)
    begin = end - size
    sections, directory = data[:begin], data[begin:end]
    if version == 2 and choice.random() < 0.8:
        sections, directory = _mutate_section(choice, sections, directory, change)
    else:
        directory = _mutate_part_of(choice, directory, change)
    trailer = _TRAILER.pack(len(directory), zlib.crc32(directory), magic, version)
    return sections + directory + trailer


def _mutate_section(
    choice: random.Random, sections: bytes, directory: bytes, change: Change
) -> tuple[bytes, bytes]:
    """Change one of the sections, and the directory as far as it has to know."""
    try:
        found = json.loads(directory)
        number = choice.randrange(len(found))
        _, _, at, size, _ = found[number]
        part = _mutate_part_of(choice, sections[at : at + size], change)
        for section in found[number + 1 :]:
            section[2] += len(part) - size
        found[number][3:] = [len(part), zlib.crc32(part)]
    except (ValueError, TypeError, IndexError, RecursionError):  # it was changed before
        return sections, change(directory, len(directory) + 100)
    return sections[:at] + part + sections[at + size :], json.dumps(found).encode()


def _mutate_part_of(choice: random.Random, body: bytes, change: Change) -> bytes:
    """Change all of it, one of its numbers, or some characters of a name."""
    if not body or choice.random() < 0.3:
        return change(body, len(body) + 100)
    at = choice.randrange(len(body))
    part = body[at : at + choice.choice((1, 4, 8))]
    small = choice.randrange(8).to_bytes(len(part), "little")
    part = small if choice.random() < 0.5 else _same_size(part, change)
    return body[:at] + part + body[at + len(part) :]


def _indexes() -> list[bytes]:
    paths = [f"/data/{number // 2}/sub/{number}.json" for number in range(5)]
    samples = [
        {
            "annotations": [{"category": c} for c in "abc\ud800"[: number + 1]],
            "synthetic": {"parameters": dict([("/a", 1.5), ("/b", "x"), ("/c", 1 << 70)][:number])},
        }
        for number in range(5)
    ]
    old = _SAMPLES.parents[1] / "frozen" / "0.1.0" / "out-metadata.pickle"
    return [old.read_bytes(), *(pickles.indexed(samples[:count], paths) for count in (0, 1, 5))]


def _read_pickle(data: bytes) -> bool:
    """Read a fragment, whole and abridged, or a list."""
    if not data.startswith(b"\x80"):
        load_fragment(data)
        load_fragment(abridge(data))
        return True
    with _stream(data) as stream:
        load_list(stream)
    return True


def _pickles() -> list[bytes]:
    samples: list[dict[str, Any]] = [_METADATA, {"a": [[1, 2.5]] * 3, "b": {}}, {}]
    lists = [pickle.dumps(samples, protocol) for protocol in (2, 3, 4, 5)]
    return [*lists, *(fragment(sample, "x") for sample in samples)]


_PART = shard_record.ShardRecord(
    3,
    6,
    "abc",
    entries=(
        Entry(
            *(5, zlib.crc32(b"aaaaa"), ("30B",), ("30B",), (("30B", (1.0, 2.0, 3.0, 4.0)),)),
            facts=(("width", 720), ("synthetic", True), ("/a", 1.5), ("/b", "c"), ("/d", -1)),
        ),
        Entry(2, 7),
    ),
    checksums={"images": (5, 6)},
    failures=(shard_record.SampleIssue(4, "/x/4.json", "bad"),),
    warnings=(shard_record.SampleIssue(3, "/x/3.json", "odd"),),
    files=((FileState("3.json", 7, 10**18, 9),), (FileState("5.json", 8, 1, 9),)),
    edge_bytes=4,
    hits={"big": 1},
    labels=("a", "b"),
    is_synced=False,
)


def _read_part(data: bytes) -> bool:
    """Read a shard record all the ways that it is read."""
    folder = "."
    Path(_PART.path(folder)).write_bytes(data)
    found = list(shard_record.read_shard_records(folder))
    list(shard_record.read_failures(folder))
    for part in found:
        for states in part.files:
            [state.holds(folder) for state in states]
        shard_record.read_edges(folder, part)
        shard_record.has_its_metadata(folder, part)
    return bool(found)


def _mutate_part(choice: random.Random, data: bytes, change: Change) -> bytes:
    """Change the record, and make its checksum right again."""
    line, newline, rest = data.partition(b"\n")
    if not newline or choice.random() < 0.1:
        return change(data, len(data) + 100)
    record = _mutate_json(choice, line[9:], change).replace(b"\n", b" ")
    return b"%08x %b\n%b" % (zlib.crc32(record), record, rest)


def _part_files() -> list[bytes]:
    shard_record.write_shard_record(".", _PART, b"aaaaabb", b"edge")
    return [Path(_PART.path(".")).read_bytes()]


def _read_record(data: bytes) -> bool:
    Path("job-1.json").write_bytes(data)
    return bool(read_record("."))


def _records() -> list[bytes]:
    record: dict[str, Any] = {"format": 7, "image_size": [8, 6], "masks": [["big", "^48"]]}
    record |= {"decoders": {"numpy": "2.0"}, "runs": ["a", "b"], "late_writers": False}
    return [json.dumps(record).encode()]


def _read_npy(data: bytes) -> bool:
    with _stream(data) as stream:
        array = npy.read_header(stream)
        if any(map(array.is_of, KINDS)):
            array.check_size(stream)
    return True


def _npys() -> list[bytes]:
    arrays = [npy.ArrayFile("x", rows, (3, 2), kind) for kind in KINDS for rows in range(3)]
    return [array.header + bytes(array.rows * array.row_bytes) for array in arrays]


# By name: a function makes the target, since making all seeds takes a while.
TARGETS: dict[str, Callable[[], Target]] = {
    "png": lambda: Target(_read_png, _pngs(), mutate=_mutate_png),
    "jpeg": lambda: Target(_read_image, _jpegs()),
    "exr": lambda: Target(_read_exr, _exrs(), mutate=_mutate_exr),
    "json": lambda: Target(_read_json, _jsons(), mutate=_mutate_json),
    "index": lambda: Target(_read_index, _indexes(), (OSError, ValueError), _mutate_index),
    "pickle": lambda: Target(_read_pickle, _pickles(), DAMAGED),
    "shard record": lambda: Target(_read_part, _part_files(), mutate=_mutate_part),
    "record": lambda: Target(_read_record, _records(), mutate=_mutate_json),
    "npy": lambda: Target(_read_npy, _npys(), (OSError, ValueError)),
}
