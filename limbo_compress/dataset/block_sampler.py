"""The order of rows for sets that do not fit in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sized

import numpy as np

from ..errors import UsageError

__all__ = ["BlockSampler"]


class BlockSampler:
    """Shuffle blocks of consecutive rows, for sets that do not fit in memory.

    Storage reads a block faster than as many rows in other places, network filesystems above all.
    In return, the rows of a block share a batch. Blocks begin at other rows in each epoch.

    Parameters
    ----------
    samples : sized
        What the ``DataLoader`` reads. Of a selection of rows, only those that follow each other in
        the file are read together.
    block : int
        Rows of a block.
    seed : int
        The same seed and epoch give the same order.
    ranks, rank : int
        The number of processes that train together, and which of them this is, from 0. All get
        the same number of rows: where they do not divide evenly, some rows are repeated.

    Raises
    ------
    UsageError
        If the numbers are out of their range.
    """

    def __init__(
        self, samples: Sized, block: int = 16, seed: int = 0, ranks: int = 1, rank: int = 0
    ) -> None:
        if block < 1 or seed < 0 or not 0 <= rank < ranks:
            found = f"block={block}, seed={seed}, ranks={ranks}, rank={rank}"
            raise UsageError(f"{found}: expected a block from 1, a seed and a rank from 0")
        self._samples = samples
        self._block = block
        self._seed = seed
        self._ranks = ranks
        self._rank = rank
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of an epoch, from 0."""
        self._epoch = epoch

    def __len__(self) -> int:
        return -(-len(self._samples) // self._ranks)

    def __iter__(self) -> Iterator[int]:
        random = np.random.default_rng((self._seed, self._epoch))
        rows = np.arange(len(self._samples))
        first = int(random.integers(self._block))
        blocks = np.split(rows, range(first, len(rows), self._block))
        shuffled = np.concatenate([blocks[place] for place in random.permutation(len(blocks))])
        whole = np.resize(shuffled, len(self) * self._ranks)
        yield from whole.reshape(self._ranks, -1)[self._rank].tolist()
