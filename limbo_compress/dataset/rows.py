"""Rows: of several parts together, selected but not read, divided at random; and their colours."""

from __future__ import annotations

import gc
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence, Sized
from functools import cache
from itertools import accumulate
from operator import index
from typing import Any, TypeVar, overload

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..formats.pickling import no_garbage_collection

__all__ = ["Ints", "Items", "Rows", "locate", "split", "srgb_levels", "srgb_table", "starts_of"]

Item = TypeVar("Item")

# How many items to read at once while they are looped over.
_AHEAD = 32

Ints = NDArray[np.intp]


def starts_of(parts: Sequence[Sized]) -> list[int]:
    """Return the number, over all parts together, of the first row of each, and of all rows.

    Examples
    --------
    >>> starts_of(["abc", "de"])
    [0, 3, 5]
    """
    return [0, *accumulate(map(len, parts))]


def locate(starts: Sequence[int], row: int) -> tuple[int, int]:
    """Return the part that a row is in, and the number of the row there.

    Examples
    --------
    >>> locate([0, 3, 5], 4)
    (1, 1)
    """
    part = bisect_right(starts, row) - 1
    return part, row - starts[part]


class Rows:
    """Selected rows of one or more arrays, as one array that is read when it is indexed.

    Integers give views of single rows. Everything else gives copies, for which the rows are read in
    the order in which they are stored.

    Parameters
    ----------
    arrays : sequence of ndarray
        One after the other; they differ at most in their number of rows.
    rows : ndarray of int
        The selected rows, counted over all arrays.

    Attributes
    ----------
    shape : tuple of int
    dtype : dtype
    ndim : int
    """

    def __init__(self, arrays: Sequence[NDArray[Any]], rows: Ints) -> None:
        self._arrays = arrays
        self._rows = rows
        self._starts = starts_of(arrays)
        self.shape: tuple[int, ...] = (len(rows), *arrays[0].shape[1:])
        self.dtype = arrays[0].dtype
        self.ndim = len(self.shape)

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return map(self._row, self._rows.tolist())

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("rows that were selected cannot become an array without a copy")
        values: NDArray[Any] = self._read(self._rows).astype(dtype or self.dtype, copy=False)
        return values

    def __getitem__(self, key: Any) -> NDArray[Any]:
        first, *others = key if isinstance(key, tuple) else (key,)
        values: NDArray[Any]
        if first is None or first is Ellipsis:
            values = self._read(self._rows)[key]
        elif np.ndim(rows := self._rows[first]) == 0:
            values = self._row(int(rows))[tuple(others)]
        else:
            values = self._read(rows)[(slice(None), *others)]
        return values

    def _row(self, row: int) -> NDArray[Any]:
        part, row = locate(self._starts, row)
        values: NDArray[Any] = self._arrays[part][row]
        return values

    def _read(self, rows: Ints) -> NDArray[Any]:
        if rows.ndim != 1:
            raise IndexError("rows are selected by a number, a slice, or one dimension of either")
        values = np.empty((len(rows), *self.shape[1:]), self.dtype)
        for place in np.argsort(rows, kind="stable").tolist():
            values[place] = self._row(int(rows[place]))
        return values


class Items(Sequence[Item]):
    """A read-only sequence with an item for each row, which is read when it is asked for.

    Slices are lists.

    Parameters
    ----------
    rows : ndarray of int
        The rows, as `read` counts them.
    read : callable
        Returns the item of a row.
    """

    def __init__(self, rows: Ints, read: Callable[[int], Item]) -> None:
        self._rows = rows
        self._read = read

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, key: int) -> Item: ...

    @overload
    def __getitem__(self, key: slice) -> list[Item]: ...

    def __getitem__(self, key: int | slice) -> Item | list[Item]:
        if isinstance(key, slice):
            with no_garbage_collection():
                items = [self._read(row) for row in self._rows[key].tolist()]
                _mark_all_objects_old()
                return items
        return self._read(int(self._rows[index(key)]))

    def __iter__(self) -> Iterator[Item]:
        for start in range(0, len(self), _AHEAD):
            yield from self[start : start + _AHEAD]

    def __repr__(self) -> str:
        return f"<{len(self)} items, read one at a time>"


@cache
def srgb_table() -> NDArray[np.float16]:
    """Every float16 value of linear light in sRGB (IEC 61966-2-1).

    Returns
    -------
    array of float16, shape (65536,)
        Its index is the bit pattern of the linear value. Negative values become 0.
    """
    bits = np.arange(1 << 16, dtype=np.uint16)
    with np.errstate(invalid="ignore"):  # signalling NaNs stay NaNs
        return _srgb_curve(np.maximum(bits.view(np.float16).astype(np.float64), 0)).astype(
            np.float16
        )


@cache
def srgb_levels() -> NDArray[np.uint8]:
    """The 8-bit sRGB level of every float16 value of linear light (IEC 61966-2-1).

    Returns
    -------
    array of uint8, shape (65536,)
        Its index is the bit pattern of the linear value. What is no number becomes 0.
    """
    bits = np.arange(1 << 16, dtype=np.uint16)
    with np.errstate(invalid="ignore"):  # signalling NaNs
        light = np.nan_to_num(bits.view(np.float16).astype(np.float64)).clip(0, 1)
    levels: NDArray[np.uint8] = np.rint(255 * _srgb_curve(light)).astype(np.uint8)
    return levels


def _srgb_curve(light: NDArray[np.float64]) -> NDArray[np.float64]:
    curve = 1.055 * light ** (1 / 2.4) - 0.055
    return np.where(light <= 0.0031308, 12.92 * light, curve)


def _mark_all_objects_old() -> None:
    """Keep the next garbage collections from visiting all objects that were made lately.

    Items are trees, in which there is no garbage, but a collection visits each of their lists. That
    takes several times as long as reading them.
    """
    if gc.get_freeze_count() == 0:  # else a program has objects frozen that are to stay so
        gc.freeze()
        gc.unfreeze()


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
