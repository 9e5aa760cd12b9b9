"""Part-files: the record that a shard is done, with its pickled metadata.

A part-file is one line of JSON, the record, followed by the fragments of its pickled metadata
(see `limbo_compress.formats.pickling`). It appears by rename and is the only record that a shard
is done.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field

from .. import deflate
from ..errors import output_errors, shown
from .filestate import FileState
from .index import Entry

__all__ = ["Part", "SampleIssue", "is_part", "read_parts", "write_part"]

# With larger buffers, malloc would return the memory and fault its pages in again each time.
_CHUNK = 1 << 16
_NAME = re.compile(r"rows-\d{9}-\d{9}-\w+\.part")


@dataclass(frozen=True)
class SampleIssue:
    """Something wrong with one sample: why it failed, or a warning.

    Attributes
    ----------
    row : int
        Its row, or the one that it would have without the failures.
    path : str
        Its metadata file.
    text : str
        What is wrong.
    """

    row: int
    path: str
    text: str

    def __str__(self) -> str:
        return f"{shown(self.path)}: {self.text}"


@dataclass(frozen=True)
class Part:
    """The record of a shard that is done.

    Attributes
    ----------
    start, stop : int
        Its half-open range of rows.
    run : str
        The random name of the run that did it.
    entries : tuple of Entry
        What the index will say about the pickled metadata of each good sample, in the order of the
        rows; empty if no metadata is asked for.
    checksums : dict of str to int
        For each array, the CRC-32 of its good rows, by which a later run recognises them.
    failures : tuple of SampleIssue
        Its bad samples; they have no metadata, and their rows mean nothing.
    warnings : tuple of SampleIssue
        What libraries said about samples that they decoded all the same.
    files : tuple of tuple of FileState
        How the files of each good sample were when they were read, in the order of the rows.
    """

    start: int
    stop: int
    run: str
    entries: tuple[Entry, ...] = ()
    checksums: dict[str, int] = field(default_factory=dict)
    failures: tuple[SampleIssue, ...] = ()
    warnings: tuple[SampleIssue, ...] = ()
    files: tuple[tuple[FileState, ...], ...] = ()

    @property
    def metadata_bytes(self) -> int:
        """Length of its pickled metadata."""
        return sum(entry.size for entry in self.entries)

    def path(self, folder: str) -> str:
        """Path of this part-file in a work folder."""
        return os.path.join(folder, f"rows-{self.start:09d}-{self.stop:09d}-{self.run}.part")


def write_part(folder: str, part: Part, metadata: bytes = b"") -> None:
    """Write a part-file under a name of its own, then give it the final one.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    path = part.path(folder)
    draft = f"{path}.{os.getpid()}"
    try:
        with output_errors(path):
            with open(draft, "wb") as stream:
                # Only the issues need `asdict`, which would copy all the rest.
                stream.write(json.dumps(vars(part), default=asdict).encode() + b"\n")
                stream.write(metadata)
            os.replace(draft, path)
    finally:
        with suppress(OSError):  # it has its final name
            os.unlink(draft)


def is_part(name: str) -> bool:
    """Whether a file in a work folder is a part-file."""
    return _NAME.fullmatch(name) is not None


def read_parts(folder: str) -> Iterator[Part]:
    """Read the parts of an earlier run in the order of their rows; damaged ones are left out.

    Raises
    ------
    OSError
        If they cannot be read.
    """
    for name in sorted(filter(is_part, os.listdir(folder))):
        with open(os.path.join(folder, name), "rb") as stream:
            part = _parse(stream.readline())
            metadata = stream.read()
        if part is None or os.path.basename(part.path(folder)) != name:
            continue
        if _is_whole(part, metadata):
            yield part


def _is_whole(part: Part, metadata: bytes) -> bool:
    """Whether the pickled metadata of a part is what its entries say."""
    start = 0
    for entry in part.entries:
        if deflate.crc32(metadata[start : start + entry.size]) != entry.checksum:
            return False
        start += entry.size
    return start == len(metadata)


def _parse(line: bytes) -> Part | None:
    try:
        record = json.loads(line)
        record["entries"] = tuple(_parse_entry(*entry) for entry in record["entries"])
        for name in ("failures", "warnings"):
            record[name] = tuple(SampleIssue(**issue) for issue in record[name])
        record["files"] = tuple(
            tuple(FileState(*state) for state in states) for states in record["files"]
        )
        return Part(**record)
    except (ValueError, TypeError, KeyError):
        return None


def _parse_entry(size: int, checksum: int, categories: list[str]) -> Entry:
    return Entry(int(size), int(checksum), tuple(map(str, categories)))
