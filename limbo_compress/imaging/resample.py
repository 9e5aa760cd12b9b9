"""The resampling operator: what ``skimage.transform.resize`` does, as banded matrices.

For one axis of n samples resized to m, with f = n / m, skimage's
``resize(order=3, anti_aliasing=True)`` is linear: a Gaussian of sigma = max(0, (f - 1) / 2)
and radius int(4 sigma + 0.5) [1]_, the inverse of the cubic B-spline collocation
(1/6, 4/6, 1/6) [2]_, and the four cubic B-spline weights at (o + 1/2) f - 1/2 for output o.
All three extend the axis by scipy's ``mirror`` rule (d c b | a b c d | c b a). The rule commutes
with symmetric convolutions, so the kernels are convolved first and folded back into
the axis once.

The arithmetic is float64 although the result is float16: BLAS libraries add in different
orders, and only float64 makes every machine round to the same bytes. ``_resample.c`` computes the
same sums for 8-bit RGB images in less than half the time. The numpy code here resizes masks,
and images where the C code could not be compiled.

References
----------
.. [1] ``skimage.transform.resize`` and ``scipy.ndimage.gaussian_filter``, their sources.
.. [2] M. Unser, "Splines: a perfect fit for signal and image processing", IEEE Signal
   Processing Magazine 16(6), 1999; its equation (12) is the inverse used here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Block", "Doubles", "Operator", "axis_operator", "resample"]

Doubles = NDArray[np.float64]

# The pole of the inverse B-spline filter. Its 28th power is below 1e-16.
_POLE = math.sqrt(3) - 2
_REACH = 28
# Weights this much smaller than the largest of their row are left out. Measured against the
# reference at borders of black and white, where float16 is finest: with 1e-8, 99.86 % of values
# are identical, with 1e-9 99.98 %.
_NEGLIGIBLE = 1e-9
# Measured: with 8 outputs per product, blocks hold few zeros and calls are few. Strips for 14
# products overlap little and stay in the cache.
_BLOCK = 8
_BLOCKS_A_STRIP = 14


@dataclass(frozen=True)
class Operator:
    """The outputs of an axis, as weighted sums of consecutive inputs.

    Attributes
    ----------
    starts : ndarray of int64, shape (outputs,)
        The first input of each output; they never decrease.
    weights : ndarray of float64, shape (outputs, taps)
        The weights of the inputs from there on.
    """

    starts: NDArray[np.int64]
    weights: Doubles

    def matrix(self, n: int) -> Doubles:
        """Return the operator on an axis of `n` samples as a matrix, of shape (outputs, n)."""
        matrix = np.zeros((len(self.starts), n))
        places = self.starts[:, None] + np.arange(self.weights.shape[1])
        np.put_along_axis(matrix, places, self.weights, axis=1)
        return matrix

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """The same operator as dense products of a few outputs each."""
        blocks = []
        for at in range(0, len(self.starts), _BLOCK):
            starts, weights = self.starts[at : at + _BLOCK], self.weights[at : at + _BLOCK]
            low, high = int(starts[0]), int(starts[-1]) + weights.shape[1]
            matrix = Operator(starts - low, weights).matrix(high - low)
            blocks.append(Block(slice(at, at + len(starts)), slice(low, high), matrix))
        return tuple(blocks)

    @cached_property
    def weights_for_rgb(self) -> Doubles:
        """The weights for an axis of interleaved pixels, of shape (outputs, 3 times the taps).

        Padded with zeros to whole groups of four pixels, as `_resample.c` expects.
        """
        taps = self.weights.shape[1]
        return np.repeat(np.pad(self.weights, ((0, 0), (0, -taps % 4))), 3, axis=1)


class Block(NamedTuple):
    """Consecutive outputs of an axis: `weights`, of shape (outputs, inputs), times the inputs."""

    outputs: slice
    inputs: slice
    weights: Doubles


@lru_cache(maxsize=8)  # of a long axis, each takes dozens of megabytes
def axis_operator(n: int, m: int, order: int) -> Operator:
    """Return the operator that resizes an axis of `n` samples to `m`, by splines of an order."""
    inverse_kernel, weights_at = _SPLINES[order]
    kernel = np.convolve(inverse_kernel(), _gaussian_kernel(n / m))
    position = (np.arange(m) + 0.5) * (n / m) - 0.5
    base = np.floor(position).astype(np.int64)
    taps = np.zeros((m, kernel.size + order))
    for tap, weight in enumerate(weights_at(position - base)):
        taps[:, tap : tap + kernel.size] += weight[:, None] * kernel
    sources = (base - order // 2 - kernel.size // 2)[:, None] + np.arange(taps.shape[1])
    sources = _mirror(sources, n)
    keep = np.abs(taps) >= _NEGLIGIBLE * np.abs(taps).max(axis=1, keepdims=True)
    first = np.where(keep, sources, n).min(axis=1)
    # At a mirrored end, an output may begin one sample before its predecessor.
    first = np.minimum.accumulate(first[::-1])[::-1]
    width = int((np.where(keep, sources, -1).max(axis=1) - first).max()) + 1
    starts = np.minimum(first, n - width)
    # At a mirrored end, several taps also meet in one source.
    places = np.arange(m)[:, None] * width + sources - starts[:, None]
    weights = np.bincount(places[keep], taps[keep], m * width).astype(np.float64)
    return Operator(starts, weights.reshape(m, width))


def _inverse_cubic_kernel() -> Doubles:
    distance = np.abs(np.arange(-_REACH, _REACH + 1))
    kernel: Doubles = math.sqrt(3) * np.power(_POLE, distance)
    return kernel


def _gaussian_kernel(factor: float) -> Doubles:
    sigma = max(0.0, (factor - 1) / 2)
    radius = int(4 * sigma + 0.5)
    if radius == 0:
        return np.ones(1)
    kernel: Doubles = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    return kernel


def _cubic_weights(t: Doubles) -> tuple[Doubles, Doubles, Doubles, Doubles]:
    """Weights of the samples at -1, 0, 1, 2 for a point at `t` in [0, 1)."""
    return (
        (1 - t) ** 3 / 6,
        (4 - 6 * t**2 + 3 * t**3) / 6,
        (1 + 3 * t + 3 * t**2 - 3 * t**3) / 6,
        t**3 / 6,
    )


# By the order of the B-splines: the inverse of their collocation, and the `order` + 1 weights.
_SPLINES = {3: (_inverse_cubic_kernel, _cubic_weights)}


def _mirror(index: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    if n == 1:
        return np.zeros_like(index)
    return np.abs((index + n - 1) % (2 * n - 2) - (n - 1))


def resample(
    strip: Callable[[int, int], Doubles], shape: tuple[int, int], size: tuple[int, int], order: int
) -> Doubles:
    """Resize a plane, of (height, width) `shape`, to (width, height) `size`.

    ``strip(low, high)`` gives rows `low` to `high` of the plane: a whole one in float64 would not
    fit the cache, strips do. `order` is that of the B-splines.
    """
    height, width = shape
    new_width, new_height = size
    rows = np.empty((new_height, width))
    blocks = axis_operator(height, new_height, order).blocks
    for at in range(0, len(blocks), _BLOCKS_A_STRIP):
        group = blocks[at : at + _BLOCKS_A_STRIP]
        low = min(block.inputs.start for block in group)
        high = max(block.inputs.stop for block in group)
        source = strip(low, high)
        for block in group:
            inputs = source[block.inputs.start - low : block.inputs.stop - low]
            np.matmul(block.weights, inputs, out=rows[block.outputs])
    result = np.empty((new_height, new_width))
    for block in axis_operator(width, new_width, order).blocks:
        np.matmul(rows[:, block.inputs], block.weights.T, out=result[:, block.outputs])
    return result
