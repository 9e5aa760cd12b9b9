"""Parquet for pandas, polars and DuckDB.

``annotations.parquet`` has a row for each annotation, and ``samples.parquet`` one for each sample.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from .annotations import printable
from .exported_rows import Row
from .writers import Layout

__all__ = ["write"]

# Python's objects take more memory than Arrow's columns; readers prefer large groups of rows.
_BATCH = 1 << 10
_BATCHES_A_GROUP = 64
_COLUMNS = {
    "row": pa.int64(),
    "split": pa.string(),
    "path": pa.string(),
    "campaign": pa.string(),
    "category": pa.string(),
    "label": pa.string(),
    "x": pa.float64(),
    "y": pa.float64(),
    "width": pa.float64(),
    "height": pa.float64(),
    "area": pa.float64(),
    "has_contour": pa.bool_(),
    "picture_width": pa.int32(),
    "picture_height": pa.int32(),
}


def write(folder: str, rows: Iterable[Row], layout: Layout) -> None:
    """Write the annotations of rows, and their samples. The column ``split`` says the splits."""
    schema = pa.schema(list(_COLUMNS.items()))
    batches = _batches((record for row in rows for record in _records(row)), schema)
    with pq.ParquetWriter(os.path.join(folder, "annotations.parquet"), schema) as writer:
        while group := list(islice(batches, _BATCHES_A_GROUP)):
            writer.write_table(pa.Table.from_batches(group))
    samples = {printable(name): _column(values) for name, values in layout.table().items()}
    pq.write_table(pa.table(samples), os.path.join(folder, "samples.parquet"))


def _batches(records: Iterator[dict[str, Any]], schema: Any) -> Iterator[Any]:
    while batch := list(islice(records, _BATCH)):
        yield pa.RecordBatch.from_pylist(batch, schema)


def _records(row: Row) -> Iterator[dict[str, Any]]:
    """Yield a record for each annotation; tags have no box."""
    for found in row.annotations:
        x, y, width, height = found.box or (None, None, None, None)
        yield {
            "row": row.number,
            "split": row.split or None,
            "path": row.path,
            "campaign": row.campaign,
            "category": found.category,
            "label": found.label,
            "x": x,
            "y": y,
            "width": width,
            "height": height,
            "area": found.area,
            "has_contour": found.segmentation is not None,
            "picture_width": row.size[0],
            "picture_height": row.size[1],
        }


def _column(values: NDArray[Any]) -> Any:
    """Return a column of the table of samples; what a sample does not say is null."""
    if values.dtype != object:
        return pa.array(values, from_pandas=True)  # NaN is null
    found = pa.array(printable(each) if isinstance(each, str) else each for each in values)
    return found.cast(pa.string()) if found.type == pa.null() else found
