from __future__ import annotations

from typing import Any

import numpy as np
import pytest

planes = pytest.importorskip(
    "limbo_compress.dataset._planes", reason="the compiled module is not there"
)


@pytest.mark.parametrize("pixels", [0, 1, 7, 8, 9, 1000, 50176])
@pytest.mark.parametrize("shift", [0, 4])
def test_every_bit_pattern_becomes_the_float_that_numpy_makes_of_it(
    pixels: int, shift: int
) -> None:
    bits = np.random.default_rng(pixels).integers(0, 1 << 16, (pixels, 3), np.uint16)
    row = bits.view(np.float16)
    memory = np.empty(12 * pixels + shift, np.uint8)  # at addresses of either kind
    out: Any = memory[shift:].view(np.float32).reshape(3, pixels)
    planes.fill_planes(row, None, out)
    with np.errstate(invalid="ignore"):  # on arm64, numpy warns about signalling NaNs
        assert np.array_equal(out, row.astype(np.float32).T, equal_nan=True)
    table = np.arange(1 << 16, dtype=np.float32)
    planes.fill_planes(row, table, out)
    assert np.array_equal(out, bits.T)


@pytest.mark.parametrize(
    ("row", "table", "out"), [(6, None, 5), (7, None, 6), (6, 1 << 15, 6), (0, None, 3), (6, 0, 6)]
)
def test_shapes_that_do_not_match_are_refused(row: int, table: int | None, out: int) -> None:
    values = None if table is None else np.zeros(table, np.float32)
    with pytest.raises(ValueError, match="the shapes do not match"):
        planes.fill_planes(np.zeros(row, np.float16), values, np.zeros(out, np.float32))


def test_what_is_read_only_is_not_written() -> None:
    out = np.zeros((3, 2), np.float32)
    out.flags.writeable = False
    with pytest.raises((TypeError, BufferError, ValueError)):
        planes.fill_planes(np.zeros((2, 3), np.float16), None, out)
