"""WebDataset: tar shards with the picture and the JSON of each row, one after the other."""

from __future__ import annotations

import io
import os
import tarfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

import orjson

from .rows import Row

__all__ = ["write"]

_ROWS_A_SHARD = 1000


def write(
    folder: str, rows: Iterable[Row], labels: Sequence[str] | None, parts: Sequence[str]
) -> None:
    """Write rows to shards: ``shard-000000.tar`` or, for a part, ``train-000000.tar``.

    Parameters
    ----------
    folder : str
        An empty folder.
    rows : iterable of Row
    labels : sequence of str, optional
        Not needed: the rows have their labels.
    parts : sequence of str
        Each gets shards of its own.
    """
    written: Counter[str] = Counter()
    shards: dict[str, tarfile.TarFile] = {}
    try:
        for row in rows:
            shard, place = divmod(written[row.part], _ROWS_A_SHARD)
            if place == 0:
                if row.part in shards:
                    shards.pop(row.part).close()
                name = f"{row.part or 'shard'}-{shard:06d}.tar"
                shards[row.part] = tarfile.open(os.path.join(folder, name), "x")  # noqa: SIM115
            _add(shards[row.part], row)
            written[row.part] += 1
    finally:
        for tar in shards.values():
            tar.close()


def _add(tar: tarfile.TarFile, row: Row) -> None:
    assert row.picture is not None
    for name, data in (
        (row.file_name, row.picture.read()),
        (f"{row.name}.json", orjson.dumps(_record(row))),
    ):
        # Nobody's and of 1970, so that the same rows give the same bytes.
        member = tarfile.TarInfo(name)
        member.size = len(data)
        tar.addfile(member, io.BytesIO(data))


def _record(row: Row) -> dict[str, Any]:
    return {
        "row": row.number,
        "width": row.size[0],
        "height": row.size[1],
        "label": row.label,
        "path": row.path,
        "campaign": row.campaign,
        "provenance": row.provenance,
        "annotations": [asdict(found) for found in row.annotations],
    }
