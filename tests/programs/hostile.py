"""Samples made to do harm, for ``make faults``."""

from __future__ import annotations

import os
import random
import stat
from collections.abc import Callable
from functools import partial
from itertools import cycle
from pathlib import Path

# Metadata files, by what is wrong with them. Some name a file that `_write_targets` makes.
_METADATA = {
    "empty": b"",
    "lists without end": b"[" * 100_000,
    "objects in objects": b'{"a":' * 990 + b"1" + b"}" * 990,
    "a number of 5000 digits": b'{"image": ' + b"9" * 5000 + b"}",
    "noise": random.Random(0).randbytes(300),
    "a path upwards": b'{"image": {"filename": "../../../etc/passwd"}}',
    "an absolute path": b'{"image": {"filename": "/etc/passwd"}}',
    "the parent folder": b'{"image": {"filename": ".."}}',
    "a null byte": rb'{"image": {"filename": "\u0000"}}',
    "a lone surrogate": rb'{"image": {"filename": "\ud800"}}',
    "a number for a name": b'{"image": {"filename": 7}}',
    "a pipe as image": b'{"image": {"filename": "pipe"}}',
    "a folder as image": b'{"image": {"filename": "folder"}}',
    "an image of 2**62 pixels": b'{"image": {"filename": "bomb.png"}}',
    "an image of 4 TiB": b'{"image": {"filename": "sparse"}}',
}
_BOMB = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\x7f\xff\xff\xff\x7f\xff\xff\xff\x08\x02\0\0\0"


def write_hostile_samples(folder: Path, count: int) -> None:
    """Write this many samples to a new folder, of every kind in turn; none can be read."""
    folder.mkdir()
    _write_targets(folder)
    makers: list[Callable[[Path], object]] = [
        os.mkfifo,
        lambda path: os.mknod(path, stat.S_IFSOCK | 0o600),
        lambda path: path.symlink_to(path),
        lambda path: path.symlink_to(f"/nowhere/{path.name}"),
        *(partial(_write, content) for content in _METADATA.values()),
    ]
    # Once only: all links to one file are one sample.
    (folder / "device.json").symlink_to("/dev/zero")
    for number, make in zip(range(count - 1), cycle(makers), strict=False):
        make(folder / f"{number}.json")


def _write_targets(folder: Path) -> None:
    """Make the files that metadata may name, and a loop of folders."""
    os.mkfifo(folder / "pipe")
    (folder / "folder").mkdir()
    (folder / "loop").symlink_to(folder)
    (folder / "bomb.png").write_bytes(_BOMB)
    with open(folder / "sparse", "wb") as stream:
        stream.truncate(1 << 42)


def _write(content: bytes, path: Path) -> None:
    path.write_bytes(content)
