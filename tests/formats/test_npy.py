from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from limbo_compress.array_kinds import KINDS, ArrayKind
from limbo_compress.formats.npy import ArrayFile, read_header


@pytest.mark.parametrize("rows", [0, 1, 7, 123456, 10**9])
@pytest.mark.parametrize("size", [(224, 160), (1, 1), (10**5, 10**5)])
@pytest.mark.parametrize("kind", KINDS)
def test_the_header_equals_that_of_numpy(rows: int, size: tuple[int, int], kind: ArrayKind) -> None:
    array = ArrayFile("images", rows, size, kind)
    dtype, shape = np.dtype(kind.dtype), (rows, size[1], size[0], kind.channels)
    stream = io.BytesIO()
    description = {"descr": dtype.newbyteorder("<").str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, description)
    assert array.header == stream.getvalue()
    stream.seek(0)
    assert read_header(stream) == (kind.descr, array.shape, array.offset(0))
    assert stream.read() == b""
    assert array.row_bytes == int(np.prod(shape[1:])) * dtype.itemsize
    assert array.offset(rows) == array.file_bytes


@pytest.mark.parametrize(
    ("array", "descr"),
    [(np.zeros(3), "<f8"), (np.zeros((2, 3), bool), "|b1"), (np.array(1, ">i2"), ">i2")],
)
def test_headers_of_other_arrays_are_read(array: NDArray[Any], descr: str) -> None:
    stream = io.BytesIO()
    np.save(stream, array)
    stream.seek(0)
    assert read_header(stream) == (descr, array.shape, len(stream.getvalue()) - array.nbytes)
    assert stream.read() == array.tobytes()


@pytest.mark.parametrize("data", [b"", b"\x93NUMPY", b"PK\3\4" + bytes(200)])
def test_other_files_have_no_header(data: bytes) -> None:
    with pytest.raises(ValueError, match="header of a"):
        read_header(io.BytesIO(data))


@pytest.mark.parametrize("shape", [(10**8, 0, 8, 3), (1, 8, 8, 0)])
def test_rows_without_values_are_refused(shape: tuple[int, ...]) -> None:
    stream = io.BytesIO()
    description = {"descr": "<f2", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, description)
    stream.seek(0)
    with pytest.raises(ValueError, match="a side of 0"):
        read_header(stream)
