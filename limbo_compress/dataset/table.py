"""The table of samples: a column of numpy for each fact, and conditions on it."""

from __future__ import annotations

import json
import math
import operator
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import filenames
from ..errors import InputError, UsageError, nearest, shown
from ..formats import columns
from ..formats.facts import BOOL, FACTS, FLOAT, INT, TEXT, Facts, Scalar, value
from ..formats.index import damage
from .row_views import Ints

if TYPE_CHECKING:
    from .source import Source

__all__ = ["FIXED", "Column", "column_of", "names_of"]

_NO_VALUE = 255
# The columns that any table may have, with the kind of their values, in their order.
_OF_PATHS = {"path": TEXT, "folder": TEXT, "campaign": TEXT}
FIXED = {"row": INT, **_OF_PATHS, **FACTS}
# float64 has all integers up to this one.
_EXACT = 1 << 53
_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)(e[-+]?\d+)?", re.ASCII | re.IGNORECASE)
_TRUTHS = {"true": 1, "1": 1, "false": 0, "0": 0}
_COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class Column(NamedTuple):
    """The values of some rows.

    Attributes
    ----------
    kinds : ndarray of uint8, shape (rows,)
        How each is stored, as `formats.facts` numbers it; 255 where there is none.
    numbers : ndarray of uint64, shape (rows,)
        What is stored.
    texts : sequence of str
        What stored numbers of texts mean.
    """

    kinds: NDArray[np.uint8]
    numbers: NDArray[np.uint64]
    texts: Sequence[str]

    def array(self, kind: int | None = None) -> NDArray[Any]:
        """Return an array of the one type that has all values, as `Dataset.table` documents it.

        Where there is no value, `kind` decides the type.
        """
        found = {*np.unique(self.kinds).tolist()}
        kinds, is_complete = found - {_NO_VALUE}, _NO_VALUE not in found
        if not kinds:
            kinds = {FLOAT if kind is None else kind}
        if kinds == {TEXT}:
            return self._objects(self.texts)
        if kinds == {BOOL}:
            values = self.numbers.astype(bool)
            return values if is_complete else self._objects([False, True])
        if kinds == {INT} and is_complete:
            return _signed(self.numbers)
        if kinds <= {INT, FLOAT} and not self._ints_are_rounded():
            floats = self.numbers.view(np.float64).copy()
            floats[self.kinds == INT] = _signed(self.numbers[self.kinds == INT])
            floats[self.kinds == _NO_VALUE] = np.nan
            return floats
        return np.array([None if v is None else _text(v) for v in self.values()], object)

    def values(self) -> list[Scalar | None]:
        """Return the values as they were, None where there is none."""
        pairs = zip(self.kinds.tolist(), self.numbers.tolist(), strict=True)
        return [self._value(*pair) for pair in pairs]

    def meets(self, sign: str, wanted: str) -> NDArray[np.bool_]:
        """Return which rows meet a condition, as `Dataset.where` documents it.

        Raises
        ------
        ValueError
            If they cannot be compared.
        """
        number, truth = _number(wanted), _TRUTHS.get(wanted.lower())
        meets = np.zeros(len(self.kinds), bool)
        found = {*np.unique(self.kinds).tolist()} - {_NO_VALUE}
        is_order = sign != "="
        if is_order and (number is None or (found and found <= {BOOL, TEXT})):
            raise ValueError("it compares numbers only")
        if found == {BOOL} and truth is None:
            raise ValueError("it is true or false")
        if found != {BOOL} and number is not None:  # 1 means the number, not true
            truth = None
        pattern = _pattern(wanted) if number is None else None
        for kind in found:
            rows = np.flatnonzero(self.kinds == kind)
            if kind == BOOL:
                meets[rows] = (self.numbers[rows] == truth) & (not is_order)
            elif kind != TEXT and number is not None:
                meets[rows] = self._compare(kind, rows, _COMPARISONS[sign], number)
            elif not is_order:
                meets[rows] = self._match(kind, rows, pattern or _pattern(wanted))
        return meets

    def _compare(
        self, kind: int, rows: Ints, comparison: Callable[[Any, Any], Any], number: int | float
    ) -> Any:
        stored = self.numbers[rows]
        if kind == FLOAT:
            return comparison(stored.view(np.float64), _as_float(number))
        is_whole = isinstance(number, float) and number.is_integer()
        return comparison(_signed(stored), int(number) if is_whole else number)

    def _match(self, kind: int, rows: Ints, pattern: re.Pattern[str]) -> Any:
        texts, ids = self.texts, self.numbers[rows].astype(np.intp)
        if kind != TEXT:
            distinct, ids = np.unique(self.numbers[rows], return_inverse=True)
            texts = [_text(self._value(kind, number)) for number in distinct.tolist()]
        is_used, is_found = np.zeros((2, len(texts)), bool)
        is_used[ids] = True
        used = np.flatnonzero(is_used)
        is_found[used] = [pattern.fullmatch(texts[number]) is not None for number in used.tolist()]
        return is_found[ids]

    def _objects(self, meanings: Sequence[Any]) -> NDArray[Any]:
        found = np.full(len(self.kinds), None, object)
        has = self.kinds != _NO_VALUE
        found[has] = np.array([*meanings, None], object)[self.numbers[has]]
        return found

    def _ints_are_rounded(self) -> bool:
        """Whether float64 has not all of the integers."""
        ints = _signed(self.numbers[self.kinds == INT])
        return bool(((ints > _EXACT) | (ints < -_EXACT)).any())

    def _value(self, kind: int, number: int) -> Any:
        return None if kind == _NO_VALUE else value(kind, number, self.texts)


