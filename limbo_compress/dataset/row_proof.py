"""Whether an array belongs to the metadata next to it: a few of its rows against their checksums.

Two jobs may write arrays of one shape, and what is copied or renamed by hand may come apart. Only
all rows prove that an array is the one that was written; `limbo_compress.check` reads them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from .. import deflate

__all__ = ["differing_row"]

# How much is read, and how many rows at least and at most: 0.3 ms with zlib, for rows in memory.
_BYTES, _FEWEST, _MOST = 1 << 20, 2, 8
# How many constant rows in succession are passed over.
_PASSED = 8
# Of long arrays, this many rows at each end and between them are candidates.
_BLOCK = 1024


def differing_row(
    checksums: NDArray[np.uint32], read: Callable[[int], bytes], row_bytes: int, pixel_bytes: int
) -> int | None:
    """Compare a few rows with their CRC-32, and return one that differs; None if none does.

    Sets that share rows, such as a campaign and what it has grown to, mostly differ in all rows
    after some place, or before it. So the last and the first row that can tell sets apart are
    compared, and some between them. Rows that are repeated or constant cannot: in masks, they are
    the samples without the labels.

    Parameters
    ----------
    checksums : ndarray of uint32, shape (rows,)
    read : callable
        Returns the bytes of a row.
    row_bytes, pixel_bytes : int
    """
    for rows in _choices(_distinct(checksums), row_bytes):
        for row in rows:
            values = read(row)
            if deflate.crc32(values) != checksums[row]:
                return row
            if values[pixel_bytes:] != values[:-pixel_bytes]:  # it is not constant
                break
    return None


def _distinct(checksums: NDArray[np.uint32]) -> list[int]:
    """Return candidates in their order, without those that repeat others if there are any."""
    rows = np.arange(len(checksums))
    if len(rows) > 4 * _BLOCK:
        middle = rows[_BLOCK : -_BLOCK : len(rows) // _BLOCK]
        rows = np.concatenate([rows[:_BLOCK], middle, rows[-_BLOCK:]])
    _, first, counts = np.unique(checksums[rows], return_index=True, return_counts=True)
    distinct: list[int] = np.sort(rows[first[counts == 1]]).tolist()
    return distinct or rows.tolist()


def _choices(rows: Sequence[int], row_bytes: int) -> Iterator[Sequence[int]]:
    """Yield rows of which the first that is not constant is to be compared, from either end."""
    yield rows[: -1 - _PASSED : -1]
    yield rows[:_PASSED]
    count = min(max(_BYTES // row_bytes, _FEWEST), _MOST)
    for place in np.linspace(0, len(rows) - 1, count).astype(int)[1:-1].tolist():
        yield rows[place : place + 1]
