"""Rows divided into parts at random, as for training and evaluation; groups stay together."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from itertools import chain, combinations, pairwise, permutations, product
from numbers import Integral, Real
from operator import itemgetter
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from ..errors import UsageError, shown
from .row_views import Ints

if TYPE_CHECKING:
    from .dataset import Dataset

# The strata of a group, and how many rows it has of each.
_Content = tuple[tuple[int, int], ...]

__all__ = [
    "Split",
    "asked_for",
    "check_seed",
    "divide",
    "far_off",
    "shares_of",
    "split_groups",
    "split_rows",
    "strata_of",
]

# Orders of groups to try: the fewer there are, the more one order may be off by chance.
_MOST_ORDERS, _TRIED_KINDS = 32, 2000
# With more kinds of groups than this, chance leaves little to improve.
_IMPROVED_KINDS = 24
# Of the highest cost: costs that differ by less are equal, so rounding cannot keep a search going.
_SAME_COST = 1e-13
# Of all rows, how far a part may be off its size before that is worth a warning.
_FAR_OFF = 0.1
# How far fractions such as 0.7, 0.15 and 0.15 may be off 1.
_ROUNDING = 1e-9


class Split(tuple["Dataset", ...]):
    """The parts that rows were divided into, as a tuple of data sets.

    Attributes
    ----------
    asked : tuple of int
        How many rows each part was to have.
    groups : tuple of int or None
        How many groups each part has; None if the rows were divided without groups.
    """

    asked: tuple[int, ...]
    groups: tuple[int, ...] | None

    def __new__(
        cls,
        parts: Iterable[Dataset],
        asked: Iterable[int] = (),
        groups: Iterable[int] | None = None,
    ) -> Split:
        made = super().__new__(cls, parts)
        made.asked = tuple(asked)
        made.groups = None if groups is None else tuple(groups)
        return made

    def describe(self) -> str:
        """Say in one line how many rows and groups each part has."""
        line = f"{_listed(map(len, self))} rows, asked for {_listed(self.asked)}"
        return line if self.groups is None else f"{line}; {_listed(self.groups)} groups"

    __str__ = describe


def _listed(counts: Iterable[int]) -> str:
    return " + ".join(f"{count:,}" for count in counts)


def shares_of(fractions: Sequence[float]) -> list[float]:
    """Return the share of each part, of 1: after the fractions, of what they leave over."""
    numbers = all(isinstance(fraction, Real) for fraction in fractions)
    total = math.fsum(fractions) if numbers else math.nan
    lowest = min(fractions) if numbers and fractions else 0
    if len(fractions) == 1 and 0 <= total <= 1:
        return [float(total), float(1 - total)]
    if not (len(fractions) > 1 and lowest > 0 and total <= 1 + _ROUNDING):
        found = ", ".join(map(repr, fractions)) or "none"
        raise UsageError(
            "split takes a fraction from 0 to 1, or several above 0 that sum to at most 1, not "
            + shown(found),
            hint="the others are named: `seed`, `stratify`, `groups`",
        )
    rest = 1 - total
    return [*map(float, fractions), *([rest] if rest > _ROUNDING else [])]


def check_seed(seed: int, what: str) -> None:
    if not (isinstance(seed, Integral) and seed >= 0):
        raise UsageError(f"{what} takes a seed of 0 or more, not {seed!r}")


def divide(
    strata: Ints, groups: Ints | None, shares: Sequence[float], seed: int, needed: int
) -> Ints:
    """Return the part of each row; the same seed gives the same parts.

    `strata` and `groups`, if any, number those of each row from 0, and `shares` sum to 1. Each of
    the first `needed` parts gets a group, if it has a share.
    """
    if groups is not None:
        return split_groups(groups, strata, shares, seed, needed)
    parts = np.full(len(strata), len(shares) - 1)
    rows, left = np.arange(len(strata)), 1.0
    for part, share in enumerate(shares[:-1]):
        first, others = split_rows(strata[rows], share / max(share, left), seed)
        parts[rows[first]] = part
        rows, left = rows[others], left - share
    return parts


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


def split_groups(
    groups: Ints, strata: Ints, shares: Sequence[float], seed: int, needed: int
) -> Ints:
    """Divide groups at random into parts of about these shares; return the part of each row.

    The arguments are those of `divide`. Large groups come first. Each goes to the part that lacks
    most of what it has, rows and rows of each stratum, as in scikit-learn's
    ``StratifiedGroupKFold``. Of several random orders, the one counts that ends closest to the
    shares. Groups with the same contents are divided at once.
    """
    sizes = np.bincount(groups)
    wanted = [part for part, share in enumerate(shares[:needed]) if share > 0]
    if len(groups) and len(sizes) < len(wanted):
        raise UsageError(
            f"the {len(groups):,} rows are in {len(sizes):,} group{'s' * (len(sizes) > 1)},"
            f" which cannot be divided into {len(wanted)} parts",
            hint="choose groups that are smaller, such as block:100",
        )
    contents, kinds = _contents(groups, strata, len(sizes))
    members = np.bincount(kinds, minlength=len(contents))
    assignment = _Assignment(contents, members.tolist(), np.bincount(strata).tolist(), shares)
    stream = _stream(seed)
    size = np.array([sum(rows for _, rows in content) for content in contents])
    best: tuple[float, list[list[int]]] = math.inf, []
    for number in range(max(1, min(_MOST_ORDERS, _TRIED_KINDS // max(1, len(contents))))):
        # Powers of two leave more to chance, and no sizes all of it.
        by = (size, np.frexp(size)[1], np.zeros(len(size)))[number % 3]
        shuffled = stream.permutation(len(contents))
        order = shuffled[np.argsort(-by[shuffled], kind="stable")]
        best = min(best, assignment(order.tolist()), key=itemgetter(0))
    shuffled = stream.permutation(len(sizes))
    parts = np.empty(len(sizes), np.intp)
    parts[shuffled[np.argsort(kinds[shuffled], kind="stable")]] = np.repeat(
        np.tile(np.arange(len(shares)), len(contents)), list(chain.from_iterable(best[1]))
    )
    for part in sorted(set(wanted).difference(parts.tolist())) if len(groups) else ():
        _give_one(parts, sizes, part, shares[part] * len(groups), wanted)
    return parts[groups]


def _stream(seed: int) -> np.random.RandomState:
    """Return a stream of random numbers that is the same in all versions of numpy (NEP 19)."""
    return np.random.RandomState(np.random.MT19937(np.random.SeedSequence(seed)))


def _contents(groups: Ints, strata: Ints, count: int) -> tuple[list[_Content], Ints]:
    """Return the different contents of groups, and the number of that of each group."""
    of_strata = int(strata.max(initial=0)) + 1
    keys, rows = np.unique(groups * of_strata + strata, return_counts=True)
    entries = list(zip((keys % of_strata).tolist(), rows.tolist(), strict=True))
    edges = np.searchsorted(keys // of_strata, np.arange(count + 1)).tolist()
    known: dict[_Content, int] = {}
    kinds = [
        known.setdefault(tuple(entries[start:stop]), len(known)) for start, stop in pairwise(edges)
    ]
    return list(known), np.array(kinds, np.intp)


def _give_one(parts: Ints, sizes: Ints, part: int, rows: float, wanted: list[int]) -> None:
    """Give an empty part the group of about this many rows that another part can spare."""
    can_spare = np.flatnonzero((np.bincount(parts)[parts] > 1) | ~np.isin(parts, wanted))
    parts[can_spare[np.abs(sizes[can_spare] - rows).argmin()]] = part


class _Assignment:
    """Assigns groups to parts, in plain numbers of Python: they are the same on all machines.

    What a part lacks is its share of the groups so far, less its own. Rows of a stratum count by
    the inverse of its size, and all rows by that of the mean stratum.
    """

    def __init__(
        self,
        contents: list[_Content],
        members: list[int],
        strata: list[int],
        shares: Sequence[float],
    ) -> None:
        weight = len(strata) / max(1, sum(strata))
        # All rows are one more stratum.
        self._weights = [*(1 / size if size else 0.0 for size in strata), weight]
        self._contents = [
            [*(content if len(strata) > 1 else ()), (len(strata), sum(rows for _, rows in content))]
            for content in contents
        ]
        self._members, self._shares = members, shares
        self._same_cost = _SAME_COST * len(strata) * sum(strata)

    def __call__(self, order: list[int]) -> tuple[float, list[list[int]]]:
        """Return how far off the parts are, and how many groups of each content they get."""
        found: list[list[int]] = [[] for _ in order]
        lacks = [[0.0 for _ in self._shares] for _ in self._weights]
        for kind in order:
            content, members = self._contents[kind], self._members[kind]
            # The numbers of groups with which the sum of the squares of all lacks is smallest.
            per_group = math.fsum(self._weights[s] * rows * rows for s, rows in content)
            ideal = [
                share * members
                + math.fsum(self._weights[s] * rows * lacks[s][part] for s, rows in content)
                / per_group
                for part, share in enumerate(self._shares)
            ]
            found[kind] = counts = _rounded(ideal, members)
            for s, rows in content:
                for part, share in enumerate(self._shares):
                    lacks[s][part] += rows * (share * members - counts[part])
        if len(order) <= _IMPROVED_KINDS:
            self._improve(found, lacks)
        errors = zip(self._weights, lacks, strict=True)
        return math.fsum(weight * lack * lack for weight, each in errors for lack in each), found

    def _improve(self, counts: list[list[int]], lacks: list[list[float]]) -> None:
        """Move a group to another part, or swap two, for as long as that lowers the cost."""
        rows = [[dict(content).get(s, 0) for s in range(len(lacks))] for content in self._contents]
        rows.append([0 for _ in lacks])  # no group, in exchange for one
        swaps = [
            (one, other, [a - b for a, b in zip(rows[one], rows[other], strict=True)])
            for one, other in permutations(range(len(rows)), 2)
        ]
        held = [*counts, [1 for _ in self._shares]]
        may_improve = True
        while may_improve:
            may_improve = False
            for (a, b), (one, other, moved) in product(combinations(range(len(held[0])), 2), swaps):
                if not (held[one][a] and held[other][b]):
                    continue
                change = math.fsum(
                    weight * n * (lack[a] - lack[b] + n)
                    for weight, n, lack in zip(self._weights, moved, lacks, strict=True)
                )
                if change < -self._same_cost:
                    may_improve = True
                    for kind in {one, other} - {len(counts)}:
                        step = 1 if kind == other else -1
                        counts[kind][a] += step
                        counts[kind][b] -= step
                    for n, lack in zip(moved, lacks, strict=True):
                        lack[a] += n
                        lack[b] -= n


def _rounded(ideal: Sequence[float], total: int) -> list[int]:
    """Return the integers, none negative, that are closest to these numbers and have this sum."""
    above, excess = list(range(len(ideal))), 0.0
    while any(ideal[part] < excess for part in above):
        above = [part for part in above if ideal[part] >= excess]
        excess = (math.fsum(ideal[part] for part in above) - total) / len(above)
    counts = [0 for _ in ideal]
    for part in above:
        counts[part] = math.floor(ideal[part] - excess)
    by_remainder = sorted(above, key=lambda part: counts[part] + excess - ideal[part])
    for part in by_remainder[: total - sum(counts)]:
        counts[part] += 1
    return counts


def asked_for(shares: Sequence[float], rows: int) -> list[int]:
    """Return how many rows each part is to have, as `divide` gives without groups."""
    asked: list[int] = []
    left = 1.0
    for share in shares[:-1]:
        asked.append(round(share / max(share, left) * (rows - sum(asked))))
        left -= share
    return [*asked, rows - sum(asked)]


def far_off(parts: Ints, groups: Ints, shares: Sequence[float]) -> str:
    """Describe how far the sizes of parts are off their shares; empty if they are near."""
    sizes = np.bincount(parts, minlength=len(shares)).tolist()
    asked = asked_for(shares, len(parts))
    if all(
        abs(size - wanted) <= _FAR_OFF * len(parts)
        for size, wanted in zip(sizes, asked, strict=True)
    ):
        return ""
    of_groups = np.bincount(groups)
    return (
        f"the parts have {_listed(sizes)} rows instead of {_listed(asked)}:"
        f" the largest of {len(of_groups):,} groups has {of_groups.max():,}"
    )


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
