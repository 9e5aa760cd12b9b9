"""WebDataset: tar shards with the picture and the JSON of each row, one after the other.

A key of the JSON has the same type in every row, as Hugging Face takes the types of the first five.
So annotations and provenance, of which a row may have none, are JSON in a string.
"""

from __future__ import annotations

import io
import logging
import os
import tarfile
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

import numpy as np
import orjson

from .annotations import Annotation
from .exported_rows import Row
from .writers import CREDITS, Layout

__all__ = ["write"]

_log = logging.getLogger("limbo_compress")


def write(folder: str, rows: Iterable[Row], layout: Layout) -> None:
    """Write rows to shards: ``shard-000000.tar`` or, for a split, ``train-000000.tar``."""
    written: Counter[str] = Counter()
    shards: dict[str, tarfile.TarFile] = {}
    numbers: defaultdict[str, list[int]] = defaultdict(list)  # of the rows of the open shards
    suffixes: set[str] = set()

    def end_shard(split: str) -> None:
        credit = layout.credits.of(np.isin(layout.credits.rows, numbers.pop(split)))
        with shards.pop(split) as tar:
            _add_member(tar, CREDITS, credit.text().encode())

    try:
        for row in rows:
            shard, place = divmod(written[row.split], layout.shard_size)
            if place == 0:
                if row.split in shards:
                    end_shard(row.split)
                name = f"{row.split or 'shard'}-{shard:06d}.tar"
                shards[row.split] = tarfile.open(os.path.join(folder, name), "x")  # noqa: SIM115
            _add(shards[row.split], row)
            numbers[row.split].append(row.number)
            suffixes.add(os.path.splitext(row.file_name)[1])
            written[row.split] += 1
        for split in list(shards):
            end_shard(split)
    finally:
        for tar in shards.values():
            tar.close()
    if len(suffixes) > 1:
        _log.warning(
            "pictures are %s: Hugging Face reads one of these only", " and ".join(sorted(suffixes))
        )


def _add(tar: tarfile.TarFile, row: Row) -> None:
    assert row.picture is not None
    _add_member(tar, row.file_name, row.picture.read())
    _add_member(tar, f"{row.name}.json", orjson.dumps(_record(row)))


def _add_member(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    # Nobody's and of 1970, so that the same rows give the same bytes.
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def _record(row: Row) -> dict[str, Any]:
    return {
        "row": row.number,
        "width": row.size[0],
        "height": row.size[1],
        "label": row.label or "",
        "path": row.path or "",
        "campaign": row.campaign or "",
        "provenance": _json(row.provenance),
        "annotations": _json([_annotation(found) for found in row.annotations]),
    }


def _annotation(found: Annotation) -> dict[str, Any]:
    return {
        "category": found.category,
        "label": found.label,
        "box": found.box,
        "area": found.area,
        "segmentation": found.segmentation,
    }


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()
