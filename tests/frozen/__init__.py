"""Outputs of released versions, which every later one must read."""

from __future__ import annotations

import shutil
from pathlib import Path

__all__ = ["damaged_outputs"]


def damaged_outputs(folder: Path) -> None:
    """Copy outputs of version 0.1.0 to ``folder/out``, and damage the metadata of a row."""
    for path in (Path(__file__).parent / "0.1.0").glob("out-*"):
        shutil.copy(path, folder)
    path = folder / "out-metadata.pickle"
    path.write_bytes(path.read_bytes().replace(b"XYWH_ABS", b"XYWH_AB\xff", 1))
