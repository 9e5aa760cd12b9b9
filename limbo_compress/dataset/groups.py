"""Groups: rows that belong together, such as a sample and its background, and split as one."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import deflate, filenames
from ..errors import UsageError, shown
from .row_views import Ints

if TYPE_CHECKING:
    from .dataset import Dataset

__all__ = ["Groups", "group_rows"]

Groups = str | ArrayLike | Sequence[Hashable]

_PAIRED = re.compile(r"(?:image|background)_0*(\d+)\.json")
_BLOCK = re.compile(r"block:([1-9]\d{0,8})")
_KINDS = "`groups` is folder, campaign, pair, duplicate, block:N, a column of `Dataset.table`"
# Rows that are read before their pages are released.
_READ = 256


def group_rows(
    dataset: Dataset, by: Groups, tell: Callable[[str], None], rows: Ints | slice = slice(None)
) -> Ints:
    """Number the groups of rows, as `Dataset.groups` documents it; `tell` gets what is odd.

    Of the rows of `dataset`, those chosen by `rows` are grouped. An array has a value for each row
    of `dataset`.
    """
    if isinstance(by, tuple):
        if not by:
            raise UsageError("`groups` names none", hint=_KINDS)
        return _joined([group_rows(dataset, each, tell, rows) for each in by])
    if isinstance(by, str):
        return _numbered(_values(dataset.select(rows), by), by, tell)
    return _numbered(_given(by, len(dataset), rows), "value in `groups`", tell)


def _values(dataset: Dataset, by: str) -> Iterable[Hashable]:
    """Return a value for each row, which rows of a group share."""
    if by == "duplicate":
        return _pixels(dataset)
    if by == "pair":
        return map(_pair, _column(dataset, "path"))
    if match := _BLOCK.fullmatch(by):
        return _blocks(dataset, int(match[1]))
    return _column(dataset, by)


def _column(dataset: Dataset, name: str) -> list[Any]:
    try:
        values: list[Any] = dataset.table([name])[name].tolist()
    except UsageError as error:
        error.add_hint(_KINDS)
        raise
    return values


def _given(values: Any, count: int, rows: Ints | slice) -> Iterable[Hashable]:
    try:
        found = np.asarray(values)
    except ValueError as error:
        raise UsageError(f"`groups` takes a value for each row: {error}") from error
    if found.shape[:1] != (count,):
        raise UsageError(f"`groups` takes {count} values, not {found.shape}", hint=_KINDS)
    found = found[rows]
    return found.tolist() if found.ndim == 1 else map(tuple, found.reshape(len(found), -1).tolist())


def _numbered(values: Iterable[Hashable], what: str, tell: Callable[[str], None]) -> Ints:
    """Number distinct values from 0. A row without one is a group of its own, and is told of."""
    known: dict[Hashable, int] = {}
    numbers: list[int] = []
    unknown = 0
    try:
        for value in values:
            if _is_missing(value):
                unknown += 1
                value = object()
            numbers.append(known.setdefault(value, len(known)))
    except TypeError as error:
        raise UsageError(f"`groups` takes a value for each row: {error}") from error
    if unknown:
        problem = f"{unknown:,} of {len(numbers):,} rows have no {shown(what)}"
        if unknown == len(numbers):
            raise UsageError(problem, hint=_KINDS)
        tell(f"groups: {problem}, and each of them is a group of its own")
    return np.array(numbers, np.intp)


def _is_missing(value: object) -> bool:
    try:
        return value is None or bool(value != value)
    except TypeError:  # pandas.NA has no truth value
        return True


def _pair(path: str) -> Hashable:
    """Return the folder and the number of ``image_N`` and ``background_N``, else the path."""
    folder, _, name = path.rpartition("/")
    match = _PAIRED.fullmatch(name)
    return (folder, match[1]) if match else path


def _blocks(dataset: Dataset, size: int) -> list[Hashable]:
    """Return the folder and the stretch of `size` rows in it that each row is in.

    All rows of the prefixes count, so that a view of them has the same blocks.
    """
    paths = [path for _, rows in dataset.prefixes for path in _column(rows, "path")]
    ranks: Counter[str] = Counter()
    blocks: dict[str, Hashable] = {}
    for path in sorted(set(paths)):
        folder = path.rpartition("/")[0]
        blocks[path] = folder, ranks[folder] // size
        ranks[folder] += 1
    return [blocks[paths[row]] for row in dataset.row_numbers.tolist()]


def _pixels(dataset: Dataset) -> list[Hashable]:
    """Return a value for each row that rows with equal images share.

    Rows with different checksums differ. Of the others, the pixels decide.
    """
    images = dataset.rows(filenames.IMAGES)
    _, number, counts = np.unique(_checksums(dataset), return_inverse=True, return_counts=True)
    values: list[Hashable] = list(range(len(dataset)))
    for place in np.flatnonzero(counts[number] > 1).tolist():
        values[place] = hashlib.blake2b(_bytes(images[place])).digest()
        if place % _READ == 0:
            dataset.release()
    return values


def _checksums(dataset: Dataset) -> NDArray[np.uint32]:
    """Return the CRC-32 of each row's image, from the index where it has them."""
    numbers = dataset.row_numbers
    images = dataset.rows(filenames.IMAGES)
    sums = np.empty(len(numbers), np.uint32)
    for source, start, rows in dataset.parts():
        places = np.flatnonzero((numbers >= start) & (numbers < start + len(source)))
        known = source.index.row_checksums(filenames.IMAGES) if source.index else None
        if known is not None:
            sums[places] = np.asarray(known)[rows]
            continue
        for place in places.tolist():
            sums[place] = deflate.crc32(_bytes(images[place]))
            if place % _READ == 0:
                dataset.release()
    return sums


def _bytes(row: NDArray[Any]) -> memoryview:
    return np.ascontiguousarray(row).data


def _joined(kinds: Sequence[Ints]) -> Ints:
    """Join groups of several kinds that share rows: the components of a graph of groups."""
    joined = kinds[0]
    for kind in kinds[1:]:
        groups = int(joined.max(initial=-1)) + 1
        ends = joined, kind + groups  # each row is an edge
        lowest = np.arange(groups + int(kind.max(initial=-1)) + 1)
        while (lowest[ends[0]] != lowest[ends[1]]).any():
            found = np.minimum(lowest[ends[0]], lowest[ends[1]])
            for end in ends:
                np.minimum.at(lowest, lowest[end], found)
            lowest = lowest[lowest]
        joined = np.unique(lowest[joined], return_inverse=True)[1]
    return joined
