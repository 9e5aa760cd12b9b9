"""Views of rows: of several files together, and selected but not read."""

from __future__ import annotations

import gc
import mmap
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence, Sized
from itertools import accumulate
from operator import index
from typing import Any, TypeVar, overload

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.typing import DTypeLike, NDArray

from ..errors import UsageError
from ..formats.pickling import no_garbage_collection
from .source import Source

__all__ = [
    "Array",
    "Ints",
    "Items",
    "MappedRows",
    "Rows",
    "locate",
    "read_ahead",
    "release",
    "starts_of",
    "stored_rows",
]

Item = TypeVar("Item")

# How many items to read at once while they are looped over.
_AHEAD = 32

_HINT = "`np.asarray(rows)` is a copy in memory"

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


class MappedRows(np.memmap[Any, np.dtype[Any]]):
    """Consecutive rows of one array, memory mapped.

    Pickled, they and slices of them are what opens them again: numpy would pickle the file.
    Everything else that comes of them, such as their mean, is pickled as numpy does.

    Attributes
    ----------
    origin : (Dataset, str) or None
        The data set and the name of the array whose rows they are.
    """

    origin: tuple[Any, str] | None = None

    def __getitem__(self, key: Any) -> Any:
        rows = super().__getitem__(key)
        if self.origin is not None and isinstance(key, slice) and key.step in (None, 1):
            dataset, name = self.origin
            rows.origin = dataset[key], name
        return rows

    def __reduce__(self) -> Any:
        if self.origin is not None:
            dataset, name = self.origin
            stored = dataset.rows(name)
            if (stored.shape, stored.dtype) == (self.shape, self.dtype):  # both can be assigned
                return type(dataset).map_rows, self.origin
        return super().__reduce__()


