"""COCO: ``annotations.json`` for pycocotools, Detectron2, torchvision; ``images/``."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from typing import Any, BinaryIO

import orjson

from .rows import Row, Spool

__all__ = ["write"]

_INFO = {"description": "A Limbo data set, exported by limbo-export"}
_LICENCE = "license"


def write(folder: str, rows: Iterable[Row], labels: Sequence[str], parts: Sequence[str]) -> None:
    """Write rows as COCO. The id of an image is the number of its row.

    Parameters
    ----------
    folder : str
        An empty folder.
    rows : iterable of Row
    labels : sequence of str
        The categories, in the order of their numbers.
    parts : sequence of str
        Each gets a file of annotations of its own.
    """
    os.mkdir(os.path.join(folder, "images"))
    licences: dict[str, int] = {}
    with Spool(folder) as spool:
        for row in rows:
            assert row.picture is not None
            row.picture.write(os.path.join(folder, "images", row.file_name))
            if _LICENCE in row.provenance:
                licences.setdefault(row.provenance[_LICENCE], len(licences) + 1)
            spool.add(row)
        categories = {label: number for number, label in enumerate(labels, 1)}
        for part in parts:
            name = f"annotations-{part}.json" if part else "annotations.json"
            with open(os.path.join(folder, name), "xb") as stream:
                _write_part(stream, spool, part, categories, licences)


def _write_part(
    stream: BinaryIO,
    rows: Spool,
    part: str,
    categories: dict[str, int],
    licences: dict[str, int],
) -> None:
    """Write the annotations of a part, one record at a time: all of them may not fit in memory."""
    stream.write(b'{"info":' + orjson.dumps(_INFO))
    stream.write(b',\n"licenses":[')
    _write_list(stream, ({"id": id_, "name": n, "url": ""} for n, id_ in licences.items()))
    stream.write(b'],\n"categories":[')
    _write_list(
        stream,
        ({"id": id_, "name": n, "supercategory": "limbo"} for n, id_ in categories.items()),
    )
    stream.write(b'],\n"images":[')
    _write_list(stream, (_image(row, licences) for row in rows if row.part == part))
    stream.write(b'],\n"annotations":[')
    _write_list(stream, _annotations((row for row in rows if row.part == part), categories))
    stream.write(b"]}\n")


def _write_list(stream: BinaryIO, records: Iterable[dict[str, Any]]) -> None:
    for number, record in enumerate(records):
        stream.write((b",\n" if number else b"\n") + orjson.dumps(record))


def _image(row: Row, licences: dict[str, int]) -> dict[str, Any]:
    width, height = row.size
    licence = row.provenance.get(_LICENCE)
    return {
        "id": row.number,
        "file_name": row.file_name,
        "width": width,
        "height": height,
        **({"license": licences[licence]} if licence is not None else {}),
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
                # Readers that know only boxes expect the key all the same.
                "segmentation": found.segmentation or [],
                "iscrowd": 0,
            }
