"""Rows divided at random into two parts, as for training and evaluation."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from ..errors import UsageError
from .row_views import Ints

__all__ = ["split_rows", "strata_of"]


def split_rows(strata: Ints, fraction: float, seed: int) -> tuple[Ints, Ints]:
    """Divide rows at random into two parts, both ascending; the same seed gives the same parts.

    `strata` numbers the stratum of each row from 0. The first part gets the fraction of all rows,
    and of each stratum the fraction rounded up or down.
    """
    generator = np.random.default_rng(seed)
    sizes = np.bincount(strata, minlength=1)
    wanted = fraction * sizes
    quotas = np.floor(wanted).astype(np.intp)
    # What is missing goes to the strata with the largest remainders, at random among equal ones.
    missing = round(fraction * len(strata)) - quotas.sum()
    by_remainder = np.lexsort((generator.random(len(sizes)), quotas - wanted))
    quotas[by_remainder[:missing]] += 1

    shuffled = generator.permutation(len(strata))
    by_stratum = shuffled[np.argsort(strata[shuffled], kind="stable")]
    ranks = np.arange(len(strata)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    is_first = np.empty(len(strata), bool)
    is_first[by_stratum] = ranks < np.repeat(quotas, sizes)
    return np.flatnonzero(is_first), np.flatnonzero(~is_first)


def strata_of(labels: ArrayLike | Sequence[Hashable] | None, rows: int) -> Ints:
    """Return the stratum of each row, from 0: rows with equal labels share one."""
    if labels is None:
        return np.zeros(rows, np.intp)
    try:
        values = np.asarray(labels)
    except ValueError as error:
        raise UsageError(f"stratify takes labels: {error}") from error
    if values.shape[:1] != (rows,):
        raise UsageError(f"stratify takes {rows} labels, not {values.shape}")
    if not rows:
        return np.zeros(0, np.intp)
    values = values.reshape(rows, -1)
    if values.dtype == object:  # sets of categories, for example, have no order
        known: dict[Hashable, int] = {}
        try:
            strata = [known.setdefault(tuple(row), len(known)) for row in values]
        except TypeError as error:
            raise UsageError(f"stratify takes labels: {error}") from error
        return np.array(strata, np.intp)
    _, inverse = np.unique(values, axis=0, return_inverse=True)
    return inverse.reshape(-1)
