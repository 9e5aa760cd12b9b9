"""Pure arithmetic: a number of samples to disjoint ranges that cover each of them once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

__all__ = ["split"]

# Large enough that a shard's fixed costs (a message each way, a mapping, a part-file) vanish
# beside its samples, small enough that a killed job loses little.
_LARGEST = 32
_SHARDS_AHEAD = 4


def split(gaps: Sequence[range], workers: int) -> list[range]:
    """Cut ranges of rows into shards.

    They get smaller towards the end, so that all workers end at about the same time: a shard
    is a quarter of a worker's share of what is left, as in the guided self-scheduling of
    Polychronopoulos and Kuck (IEEE Transactions on Computers C-36, 1987).

    Parameters
    ----------
    gaps : sequence of range
        Disjoint ranges of rows, of step 1.
    workers : int
        How many will share the work, at least 1.

    Returns
    -------
    list of range
        Non-empty and disjoint, in the order of the gaps.

    Examples
    --------
    >>> split([range(0, 40), range(50, 52)], 1)[:3]
    [range(0, 10), range(10, 18), range(18, 24)]
    """
    return list(_split(gaps, workers))


def _split(gaps: Sequence[range], workers: int) -> Iterable[range]:
    left = sum(map(len, gaps))
    for gap in gaps:
        while gap:
            size = min(_LARGEST, max(1, left // (_SHARDS_AHEAD * workers)))
            shard, gap = gap[:size], gap[size:]
            left -= len(shard)
            yield shard
