from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from limbo_compress.resample import axis_operator, resample

sizes = st.integers(1, 300)


def matrix(n: int, m: int) -> NDArray[np.float64]:
    dense = np.zeros((m, n))
    for block in axis_operator(n, m):
        dense[block.outputs, block.inputs] = block.weights
    return dense


@given(sizes, sizes)
def test_blocks_cover_the_axis_and_keep_constants(n: int, m: int) -> None:
    blocks = axis_operator(n, m)
    assert [o for block in blocks for o in range(m)[block.outputs]] == list(range(m))
    np.testing.assert_allclose(matrix(n, m).sum(axis=1), 1, atol=1e-6)


@given(sizes, sizes)
def test_the_operator_is_symmetric(n: int, m: int) -> None:
    np.testing.assert_allclose(matrix(n, m), matrix(n, m)[::-1, ::-1], atol=1e-7)


@given(sizes)
def test_the_same_size_changes_nothing(n: int) -> None:
    np.testing.assert_allclose(matrix(n, n), np.eye(n), atol=1e-7)


@given(sizes, st.integers(2, 40))
def test_lines_stay_lines_where_an_axis_grows(n: int, factor: int) -> None:
    """Splines reproduce a line, away from the mirrored ends."""
    m = n * factor
    position = (np.arange(m) + 0.5) / factor - 0.5
    inner = (position > 16) & (position < n - 17)
    np.testing.assert_allclose((matrix(n, m) @ np.arange(n))[inner], position[inner], atol=1e-5)


def test_an_operator_is_the_product_of_its_three_factors() -> None:
    """B T^-1 G, made densely from their definitions."""
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
    result = resample(lambda low, high: plane[low:high].copy(), plane.shape, (new_w, new_h))
    expected = matrix(h, new_h) @ plane @ matrix(w, new_w).T
    np.testing.assert_allclose(result, expected, atol=1e-10)
