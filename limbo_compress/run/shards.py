"""Split rows into shards: disjoint ranges that cover each row once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

__all__ = ["split"]

# Large enough to make a shard's fixed costs (two messages, a mapping, a shard record) negligible,
# small enough that a killed job loses little.
_LARGEST = 32
_SHARDS_AHEAD = 4


def split(missing: Sequence[range], workers: int, smallest: int = 1) -> list[range]:
    """Cut ranges of rows into shards.

    They get smaller towards the end, so that all workers finish at about the same time: a shard
    is a quarter of a worker's share of the remaining rows, as in the guided self-scheduling of
    Polychronopoulos and Kuck (IEEE Transactions on Computers C-36, 1987).

    Parameters
    ----------
    missing : sequence of range
        Disjoint ranges of rows, of step 1.
    workers : int
        Number of workers, at least 1.
    smallest : int
        The fewest rows worth a shard, where each costs the executor much.

    Returns
    -------
    list of range
        Non-empty and disjoint, in the order of `missing`.

    Examples
    --------
    >>> split([range(0, 40), range(50, 52)], 1)[:3]
    [range(0, 10), range(10, 18), range(18, 24)]
    """
    return list(_split(missing, workers, smallest))


def _split(missing: Sequence[range], workers: int, smallest: int) -> Iterable[range]:
    left = sum(map(len, missing))
    for rows in missing:
        while rows:
            size = max(smallest, min(_LARGEST, left // (_SHARDS_AHEAD * workers)))
            shard, rows = rows[:size], rows[size:]
            left -= len(shard)
            yield shard
