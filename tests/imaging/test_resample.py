from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from limbo_compress.imaging.color import compiled, fill_row
from limbo_compress.imaging.resample import axis_operator, resample

sizes = st.integers(1, 300)
needs_compiled = pytest.mark.skipif(compiled is None, reason="there was no C compiler")


def matrix(n: int, m: int) -> NDArray[np.float64]:
    operator = axis_operator(n, m, 3)
    dense = np.zeros((m, n))
    for row, start, weights in zip(dense, operator.starts, operator.weights, strict=True):
        row[start : start + len(weights)] = weights
    return dense


@given(sizes, sizes)
def test_constants_stay_constant(n: int, m: int) -> None:
    np.testing.assert_allclose(matrix(n, m).sum(axis=1), 1, atol=1e-6)


@given(sizes, sizes)
def test_the_blocks_add_up_to_the_operator(n: int, m: int) -> None:
    dense = np.zeros((m, n))
    for block in axis_operator(n, m, 3).blocks:
        assert not dense[block.outputs].any()
        dense[block.outputs, block.inputs] = block.weights
    np.testing.assert_array_equal(dense, matrix(n, m))


@given(sizes, sizes)
def test_the_operator_is_symmetric(n: int, m: int) -> None:
    np.testing.assert_allclose(matrix(n, m), matrix(n, m)[::-1, ::-1], atol=1e-7)


@given(sizes)
def test_the_same_size_changes_nothing(n: int) -> None:
    np.testing.assert_allclose(matrix(n, n), np.eye(n), atol=1e-7)


@given(sizes, st.integers(2, 40))
def test_lines_stay_lines_where_an_axis_is_enlarged(n: int, factor: int) -> None:
    """Splines reproduce a line, except near the mirrored ends."""
    m = n * factor
    position = (np.arange(m) + 0.5) / factor - 0.5
    inner = (position > 16) & (position < n - 17)
    np.testing.assert_allclose((matrix(n, m) @ np.arange(n))[inner], position[inner], atol=1e-5)


def test_an_operator_is_the_product_of_its_three_factors() -> None:
    """Build B T^-1 G as dense matrices from their definitions."""
    n, m = 97, 41
    sigma = (n / m - 1) / 2
    radius = int(4 * sigma + 0.5)
    mirror = np.pad(np.arange(n), 50, mode="reflect")
    gauss = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    gaussian, collocation, spline = np.zeros((n, n)), np.zeros((n, n)), np.zeros((m, n))
    for i in range(n):
        for k, weight in zip(range(-radius, radius + 1), gauss / gauss.sum(), strict=True):
            gaussian[i, mirror[50 + i + k]] += weight
        for k, weight in ((-1, 1 / 6), (0, 4 / 6), (1, 1 / 6)):
            collocation[i, mirror[50 + i + k]] += weight
    for o in range(m):
        x = (o + 0.5) * n / m - 0.5
        for k in range(int(x) - 2, int(x) + 4):
            t = abs(x - k)
            weight = max(0.0, (2 - t) ** 3 / 6 if t > 1 else 2 / 3 - t**2 + t**3 / 2)
            spline[o, mirror[50 + k]] += weight if t < 2 else 0
    expected = spline @ np.linalg.inv(collocation) @ gaussian
    np.testing.assert_allclose(matrix(n, m), expected, atol=1e-8)


@settings(max_examples=25)
@given(sizes, sizes, sizes, sizes)
def test_both_axes_are_resized(h: int, w: int, new_w: int, new_h: int) -> None:
    plane = np.random.default_rng(h * w).random((h, w))
    result = resample(lambda low, high: plane[low:high].copy(), plane.shape, (new_w, new_h), 3)
    expected = matrix(h, new_h) @ plane @ matrix(w, new_w).T
    np.testing.assert_allclose(result, expected, atol=1e-10)


@needs_compiled
@settings(max_examples=50)
@given(sizes, sizes, sizes, sizes)
@example(1, 1, 1, 1)
@example(1, 2, 300, 60)
def test_compiled_code_resizes_both_axes(h: int, w: int, new_w: int, new_h: int) -> None:
    rng = np.random.default_rng(h * w)
    pixels, light = rng.integers(0, 256, (h, w, 3), np.uint8), np.sort(rng.random(256))
    result = np.full((new_h, new_w, 3), np.nan, np.float16)
    fill_row(pixels, light, result)
    planes = np.moveaxis(light[pixels], 2, 0)
    resized = np.moveaxis(matrix(h, new_h) @ planes @ matrix(w, new_w).T, 0, 2).astype(np.float32)
    darkest, lightest = (np.float32(light[value]) for value in (pixels.min(), pixels.max()))
    expected = resized.clip(darkest, lightest).astype(np.float16)
    np.testing.assert_array_equal(result, expected)


@needs_compiled
def test_compiled_code_rounds_as_numpy_does() -> None:
    steps = np.arange(128) * 2.0**-25  # ties, and numbers below 2^-14
    light = np.concatenate((steps, 1 + 2.0**14 * steps))
    result = np.empty((1, 1, 3), np.float16)
    for value, linear in enumerate(light):
        fill_row(np.full((1, 1, 3), value, np.uint8), light, result)
        np.testing.assert_array_equal(result, linear.astype(np.float16))


@needs_compiled
@pytest.mark.parametrize(
    ("argument", "wrong"),
    [
        (0, np.zeros((300, 390, 3), np.uint8)),
        (1, 0),
        (1, 301),
        (2, np.zeros(255)),
        (3, axis_operator(300, 20, 3).starts + 300),
        (3, axis_operator(300, 20, 3).starts - 1),
        (3, axis_operator(300, 20, 3).starts[::-1].copy()),
        (3, np.zeros(0, np.int64)),
        (4, np.zeros((20, 301))),
        (6, np.zeros((20, 3 * 41))),
        (7, np.zeros((20, 19, 3), np.float16)),
    ],
)
def test_compiled_code_refuses_wrong_shapes(argument: int, wrong: Any) -> None:
    rows, columns = axis_operator(300, 20, 3), axis_operator(400, 20, 3)
    arguments: list[Any] = [
        np.zeros((300, 400, 3), np.uint8),
        300,
        np.zeros(256),
        rows.starts,
        rows.weights,
        columns.starts,
        columns.weights_for_rgb,
        np.zeros((20, 20, 3), np.float16),
    ]
    compiled.fill_row(*arguments)
    arguments[argument] = wrong
    with pytest.raises(ValueError, match="shapes"):
        compiled.fill_row(*arguments)
