"""YOLO: ``images/``, ``labels/*.txt`` with boxes or contours, and ``data.yaml``."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import yaml
from numpy.typing import NDArray

from .annotations import XYWH, Annotation, rectangle
from .exported_rows import Row
from .writers import Layout

__all__ = ["write"]


def write(folder: str, rows: Iterable[Row], layout: Layout) -> None:
    """Write rows for the trainers of the YOLO family.

    Each split has folders of its own. A single one without a name serves for training and
    validation.
    """
    for kind in ("images", "labels"):
        for split in layout.splits:
            os.makedirs(os.path.join(folder, kind, split))
    numbers = {label: number for number, label in enumerate(layout.classes)}
    for row in rows:
        assert row.picture is not None
        row.picture.write(os.path.join(folder, "images", row.split, row.file_name))
        path = os.path.join(folder, "labels", row.split, f"{row.name}.txt")
        with open(path, "x", encoding="ascii") as stream:
            for label, box, found in row.objects:
                values = _contour(found, box, row) if layout.with_contours else _box(box, row)
                words = [str(numbers[label]), *(f"{value:.6f}" for value in values)]
                stream.write(" ".join(words) + "\n")
    _write_yaml(os.path.join(folder, "data.yaml"), layout)


def _box(box: XYWH, row: Row) -> Iterator[float]:
    """Return the center and the size of a box, as fractions of the picture."""
    left, top, width, height = box
    values = np.array([left + width / 2, top + height / 2, width, height])
    return iter(values / (row.size * 2))


def _contour(found: Annotation, box: XYWH, row: Row) -> Iterator[float]:
    """Return the points of an object's contour or, without one, of its box, as fractions."""
    lines = [np.array(line).reshape(-1, 2) for line in found.polygons or [rectangle(box)]]
    return iter((_joined(lines) / row.size).ravel())


def _joined(lines: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Join lines to one polygon, by bridges without width between their closest points.

    A label of YOLO is one polygon. By the even-odd rule, by which trainers fill it, holes stay
    holes, and pieces stay apart.
    """
    joined = lines[0]
    for line in lines[1:]:
        distances = np.square(joined[:, None] - line).sum(axis=2)
        here, there = np.unravel_index(distances.argmin(), distances.shape)
        turned = np.roll(line, -there, axis=0)
        joined = np.concatenate([joined[: here + 1], turned, turned[:1], joined[here:]])
    return joined


def _write_yaml(path: str, layout: Layout) -> None:
    """Write what trainers read first. YOLOv5 finds the pictures only by an absolute path."""
    images = {
        split or "train": os.path.join("images", split).rstrip(os.sep) for split in layout.splits
    }
    images.setdefault("val", images["train"])
    data = {
        "path": layout.out,
        **images,
        "nc": len(layout.classes),
        "names": dict(enumerate(layout.classes)),
    }
    with open(path, "x", encoding="utf-8") as stream:
        yaml.safe_dump(data, stream, allow_unicode=True, sort_keys=False)
