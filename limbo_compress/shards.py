"""Pure arithmetic: a number of samples to disjoint ranges that cover each of them once."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["shard_size", "split"]

# Enough shards that many workers end at about the same time, large enough that a shard's
# fixed costs (a message each way, a mapping, a part-file) vanish beside its samples.
_SHARDS_WANTED = 64
_LARGEST = 32


def shard_size(samples: int) -> int:
    """Number of samples that a shard should hold, from the number of samples alone.

    Examples
    --------
    >>> shard_size(4), shard_size(200), shard_size(100_000)
    (1, 3, 32)
    """
    return max(1, min(_LARGEST, samples // _SHARDS_WANTED))


def split(gaps: Iterable[range], size: int) -> list[range]:
    """Cut ranges of rows into shards.

    Parameters
    ----------
    gaps : iterable of range
        Disjoint ranges of rows, of step 1.
    size : int
        The largest number of rows of a shard, at least 1.

    Returns
    -------
    list of range
        Non-empty and disjoint, in the order of the gaps.

    Examples
    --------
    >>> split([range(0, 5), range(8, 9)], 2)
    [range(0, 2), range(2, 4), range(4, 5), range(8, 9)]
    """
    return [gap[at : at + size] for gap in gaps for at in range(0, len(gap), size)]
