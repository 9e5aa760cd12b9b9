"""Rows of an array under way, mapped into a worker."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .job import ArrayFile, Job
from .outputs import output_errors

__all__ = ["map_rows"]


def map_rows(job: Job, array: ArrayFile, rows: range) -> NDArray[Any]:
    """Map some rows of an array under way, to be written.

    Only these are mapped, and only as long as the result lives, so that a worker's memory
    does not grow with the number of samples.

    Returns
    -------
    memmap, shape (rows, *array.row_shape)

    Raises
    ------
    OutputError
        If the file cannot be mapped.
    """
    path = job.work_path(array.file_name)
    with output_errors(path):
        return np.memmap(
            path,
            dtype=array.descr,
            mode="r+",
            offset=array.offset(rows.start),
            shape=(len(rows), *array.row_shape),
        )