def names_of(sources: Sequence[Source], rows: Ints | None = None) -> tuple[str, ...]:
    """Return the columns in which any of some rows has a value, by default of all rows."""
    found: set[str] = {"row"}
    if all(source.index is not None for source in sources):
        found.update(_OF_PATHS)
    start = 0
    for source in sources:
        facts, stop = source.metadata.facts, start + len(source)
        used = range(len(facts.lists))
        if rows is not None:
            own = rows[(rows >= start) & (rows < stop)] - start
            used = np.unique(np.asarray(facts.places)[own]).tolist()
        found.update(facts.columns[each][0] for number in used for each in facts.lists[number])
        start = stop
    return (*(name for name in FIXED if name in found), *sorted(found.difference(FIXED)))


def column_of(sources: Sequence[Source], rows: Ints, name: str) -> Column:
    """Return a column of some rows of all sources.

    Raises
    ------
    UsageError
        If no sample of the sources has such a fact.
    InputError
        If the outputs do not have it, or are damaged.
    """
    if name == "row":
        return Column(np.full(len(rows), INT, np.uint8), (2 * rows).astype(np.uint64), ())
    if name not in FIXED and name not in (known := names_of(sources)):
        problem = f"there is no column {shown(name)}; the nearest: {nearest([name], known)}"
        raise UsageError(problem)
    parts: list[Column] = []
    texts: list[str] = []
    for source in sources:
        part = _path_column(source, name) if name in _OF_PATHS else _fact_column(source, name)
        part.numbers[part.kinds == TEXT] += len(texts)
        texts += part.texts
        parts.append(part)
    kinds, numbers = (np.concatenate([part[field] for part in parts]) for field in (0, 1))
    return Column(kinds[rows], numbers[rows], texts)


def _fact_column(source: Source, name: str) -> Column:
    found = source.metadata.facts
    places = np.asarray(found.places)
    kinds = np.full(len(places), _NO_VALUE, np.uint8)
    numbers = np.zeros(len(places), np.uint64)
    for column, (its_name, kind) in enumerate(found.columns):
        if its_name == name:
            has_it = np.array([column in each for each in found.lists], bool)
            rows = np.flatnonzero(has_it[places])
            kinds[rows] = kind
            try:
                with damage():
                    numbers[rows] = _decoded(found, column, len(rows))
            except ValueError as error:
                raise InputError(str(error), source.file_path(filenames.METADATA)) from error
    return Column(kinds, numbers, found.texts)


def _decoded(facts: Facts, column: int, samples: int) -> NDArray[np.uint64]:
    numbers = columns.as_numpy(facts.encoded(column))
    if len(numbers) != samples or int(numbers.max(initial=0)) > facts.most(column):
        raise ValueError
    return numbers


def _path_column(source: Source, name: str) -> Column:
    paths = source.metadata.paths
    folders = [source.moved(f"{folder}/") for folder in paths.folders()]
    ids = np.asarray(paths.folder_ids).astype(np.uint64)
    kinds = np.full(len(ids), TEXT, np.uint8)
    if name == "path":
        names = zip(ids.tolist(), paths.names(), strict=True)
        return Column(
            kinds, np.arange(len(ids), dtype=np.uint64), [folders[n] + name for n, name in names]
        )
    if name == "folder":
        return Column(kinds, ids, [folder.rstrip("/") or "/" for folder in folders])
    campaigns = [source.campaign(f"{folder}/") or "" for folder in paths.folders()]
    kinds[np.array([not each for each in campaigns], bool)[ids]] = _NO_VALUE
    return Column(kinds, ids, campaigns)


def _signed(numbers: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return the integers that are stored as numbers with their signs in the lowest bits."""
    one = np.uint64(1)
    return ((numbers >> one) ^ (~(numbers & one) + one)).view(np.int64)


def _text(value: Scalar) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _number(text: str) -> int | float | None:
    if not _NUMBER.fullmatch(text):
        return None
    try:
        return int(text)
    except ValueError:
        return float(text)


def _as_float(number: int | float) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"{shown(text)} is not a regular expression: {error}") from error
