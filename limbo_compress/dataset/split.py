"""Divide rows at random into two parts, with the same balance of labels in both."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .rows import Ints

__all__ = ["split"]


def split(strata: NDArray[np.intp], fraction: float, seed: int) -> tuple[Ints, Ints]:
    """Divide rows at random into two parts; the same seed gives the same parts.

    Parameters
    ----------
    strata : ndarray of int, shape (rows,)
        The stratum of each row, from 0. Of each stratum, the first part gets the fraction, rounded
        up or down.
    fraction : float
        How much of all rows the first part gets, of 1.
    seed : int

    Returns
    -------
    (ndarray of int, ndarray of int)
        Both ascending; together all rows.
    """
    generator = np.random.default_rng(seed)
    sizes = np.bincount(strata, minlength=1)
    wanted = fraction * sizes
    quotas = np.floor(wanted).astype(np.intp)
    # What is missing goes to the strata with the largest remainders, where equal by lot.
    missing = round(fraction * len(strata)) - quotas.sum()
    by_remainder = np.lexsort((generator.random(len(sizes)), quotas - wanted))
    quotas[by_remainder[:missing]] += 1

    shuffled = generator.permutation(len(strata))
    by_stratum = shuffled[np.argsort(strata[shuffled], kind="stable")]
    ranks = np.arange(len(strata)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    is_first = np.empty(len(strata), bool)
    is_first[by_stratum] = ranks < np.repeat(quotas, sizes)
    return np.flatnonzero(is_first), np.flatnonzero(~is_first)
