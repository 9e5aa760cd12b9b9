"""Which labels of a sample does a mask show? It is the sum of the mattes of some of them.

This is a least-squares problem with one unknown per label: its share of the mask, 0 or 1. The
conjugate gradient method solves it without computing the matte of any single label, so that an
iteration takes as long for a thousand labels as for one.

References
----------
Å. Björck, "Numerical Methods for Least Squares Problems", SIAM 1996; algorithm 7.4.1 (CGLS).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..array_kinds import MASKS
from ..imaging.cryptomatte import Covered, covered, label_ids, open_cryptomatte, resize_matte
from ..imaging.resample import Doubles, axis_operator

__all__ = ["nearest_mask"]

_ITERATIONS = 300


def nearest_mask(
    row: NDArray[np.float32],
    data: bytes,
    path: str,
    labels: Sequence[str],
    max_pixels: int,
    tolerance: float,
) -> NDArray[np.float32]:
    """Return the mask of those labels whose mask comes closest to a row of a mask.

    `data` is the cryptomatte, and `labels` are all of its manifest. A mask that nowhere differs by
    more than `tolerance` is close enough.
    """
    cryptomatte = open_cryptomatte(data, path, max_pixels)
    ids = label_ids(labels)
    columns = zip(*covered(cryptomatte, ids), strict=True)
    down, across = (
        axis_operator(full, reduced, MASKS.spline_order).matrix(full)
        for full, reduced in zip(cryptomatte.shape, row.shape[:2], strict=True)
    )
    system = _System(Covered(*map(np.concatenate, columns)), ids.size, down, across)
    chosen, mask = None, np.empty_like(row)
    for shares in _solutions(system, row[..., 0].astype(np.float64)):
        if chosen is None or (chosen != (shares > 0.5)).any():
            chosen = shares > 0.5
            matte = system.matte(chosen.astype(np.float64))
            resize_matte(matte, (row.shape[1], row.shape[0]), mask)
            if np.abs(mask - row).max() <= tolerance:
                break
    return mask


@dataclass(frozen=True)
class _System:
    """The linear map from the shares of labels to the mask.

    Attributes
    ----------
    found : Covered
        Of all ranks.
    labels : int
    rows, columns : ndarray of float64
        The matrices that resize the two axes.
    """

    found: Covered
    labels: int
    rows: Doubles
    columns: Doubles

    def matte(self, shares: Doubles) -> Doubles:
        """Return the sum of the mattes, before it is resized."""
        height, width = self.rows.shape[1], self.columns.shape[1]
        amounts = shares[self.found.ids] * self.found.amounts
        sums = np.bincount(self.found.pixels, amounts, height * width).astype(np.float64)
        return sums.reshape(height, width)

    def mask(self, shares: Doubles) -> Doubles:
        return self.rows @ self.matte(shares) @ self.columns.T

    def transposed(self, mask: Doubles) -> Doubles:
        """Return for each label the product of its mask with another one."""
        spread = (self.rows.T @ mask @ self.columns).ravel()
        amounts = spread[self.found.pixels] * self.found.amounts
        return np.bincount(self.found.ids, amounts, self.labels).astype(np.float64)

    def sizes(self) -> Doubles:
        """Return for each label roughly the square root of the sum of its mask's squares."""
        (height, full_height), (width, full_width) = self.rows.shape, self.columns.shape
        y, x = np.divmod(self.found.pixels, full_width)
        cells = y * height // full_height * width + x * width // full_width
        # For each pixel its label and its cell of the mask, as one number.
        numbers, places = np.unique(self.found.ids * height * width + cells, return_inverse=True)
        amounts = np.bincount(places, self.found.amounts, numbers.size)
        amounts *= height * width / (full_height * full_width)
        return np.sqrt(np.bincount(numbers // (height * width), amounts**2, self.labels))


def _solutions(system: _System, mask: Doubles) -> Iterator[Doubles]:
    """Yield shares of the labels, each time closer to the mask."""
    sizes = system.sizes()
    scale = np.divide(1, sizes, out=np.zeros_like(sizes), where=sizes > 0)
    shares = np.zeros(system.labels)
    residual = mask
    gradient = scale * system.transposed(residual)
    direction, norm = gradient, gradient @ gradient
    for _ in range(_ITERATIONS):
        if not norm:
            break
        change = system.mask(scale * direction)
        step = norm / (change**2).sum()
        shares = shares + step * scale * direction
        residual = residual - step * change
        yield shares
        gradient = scale * system.transposed(residual)
        previous, norm = norm, gradient @ gradient
        direction = gradient + norm / previous * direction
    yield shares
