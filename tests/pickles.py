"""Metadata files with an index, of any samples."""

from __future__ import annotations

import io
import json
import os
import struct
import zlib
from collections.abc import Callable, Sequence
from typing import Any

from limbo_compress.formats.filestate import FileState
from limbo_compress.formats.index import Entry
from limbo_compress.formats.index_2 import IndexWriter
from limbo_compress.formats.pickling import LIST_END, LIST_START, fragment


def indexed(
    samples: Sequence[dict[str, Any]],
    paths: Sequence[str] | None = None,
    change: Callable[[bytes], bytes] = bytes,
) -> bytes:
    """A metadata file of samples; `change` alters their fragments before they are indexed."""
    stream, writer = io.BytesIO(), IndexWriter()
    stream.write(LIST_START)
    for row, sample in enumerate(samples):
        path = paths[row] if paths else f"/data/{row // 1000:04}/{row}.json"
        data = change(fragment(sample, path))
        writer.add(path, Entry.of(data, sample), [FileState(os.path.basename(path), 1, 0, row)])
        stream.write(data)
    stream.write(LIST_END)
    writer.write(stream)
    return stream.getvalue()


def without_facts(data: bytes) -> bytes:
    """The same metadata file, with an index as it was before it had facts."""
    trailer = struct.Struct("<QI8sI")  # see docs/format.md
    size, _, magic, version = trailer.unpack(data[-trailer.size :])
    start = len(data) - trailer.size - size
    directory = json.loads(data[start : -trailer.size])
    kept = json.dumps([each for each in directory if not each[0].startswith("fact ")]).encode()
    return data[:start] + kept + trailer.pack(len(kept), zlib.crc32(kept), magic, version)
