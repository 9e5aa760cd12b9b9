"""Shard records: files that say that a shard is done, with its pickled metadata.

Such a file has one line, the CRC-32 of the record and the record as JSON, followed by the edges of
its rows (see `limbo_compress.output.row_writer`) and the fragments of its pickled metadata (see
`limbo_compress.formats.pickling`). It appears by rename. Nothing else tells that a shard is done.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import Any

from .. import deflate
from ..errors import OutputError, shown
from ..oserrors import reading, writing
from ..renaming import move
from .facts import check_fact
from .filestate import FileState, open_regular
from .index import Entry

__all__ = [
    "SampleIssue",
    "ShardRecord",
    "has_its_metadata",
    "read_edges",
    "read_failures",
    "read_issues",
    "read_shard_records",
    "rows_of",
    "run_of",
    "write_shard_record",
]

_NAME = re.compile(r"rows-(\d{9})-(\d{9})-(\w+)\.part")


@dataclass(frozen=True)
class SampleIssue:
    """Something wrong with one sample: why it failed, or a warning.

    Attributes
    ----------
    row : int
        Its row, or the one that it would have without the failures.
    path : str
        Its metadata file.
    reason : str
        What is wrong.
    """

    row: int
    path: str
    reason: str

    def __str__(self) -> str:
        return f"{shown(self.path)}: {self.reason}"


@dataclass(frozen=True)
class ShardRecord:
    """What is known of a shard that is done.

    Attributes
    ----------
    start, stop : int
        Its half-open range of rows.
    run : str
        The random name of the run that did it.
    entries : tuple of Entry
        What the index will say about the pickled metadata of each good sample, in the order of the
        rows; empty if no metadata is asked for.
    checksums : dict of str to tuple of int
        For each array, the CRC-32 of each good row, in order, by which a later run recognizes them.
    failures : tuple of SampleIssue
        Its bad samples; they have no metadata, and their rows mean nothing.
    warnings : tuple of SampleIssue
        What libraries said about samples that they decoded all the same.
    files : tuple of tuple of FileState
        How the files of each good sample were when they were read, in the order of the rows.
    edge_bytes : int
        Length of the edges of its rows, of all arrays.
    hits : dict of str to int
        For each mask that covers anything, the number of good samples in which it does.
    labels : tuple of str
        If a mask has no hit, the labels of the good samples that are nearest to its pattern, as
        `nearest_names` chooses them; so a job whose shards all lack a hit can advise.
    is_synced : bool
        Whether all of it was on the disk when it was done, its rows included.
    copied : int
        How many of its rows were copied from older outputs.
    rotted : tuple of int
        The rows of older outputs that were not what was written, so they were made anew.
    """

    start: int
    stop: int
    run: str
    entries: tuple[Entry, ...] = ()
    checksums: dict[str, tuple[int, ...]] = field(default_factory=dict)
    failures: tuple[SampleIssue, ...] = ()
    warnings: tuple[SampleIssue, ...] = ()
    files: tuple[tuple[FileState, ...], ...] = ()
    edge_bytes: int = 0
    hits: dict[str, int] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    is_synced: bool = True
    copied: int = 0
    rotted: tuple[int, ...] = ()

    @property
    def rows(self) -> range:
        return range(self.start, self.stop)

    @property
    def metadata_bytes(self) -> int:
        """Length of its pickled metadata."""
        return sum(entry.size for entry in self.entries)

    def path(self, folder: str) -> str:
        """Path of this shard record in a work folder."""
        return os.path.join(folder, f"rows-{self.start:09d}-{self.stop:09d}-{self.run}.part")


def write_shard_record(
    folder: str, record: ShardRecord, metadata: bytes = b"", edges: bytes = b""
) -> None:
    """Write a shard record under a name of its own, then give it the final one.

    It is on the disk when this returns, if `record.is_synced` says so.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    path = record.path(folder)
    draft = f"{path}.{os.getpid()}"
    try:
        with writing(path):
            with open(draft, "wb") as stream:
                # Only the issues need `asdict`, which would copy all the rest.
                line = json.dumps(vars(record), default=asdict).encode()
                stream.write(b"%08x %b\n" % (deflate.crc32(line), line))
                stream.write(edges)
                stream.write(metadata)
                if record.is_synced:
                    stream.flush()
                    os.fsync(stream.fileno())
            move(draft, path)
    finally:
        with suppress(OSError):  # it has its final name
            os.unlink(draft)


def rows_of(name: str) -> range | None:
    """Rows of a shard record in a work folder, by its name; None if it is another file."""
    match = _NAME.fullmatch(name)
    return range(int(match[1]), int(match[2])) if match else None


def run_of(name: str) -> str | None:
    """Random name of the run that wrote a shard record, by its name; None if it is another file."""
    match = _NAME.fullmatch(name)
    return match[3] if match else None


