"""Part-files: the record that a shard is done, with its pickled metadata.

A part-file is one line of JSON, the record, and after it the bytes of its pickle group (see
`limbo_compress.metadata`). It appears by rename, so one that is there is whole.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass
from typing import BinaryIO

# Larger ones are returned to the system after each read, and cost their pages anew.
_CHUNK = 1 << 16

__all__ = ["Finding", "Part", "append_metadata", "write_part"]


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


@dataclass(frozen=True)
class Part:
    """What is known of a shard that is done.

    Attributes
    ----------
    start, stop : int
        Its half-open range of rows.
    metadata_bytes : int
        Length of its pickle group.
    failures : tuple of Finding
        Its bad samples; they have no metadata, and their rows mean nothing.
    warnings : tuple of Finding
        What libraries said about samples that they could decode all the same.
    """

    start: int
    stop: int
    metadata_bytes: int
    failures: tuple[Finding, ...] = ()
    warnings: tuple[Finding, ...] = ()

    def path(self, folder: str) -> str:
        """Where this part-file stands in its folder."""
        return os.path.join(folder, f"rows-{self.start:09d}-{self.stop:09d}.part")


def write_part(folder: str, part: Part, metadata: bytes) -> None:
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


def append_metadata(folder: str, part: Part, stream: BinaryIO) -> int:
    """Append the pickle group of a part to an open file; return how many bytes it had."""
    with open(part.path(folder), "rb") as source:
        source.readline()
        start = stream.tell()
        shutil.copyfileobj(source, stream, _CHUNK)
        return stream.tell() - start
