"""COCO: ``annotations/instances_default.json`` and ``images/``.

With splits, ``instances_train.json`` and so on. Datumaro and CVAT look for this layout.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from itertools import count
from typing import Any, BinaryIO

import orjson

from .annotations import rectangle
from .exported_rows import Row
from .writers import Layout

__all__ = ["write"]

_INFO = {
    "description": "A Limbo data set, exported by limbo-export. Where has_contour is false, the"
    " source has a box only, and segmentation is the rectangle of the box."
}
_WITHOUT_SPLITS = "default"
_LICENSE = "license"


def write(folder: str, rows: Iterable[Row], layout: Layout) -> None:
    """Write rows as COCO. The id of an image is the number of its row.

    Each split has a file of annotations of its own.
    """
    for name in ("annotations", "images"):
        os.mkdir(os.path.join(folder, name))
    licenses: dict[str, int] = {}
    categories = {label: number for number, label in enumerate(layout.classes, 1)}
    with ExitStack() as stack:
        splits = {split: _Split(folder, stack) for split in layout.splits}
        for row in rows:
            assert row.picture is not None
            row.picture.write(os.path.join(folder, "images", row.file_name))
            splits[row.split].add(row, licenses, categories)
        for name, split in splits.items():
            path = os.path.join(folder, "annotations", f"instances_{name or _WITHOUT_SPLITS}.json")
            with open(path, "xb") as stream:
                split.write(stream, layout.provenance, licenses, categories)


class _Split:
    """The images and annotations of a split.

    They wait in files without a name, since they may not fit in memory: the licenses come before
    them, but are known last.
    """

    def __init__(self, folder: str, stack: ExitStack) -> None:
        self._images, self._annotations = (
            stack.enter_context(tempfile.TemporaryFile(dir=folder))  # noqa: SIM115
            for _ in range(2)
        )
        self._ids = count(1)  # COCOeval takes 0 for "no match"

    def add(self, row: Row, licenses: dict[str, int], categories: dict[str, int]) -> None:
        """Add a row, and its license if that is new."""
        _append(self._images, _image(row, licenses))
        for label, box, found in row.objects:
            record = {
                "id": next(self._ids),
                "image_id": row.number,
                "category_id": categories[label],
                "bbox": box,
                "area": found.area,
                # Readers of masks, such as COCOeval and torchvision, fail without one.
                "segmentation": found.segmentation or [rectangle(box)],
                "has_contour": found.segmentation is not None,
                "iscrowd": 0,
            }
            _append(self._annotations, record)

    def write(
        self,
        stream: BinaryIO,
        provenance: Sequence[str],
        licenses: dict[str, int],
        categories: dict[str, int],
    ) -> None:
        named = [{"id": id_, "name": n, "url": ""} for n, id_ in licenses.items()]
        kinds = [{"id": id_, "name": n, "supercategory": "limbo"} for n, id_ in categories.items()]
        info = _INFO | ({"provenance": list(provenance)} if provenance else {})
        stream.write(b'{"info":' + orjson.dumps(info))
        for key, records in (("licenses", named), ("categories", kinds)):
            lines = b",".join(b"\n" + orjson.dumps(record) for record in records)
            stream.write(b',\n"%b":[%b]' % (key.encode(), lines))
        for key, waiting in (("images", self._images), ("annotations", self._annotations)):
            stream.write(b',\n"%b":[' % key.encode())
            waiting.seek(0)
            shutil.copyfileobj(waiting, stream)
            stream.write(b"]")
        stream.write(b"}\n")


def _append(stream: BinaryIO, record: dict[str, Any]) -> None:
    stream.write((b",\n" if stream.tell() else b"\n") + orjson.dumps(record))


def _image(row: Row, licenses: dict[str, int]) -> dict[str, Any]:
    width, height = row.size
    record = {"id": row.number, "file_name": row.file_name, "width": width, "height": height}
    if (license := row.provenance.get(_LICENSE)) is not None:
        record["license"] = licenses.setdefault(license, len(licenses) + 1)
    return record | {
        "path": row.path,
        "campaign": row.campaign,
        "tags": row.tags,
        "provenance": row.provenance,
    }
