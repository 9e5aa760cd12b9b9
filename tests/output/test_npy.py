from __future__ import annotations

import io

import numpy as np
import pytest

from limbo_compress.output.npy import ArrayFile


@pytest.mark.parametrize("rows", [0, 1, 7, 123456, 10**9])
@pytest.mark.parametrize("row_shape", [(224, 224, 3), (1, 1, 1), (10**5, 10**5, 3)])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_the_header_equals_that_of_numpy(rows: int, row_shape: tuple[int, ...], dtype: str) -> None:
    array = ArrayFile("images", rows, row_shape, dtype)
    stream = io.BytesIO()
    description = {"descr": array.descr, "fortran_order": False, "shape": (rows, *row_shape)}
    np.lib.format.write_array_header_1_0(stream, description)
    assert array.header == stream.getvalue()
    assert array.row_bytes == int(np.prod(row_shape)) * np.dtype(dtype).itemsize
    assert array.offset(rows) == array.file_bytes