class Rows(NDArrayOperatorsMixin):
    """Selected rows of one or more arrays, as one array that is read when it is indexed.

    Integers give views of single rows. Everything else gives copies, for which the rows are read in
    the order in which they are stored. Functions of numpy, and arithmetic, read all rows.

    Parameters
    ----------
    sources : sequence of Source
        Their arrays follow each other; they differ at most in their number of rows.
    array : str
        ``images`` or ``masks-NAME``.
    rows : ndarray of int
        The selected rows, counted over all arrays.

    Attributes
    ----------
    shape : tuple of int
    dtype : dtype
    ndim : int
    """

    def __init__(self, sources: Sequence[Source], array: str, rows: Ints) -> None:
        self._arguments = sources, array, rows
        self._arrays = [source.array(array) for source in sources]
        self._rows = rows
        self._starts = starts_of(self._arrays)
        self.shape: tuple[int, ...] = (len(rows), *self._arrays[0].shape[1:])
        self.dtype = self._arrays[0].dtype
        self.ndim = len(self.shape)

    def __reduce__(self) -> tuple[type[Rows], tuple[Any, ...]]:
        return Rows, self._arguments

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return map(self._row, self._rows.tolist())

    def __repr__(self) -> str:
        return f"<rows of shape {self.shape}, read when they are indexed>"

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("rows that were selected cannot become an array without a copy")
        values: NDArray[Any] = self._read(self._rows).astype(dtype or self.dtype, copy=False)
        return values

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if any(isinstance(out, Rows) for out in kwargs.get("out", ())):
            raise UsageError("the rows of outputs cannot be changed", hint=_HINT)
        values = (np.asarray(value) if isinstance(value, Rows) else value for value in inputs)
        return getattr(ufunc, method)(*values, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if hasattr(np.ndarray, name) and not name.startswith("__"):
            raise _NotAnArrayError(f"rows that are not read yet have no `{name}`", hint=_HINT)
        raise AttributeError(name)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        first, *others = (key if isinstance(key, tuple) else (key,)) or (Ellipsis,)
        values: NDArray[Any]
        is_mask = np.ndim(first) != 1 and np.asarray(first).dtype == bool
        if first is None or first is Ellipsis or is_mask:
            values = self._read(self._rows)
            return values[key]  # type: ignore[no-any-return]
        rows = self._rows[first]
        if np.ndim(rows) == 0:
            values = self._row(int(rows))[None][(0, *others)]
        elif isinstance(first, slice):
            values = self._read(rows)[(slice(None), *others)]
        else:
            values = self._read(rows.ravel())
            places = np.arange(rows.size).reshape(rows.shape)
            # Next to other indices, these count together with them, as in numpy.
            values = (
                values[(places, *others)]
                if others
                else values.reshape(*rows.shape, *self.shape[1:])
            )
        return values

    def stored(self, rows: Sequence[int]) -> Iterator[tuple[NDArray[Any], Ints, Ints]]:
        """Yield what `stored_rows` does, for each of the arrays."""
        numbers = self._rows[rows]
        order = np.argsort(numbers, kind="stable")
        edges = np.searchsorted(numbers[order], self._starts).tolist()
        for part, (array, start) in enumerate(zip(self._arrays, self._starts, strict=False)):
            if len(places := order[edges[part] : edges[part + 1]]):
                yield array, numbers[places] - start, places

    def _row(self, row: int) -> NDArray[Any]:
        part, row = locate(self._starts, row)
        values: NDArray[Any] = self._arrays[part][row]
        return values

    def _read(self, rows: Ints) -> NDArray[Any]:
        values = np.empty((len(rows), *self.shape[1:]), self.dtype)
        for place in np.argsort(rows, kind="stable").tolist():
            values[place] = self._row(int(rows[place]))
        return values


def release(rows: NDArray[Any]) -> None:
    """Release the pages of the file that rows are mapped from.

    They would count as memory of this process.
    """
    if memory_map := _memory_map(rows):
        memory_map.madvise(mmap.MADV_DONTNEED)


def read_ahead(rows: NDArray[Any], numbers: Ints) -> None:
    """Have the system read rows of a file, and nothing but them, without waiting for it.

    Where a row is touched that is not in memory, Linux reads as much as the device has set for
    files that are read from start to end, which may be 8 MB.
    """
    memory_map = _memory_map(rows)
    if memory_map and rows.flags.c_contiguous:
        size = rows[:1].nbytes
        first = rows.ctypes.data - np.frombuffer(memory_map, np.uint8).ctypes.data
        for number in numbers.tolist():
            start = first + number * size
            page = start - start % mmap.PAGESIZE
            memory_map.madvise(mmap.MADV_WILLNEED, page, start + size - page)


def _memory_map(rows: NDArray[Any]) -> mmap.mmap | None:
    base: Any = rows
    while isinstance(base, np.ndarray):
        base = base.base
    return base if isinstance(base, mmap.mmap) else None


Array = NDArray[Any] | Rows


def stored_rows(array: Array, rows: Sequence[int]) -> Iterator[tuple[NDArray[Any], Ints, Ints]]:
    """Yield each array that rows are in, their numbers there and their places among `rows`.

    The numbers are in the order of the file.
    """
    if isinstance(array, Rows):
        yield from array.stored(rows)
    else:
        places = np.argsort(rows, kind="stable")
        yield array, np.asarray(rows)[places], places


class _NotAnArrayError(UsageError, AttributeError):
    """For what only arrays have. As an AttributeError, it lets `hasattr` be false."""


class Items(Sequence[Item]):
    """A read-only sequence with an item for each row, which is read when it is asked for.

    Slices are lists.
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


def _mark_all_objects_old() -> None:
    """Keep the next garbage collections from visiting all objects that were made lately.

    Items are trees, in which there is no garbage, but a collection visits each of their lists. That
    takes several times as long as reading them.
    """
    if gc.get_freeze_count() == 0:  # else a program has objects frozen that are to stay so
        gc.freeze()
        gc.unfreeze()
