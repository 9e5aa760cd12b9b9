"""COCO: ``annotations/instances_default.json`` and ``images/``.

With splits, ``instances_train.json`` and so on. Datumaro and CVAT look for this layout.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import count
from typing import Any, BinaryIO

import orjson

from .annotations import rectangle
from .exported_rows import Row, Spool
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

    Parameters
    ----------
    folder : str
        An empty folder.
    rows : iterable of Row
    layout : Layout
    """
    for name in ("annotations", "images"):
        os.mkdir(os.path.join(folder, name))
    licenses: dict[str, int] = {}
    with Spool(folder) as spool:
        for row in rows:
            assert row.picture is not None
            row.picture.write(os.path.join(folder, "images", row.file_name))
            if _LICENSE in row.provenance:
                licenses.setdefault(row.provenance[_LICENSE], len(licenses) + 1)
            spool.add(row)
        categories = {label: number for number, label in enumerate(layout.classes, 1)}
        for split in layout.splits:
            name = f"instances_{split or _WITHOUT_SPLITS}.json"
            with open(os.path.join(folder, "annotations", name), "xb") as stream:
                _write_split(stream, spool, split, categories, licenses)


def _write_split(
    stream: BinaryIO,
    rows: Spool,
    split: str,
    categories: dict[str, int],
    licenses: dict[str, int],
) -> None:
    """Write the annotations of a split, one record at a time: all of them may not fit in memory."""
    stream.write(b'{"info":' + orjson.dumps(_INFO))
    stream.write(b',\n"licenses":[')
    _write_list(stream, ({"id": id_, "name": n, "url": ""} for n, id_ in licenses.items()))
    stream.write(b'],\n"categories":[')
    _write_list(
        stream,
        ({"id": id_, "name": n, "supercategory": "limbo"} for n, id_ in categories.items()),
    )
    stream.write(b'],\n"images":[')
    _write_list(stream, (_image(row, licenses) for row in rows if row.split == split))
    stream.write(b'],\n"annotations":[')
    _write_list(stream, _annotations((row for row in rows if row.split == split), categories))
    stream.write(b"]}\n")


def _write_list(stream: BinaryIO, records: Iterable[dict[str, Any]]) -> None:
    for number, record in enumerate(records):
        stream.write((b",\n" if number else b"\n") + orjson.dumps(record))


def _image(row: Row, licenses: dict[str, int]) -> dict[str, Any]:
    width, height = row.size
    license = row.provenance.get(_LICENSE)
    return {
        "id": row.number,
        "file_name": row.file_name,
        "width": width,
        "height": height,
        **({"license": licenses[license]} if license is not None else {}),
        "path": row.path,
        "campaign": row.campaign,
        "tags": row.tags,
        "provenance": row.provenance,
    }


def _annotations(rows: Iterable[Row], categories: dict[str, int]) -> Iterator[dict[str, Any]]:
    ids = count(1)  # COCOeval takes 0 for "no match"
    for row in rows:
        for label, box, found in row.objects:
            yield {
                "id": next(ids),
                "image_id": row.number,
                "category_id": categories[label],
                "bbox": box,
                "area": found.area,
                # Readers of masks, such as COCOeval and torchvision, fail without one.
                "segmentation": found.segmentation or [rectangle(box)],
                "has_contour": found.segmentation is not None,
                "iscrowd": 0,
            }
