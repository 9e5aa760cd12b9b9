"""Part-files: the record that a shard is done, with its pickled metadata.

A part-file is one line of JSON, the record, and after it the pieces of its pickled metadata (see
`limbo_compress.metadata`). It appears by rename, and nothing else tells that a shard is done.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field

from .errors import OutputError, output_errors

__all__ = ["Finding", "Join", "Part", "read_parts", "start_writing", "write_part"]

# Larger ones are returned to the system after each read, and cost their pages anew.
_CHUNK = 1 << 16
_SYNC_FILE_RANGE_WRITE = 2  # of Linux's fs.h
_NAME = re.compile(r"rows-(\d{9})-(\d{9})\.part")


@dataclass(frozen=True)
class Finding:
    """What was found about one sample.

    Attributes
    ----------
    row : int
        Its row, or the one that it would have had.
    path : str
        Its metadata file.
    text : str
        What is wrong.
    """

    row: int
    path: str
    text: str

    def __str__(self) -> str:
        return f"{self.path}: {self.text}"


@dataclass(frozen=True)
class Part:
    """What is known of a shard that is done.

    Attributes
    ----------
    start, stop : int
        Its half-open range of rows.
    metadata_bytes, metadata_checksum : int
        Length and CRC-32 of its pickled metadata.
    checksums : dict of str to int
        CRC-32 of its good rows, for each array: to know them again in a later run.
    failures : tuple of Finding
        Its bad samples; they have no metadata, and their rows mean nothing.
    warnings : tuple of Finding
        What libraries said about samples that they could decode all the same.
    """

    start: int
    stop: int
    metadata_bytes: int = 0
    metadata_checksum: int = 0
    checksums: dict[str, int] = field(default_factory=dict)
    failures: tuple[Finding, ...] = ()
    warnings: tuple[Finding, ...] = ()

    def path(self, folder: str) -> str:
        """Where this part-file stands in its folder."""
        return os.path.join(folder, f"rows-{self.start:09d}-{self.stop:09d}.part")


def write_part(folder: str, part: Part, metadata: bytes = b"") -> None:
    """Write a part-file under a name of its own, then give it the final one.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    path = part.path(folder)
    draft = f"{path}.{os.getpid()}"
    with open(draft, "wb") as stream:
        stream.write(json.dumps(asdict(part)).encode() + b"\n")
        stream.write(metadata)
    os.replace(draft, path)


def read_parts(folder: str) -> Iterator[Part]:
    """Read the parts of an earlier run in the order of their rows; damaged ones are left out.

    Raises
    ------
    OSError
        If they cannot be read.
    """
    for name in sorted(filter(_NAME.fullmatch, os.listdir(folder))):
        with open(os.path.join(folder, name), "rb") as stream:
            part = _parse(stream.readline())
            metadata = stream.read()
        if part is None or os.path.basename(part.path(folder)) != name:
            continue
        if (len(metadata), zlib.crc32(metadata)) == (part.metadata_bytes, part.metadata_checksum):
            yield part


def _parse(line: bytes) -> Part | None:
    try:
        record = json.loads(line)
        for name in ("failures", "warnings"):
            record[name] = tuple(Finding(**finding) for finding in record[name])
        return Part(**record)
    except (ValueError, TypeError, KeyError):
        return None


@dataclass(frozen=True)
class Join:
    """Where the pickled metadata of a part belongs in the file of all.

    Attributes
    ----------
    source, target : str
        The part-file and the file of all.
    offset, bytes : int
        Where the metadata begins in the target, and its length.
    """

    source: str
    target: str
    offset: int
    bytes: int

    def copy(self) -> None:
        """Copy it; done twice, it changes nothing.

        Raises
        ------
        OutputError
            If it cannot be written, or the part-file is not what it was.
        """
        with output_errors(self.target), open(self.target, "r+b") as target:
            with open(self.source, "rb") as source:
                source.seek(max(0, source.seek(0, os.SEEK_END) - self.bytes))
                target.seek(self.offset)
                shutil.copyfileobj(source, target, _CHUNK)
                target.flush()
                start_writing(target.fileno(), self.offset, self.bytes)
            if target.tell() != self.offset + self.bytes:
                raise OutputError("it is shorter than what was written", self.source)


def start_writing(file: int, offset: int, size: int) -> None:
    """Have a range of a file written to disk while other work goes on.

    Left alone, Linux begins when a tenth of the memory waits to be written, and most of a job's
    output would be waited for at its end. Where there is no sync_file_range(2), nothing happens.
    """
    import ctypes  # here, for the coordinator starts in less time without it

    start = getattr(ctypes.CDLL(None), "sync_file_range", None)
    if start is not None:
        start(file, ctypes.c_int64(offset), ctypes.c_int64(size), _SYNC_FILE_RANGE_WRITE)
