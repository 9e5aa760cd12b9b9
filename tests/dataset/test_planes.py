from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

planes = pytest.importorskip(
    "limbo_compress.dataset._planes", reason="the compiled module is not there"
)

TYPES = {1: np.uint8, 2: np.float16, 4: np.float32}


def fill(
    bits: NDArray[np.uint16],
    rows: list[int],
    places: list[int],
    table: NDArray[Any] | None,
    out: NDArray[Any],
    planar: bool = True,
) -> None:
    numbers = (np.array(value, np.int64) for value in (rows, places))
    pixels = bits.shape[1]
    planes.fill_batch(bits.view(np.float16), *numbers, table, out, pixels, out.itemsize, planar)


@pytest.mark.parametrize("pixels", [1, 7, 8, 9, 1000, 50176])
@pytest.mark.parametrize("shift", [0, 4, 16])
@pytest.mark.parametrize("planar", [True, False])
@pytest.mark.parametrize(
    ("size", "by_table"), [(2, False), (4, False), (1, True), (2, True), (4, True)]
)
def test_every_bit_pattern_becomes_the_value_that_numpy_makes_of_it(
    pixels: int, shift: int, planar: bool, size: int, by_table: bool
) -> None:
    random = np.random.default_rng(pixels)
    bits = random.integers(0, 1 << 16, (4, pixels, 3), np.uint16)
    memory = np.full(9 * size * pixels + shift, 77, np.uint8)  # at addresses of any kind
    out: Any = (
        memory[shift:].view(TYPES[size]).reshape(3, *((3, pixels) if planar else (pixels, 3)))
    )
    before = out[1].tobytes()
    table = random.integers(0, 1 << 6, 1 << 16).astype(TYPES[size]) if by_table else None
    fill(bits, [3, 0], [0, 2], table, out, planar)
    with np.errstate(invalid="ignore"):  # on arm64, numpy warns about signaling NaNs
        values = bits.view(np.float16).astype(TYPES[size]) if table is None else table[bits]
    expected = values.transpose(0, 2, 1) if planar else values
    assert np.array_equal(out[[0, 2]], expected[[3, 0]], equal_nan=size > 1)
    assert out[1].tobytes() == before


ROW = np.zeros((4, 2, 3), np.uint16)
OUT = np.zeros((3, 3, 2), np.float32)


@pytest.mark.parametrize(
    ("rows", "places", "table", "out"),
    [
        ([4], [0], None, OUT),
        ([-1], [0], None, OUT),
        ([2**62], [0], None, OUT),
        ([0], [3], None, OUT),
        ([0], [-1], None, OUT),
        ([0, 1], [0], None, OUT),
        ([0], [0], None, OUT.ravel()[:-1]),
        ([0], [0], None, OUT.astype(np.uint8)),
        ([0], [0], np.zeros(1 << 15, np.float32), OUT),
        ([0], [0], np.zeros(1 << 16, np.float16), OUT),
        ([0], [0], np.zeros(0, np.float32), OUT),
    ],
)
def test_what_does_not_match_is_refused(
    rows: list[int], places: list[int], table: Any, out: NDArray[Any]
) -> None:
    with pytest.raises(ValueError, match="do not match, or there is no such row"):
        fill(ROW, rows, places, table, out)


@pytest.mark.parametrize("pixels", [0, -2, 5, 2**62, -(2**63)])
@pytest.mark.parametrize("size", [2, 4])
def test_a_row_of_another_size_is_refused(pixels: int, size: int) -> None:
    numbers = np.zeros(1, np.int64)
    with pytest.raises(ValueError, match="do not match"):
        planes.fill_batch(ROW, numbers, numbers, None, OUT, pixels, size, True)


@pytest.mark.parametrize("size", [0, 1, 3, 8, -4])
def test_values_of_another_size_are_refused(size: int) -> None:
    numbers = np.zeros(1, np.int64)
    with pytest.raises(ValueError, match="do not match"):
        planes.fill_batch(ROW, numbers, numbers, None, OUT, 2, size, True)


def test_what_is_read_only_is_not_written() -> None:
    out = OUT.copy()
    out.flags.writeable = False
    with pytest.raises((TypeError, BufferError, ValueError)):
        fill(ROW, [0], [0], None, out)