def read_shard_records(folder: str) -> Iterator[ShardRecord]:
    """Read the records of an earlier run in the order of their rows.

    Damaged ones are left out, and those whose shard record is longer or shorter than they say.

    Raises
    ------
    OutputError
        If they cannot be read.
    """
    for name in sorted(filter(rows_of, os.listdir(folder))):
        path = os.path.join(folder, name)
        with reading(path), open_regular(path) as stream:
            line = stream.readline()
            record = _parse(line)
            size = os.fstat(stream.fileno()).st_size
        if record is None or record.path(folder) != path:
            continue
        if size == len(line) + record.edge_bytes + record.metadata_bytes:
            yield record


def read_failures(folder: str) -> Iterator[SampleIssue]:
    """Read the bad samples so far, each once, in the order of their rows.

    Raises
    ------
    OSError
        If a shard record cannot be read.
    """
    rows = set()
    for name in sorted(filter(rows_of, os.listdir(folder))):
        with open_regular(os.path.join(folder, name)) as stream:
            line = stream.readline()
        # Parsing all of a million samples would take 16 s.
        record = None if b'"failures": []' in line else _parse(line)
        for issue in record.failures if record else ():
            if issue.row not in rows:  # the shard was divided and done again
                rows.add(issue.row)
                yield issue


def read_edges(folder: str, record: ShardRecord) -> bytes:
    """Read the edges of the rows of a record.

    Raises
    ------
    OutputError
        If the shard record cannot be read, or has become shorter.
    """
    return _read(folder, record, record.metadata_bytes + record.edge_bytes, record.edge_bytes)


def has_its_metadata(folder: str, record: ShardRecord) -> bool:
    """Whether the pickled metadata in a shard record are those of which its record has checksums.

    Raises
    ------
    OutputError
        If the shard record cannot be read, or has become shorter.
    """
    metadata = memoryview(_read(folder, record, record.metadata_bytes, record.metadata_bytes))
    start = 0
    for entry in record.entries:
        if deflate.crc32(metadata[start : start + entry.size]) != entry.checksum:
            return False
        start += entry.size
    return True


def _read(folder: str, record: ShardRecord, from_end: int, size: int) -> bytes:
    """Read some bytes of a shard record that begin so far from its end."""
    path = record.path(folder)
    with reading(path), open_regular(path) as stream:
        stream.seek(max(0, stream.seek(0, os.SEEK_END) - from_end))
        data = stream.read(size)
    if len(data) != size:
        raise OutputError("it is shorter than what was written", path)
    return data


def _parse(line: bytes) -> ShardRecord | None:
    """Read a record; None if it is damaged, or was not written by `write_shard_record`."""
    checksum, _, text = line.rstrip(b"\n").partition(b" ")
    if checksum != b"%08x" % deflate.crc32(text):
        return None
    try:
        return _from_json(json.loads(text))
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return None


def _from_json(found: dict[str, Any]) -> ShardRecord:
    """Make a record of what JSON holds; anything but the right types raises an exception."""
    return ShardRecord(
        start=_count(found["start"]),
        stop=_count(found["stop"]),
        run=_text(found["run"]),
        entries=tuple(_entry(*values) for values in found["entries"]),
        checksums={name: tuple(map(_count, each)) for name, each in found["checksums"].items()},
        failures=read_issues(found["failures"]),
        warnings=read_issues(found["warnings"]),
        files=tuple(
            tuple(
                FileState(_text(name), _count(size), _count(time, -1 << 63), _count(checksum))
                for name, size, time, checksum in states
            )
            for states in found["files"]
        ),
        edge_bytes=_count(found["edge_bytes"]),
        hits=_counts(found["hits"]),
        # Interned, since a million samples have few distinct labels.
        labels=tuple(map(sys.intern, found["labels"])),
        is_synced=found["is_synced"] is True,
        copied=_count(found["copied"]),
        rotted=tuple(map(_count, found["rotted"])),
    )


def _entry(
    size: Any, checksum: Any, categories: Any, boxed: Any, boxes: Any, is_lossy: Any, facts: Any
) -> Entry:
    return Entry(
        _count(size),
        _count(checksum),
        _shared(tuple(map(_text, categories))),
        _shared(tuple(map(_text, boxed))),
        None if boxes is None else tuple(_box(*box) for box in boxes),
        is_lossy is True,
        tuple(check_fact(*fact) for fact in facts),
    )


def _box(category: Any, corners: Any) -> tuple[str | None, tuple[float, ...]]:
    left, top, right, bottom = map(float, corners)
    return category if category is None else _text(category), (left, top, right, bottom)


def _count(value: Any, least: int = 0) -> int:
    if type(value) is not int or not least <= value < 1 << 63:
        raise ValueError(value)
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def _counts(values: Any) -> dict[str, int]:
    return {name: _count(value) for name, value in values.items()}


def read_issues(records: Any) -> tuple[SampleIssue, ...]:
    """Make issues of what JSON holds.

    Raises
    ------
    ValueError, TypeError, LookupError
        If it holds something else.
    """
    return tuple(
        SampleIssue(_count(each["row"]), _text(each["path"]), _text(each["reason"]))
        for each in records
    )


@lru_cache(1 << 10)
def _shared(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return one object for equal names: a million samples have few distinct sets of them."""
    return names
