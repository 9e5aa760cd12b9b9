"""What a data set says about its samples, one at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from operator import index
from typing import TypeVar, overload

from .plain import no_garbage_collection
from .rows import Ints

__all__ = ["Items"]

Item = TypeVar("Item")


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
                return [self._read(row) for row in self._rows[key].tolist()]
        return self._read(int(self._rows[index(key)]))

    def __iter__(self) -> Iterator[Item]:
        return map(self._read, self._rows.tolist())

    def __repr__(self) -> str:
        return f"<{len(self)} items, read one at a time>"
