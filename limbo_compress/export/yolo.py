"""YOLO: ``images/``, ``labels/*.txt`` with normalized boxes, and ``data.yaml``."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

import yaml

from .rows import Row

__all__ = ["write"]


def write(folder: str, rows: Iterable[Row], labels: Sequence[str], parts: Sequence[str]) -> None:
    """Write rows for the trainers of the YOLO family.

    Parameters
    ----------
    folder : str
        An empty folder.
    rows : iterable of Row
    labels : sequence of str
        The classes, in the order of their numbers.
    parts : sequence of str
        Each gets folders of its own; a single one without a name serves for training and
        validation.
    """
    for kind in ("images", "labels"):
        for part in parts:
            os.makedirs(os.path.join(folder, kind, part))
    numbers = {label: number for number, label in enumerate(labels)}
    for row in rows:
        assert row.picture is not None
        row.picture.write(os.path.join(folder, "images", row.part, row.file_name))
        path = os.path.join(folder, "labels", row.part, f"{row.name}.txt")
        with open(path, "x", encoding="ascii") as stream:
            stream.writelines(_lines(row, numbers))
    _write_yaml(os.path.join(folder, "data.yaml"), labels, parts)


def _lines(row: Row, numbers: dict[str, int]) -> Iterable[str]:
    """Write the class of each box, its centre and its size, as fractions of the picture."""
    picture_width, picture_height = row.size
    for label, (left, top, width, height), _ in row.objects:
        x, y = (left + width / 2) / picture_width, (top + height / 2) / picture_height
        size = f"{width / picture_width:.6f} {height / picture_height:.6f}"
        yield f"{numbers[label]} {x:.6f} {y:.6f} {size}\n"


def _write_yaml(path: str, classes: Sequence[str], parts: Sequence[str]) -> None:
    """Write what trainers read first. Paths without `path` are relative to this file."""
    data = {
        "train": os.path.join("images", parts[0]).rstrip(os.sep),
        "val": os.path.join("images", parts[-1]).rstrip(os.sep),
        "nc": len(classes),
        "names": dict(enumerate(classes)),
    }
    with open(path, "x", encoding="utf-8") as stream:
        yaml.safe_dump(data, stream, allow_unicode=True, sort_keys=False)
