"""Facts: single values that the metadata of a sample say, and how the index stores them.

Samples with facts of the same names and types share a list of these. The values of each fact are a
column, of those samples that have it. So facts of some campaigns cost nothing in others.
"""

from __future__ import annotations

import struct
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

from . import columns as encoding

__all__ = [
    "BOOL",
    "FACTS",
    "FLOAT",
    "INT",
    "KINDS",
    "TEXT",
    "Fact",
    "Facts",
    "FactsWriter",
    "Scalar",
    "check_fact",
    "facts",
    "facts_of",
    "resolution",
    "value",
]

Scalar = str | int | float | bool
Fact = tuple[str, Scalar]

# How the values of a column are stored as unsigned numbers: as they are; with the sign in the
# lowest bit; as IEEE 754 numbers of 8 bytes; as the number of a text.
KINDS = BOOL, INT, FLOAT, TEXT = range(4)
_TYPECODES = "BQdI"
_FLOAT, _NUMBER = struct.Struct("<d"), struct.Struct("<Q")
_KINDS: dict[type, int] = {bool: BOOL, int: INT, float: FLOAT, str: TEXT}

# The facts apart from parameters, and how each is stored.
FACTS = {
    **{"width": INT, "height": INT},
    **dict.fromkeys(("license", "license_uri", "copyright", "uri"), TEXT),
    **{"synthetic": BOOL, "has_matte": BOOL, "boxes": INT, "contours": INT},
}
# By the name of the fact, the key of the section ``provenance``.
_PROVENANCE = {
    "license": "license",
    "license_uri": "license-uri",
    "copyright": "copyright",
    "uri": "uri",
}


def facts(metadata: dict[str, Any]) -> dict[str, Scalar]:
    """Return the facts about a sample, as far as its metadata say them.

    Parameters
    ----------
    metadata : dict

    Returns
    -------
    dict of str to (str, int, float or bool)
        ``width`` and ``height`` of the image in pixels; ``license``, ``license_uri``, ``copyright``
        and ``uri`` of the provenance; ``synthetic``, whether it was rendered; ``has_matte``,
        whether it has a cryptomatte; ``boxes`` and ``contours``, how many different ones its
        annotations have; then the scalar parameters by their names, each with a ``/`` in front.
        ``synthetic`` and what follows up to the parameters is always there. Integers of more than
        64 bits are texts.
    """
    found: dict[str, Scalar] = {}
    res = resolution(metadata)
    if isinstance(res, list) and len(res) == 2 and all(map(_is_length, res)):
        found["width"], found["height"] = res
    provenance = metadata.get("provenance")
    if isinstance(provenance, dict):
        for name, key in _PROVENANCE.items():
            if type(value := provenance.get(key)) is str:
                found[name] = value
    synthetic = metadata.get("synthetic")
    found["synthetic"] = isinstance(synthetic, dict)
    section: dict[str, Any] = synthetic if isinstance(synthetic, dict) else {}
    found["has_matte"] = section.get("cryptomatte") is not None
    found["boxes"] = _count_boxes(metadata)
    found["contours"] = _count_contours(metadata)
    parameters = section.get("parameters")
    if isinstance(parameters, dict):
        for name in sorted(parameters):
            if type(value := parameters[name]) not in _KINDS:
                continue
            if _is_long(value):
                value = str(value)
            if name.startswith("/"):
                found[name] = value
            else:  # it could be taken for one of the facts above
                found.setdefault(f"/{name}", value)
    return found


def _is_long(value: Any) -> bool:
    return type(value) is int and not -1 << 63 <= value < 1 << 63


def resolution(metadata: dict[str, Any]) -> Any:
    """Return what the metadata say of the width and the height of the image, unchecked."""
    image = metadata.get("image")
    res = image.get("res") if isinstance(image, dict) else None
    if isinstance(res, list) and len(res) == 1:  # some metadata have [[width, height]]
        return res[0]
    return res


def _is_length(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 63


def _annotated(metadata: dict[str, Any], key: str) -> Iterator[tuple[str | None, Any]]:
    annotations = metadata.get("annotations")
    for annotation in annotations if isinstance(annotations, list) else ():
        if isinstance(annotation, dict) and annotation.get(key) is not None:
            category = annotation.get("category")
            yield category if isinstance(category, str) else None, annotation[key]


def _count_boxes(metadata: dict[str, Any]) -> int:
    boxes = enumerate(_annotated(metadata, "bbox"))
    return len({(category, _key(tuple, box, place)) for place, (category, box) in boxes})


def _count_contours(metadata: dict[str, Any]) -> int:
    alike: defaultdict[object, list[Any]] = defaultdict(list)
    for place, (category, lines) in enumerate(_annotated(metadata, "contours")):
        alike[category, _key(_starts, lines, place)].append(lines)
    return sum(map(_distinct, alike.values()))


def _distinct(contours: list[Any]) -> int:
    """Count different contours that start alike. Hashing all would take 1 % of a sample's time."""
    others = [lines for lines in contours[1:] if lines != contours[0]]
    different = enumerate([contours[0], *others])
    return len({_key(_points, lines, place) for place, lines in different}) if others else 1


def _key(numbers: Callable[[Any], object], value: Any, place: int) -> object:
    """Return what equal values have in common; what is not made of numbers equals nothing."""
    try:
        key = numbers(value)
        hash(key)
    except (TypeError, LookupError):
        return place
    return key


def _starts(lines: Any) -> object:
    return tuple((len(line), *line[0]) for line in lines if line)


def _points(lines: Any) -> object:
    return tuple(tuple(chain.from_iterable(line)) for line in lines if line)


def check_fact(name: Any, value: Any) -> Fact:
    """Return a fact that was read from somewhere else.

    Raises
    ------
    TypeError
        If it is none.
    """
    if type(name) is not str or type(value) not in _KINDS or _is_long(value):
        raise TypeError(name, value)
    return name, value


class FactsWriter:
    """Collects the facts of all samples in the order of their rows.

    Attributes
    ----------
    names, texts : Names
        The names of facts, and the values that are texts.
    lists : DistinctLists
        For each fact, the number of its name times the number of kinds, plus its kind.
    """

    def __init__(self) -> None:
        self.names = encoding.Names()
        self.texts = encoding.Names()
        self.lists = encoding.DistinctLists()
        self._columns: dict[int, array[Any]] = {}

    def append(self, found: Iterable[Fact]) -> None:
        """Add the facts of the next sample."""
        numbers: list[int] = []
        for name, value in found:
            kind, stored = self._stored(value)
            number = len(KINDS) * self.names.number(_bytes(name)) + kind
            if number not in self._columns:
                self._columns[number] = array(_TYPECODES[kind])
            self._columns[number].append(stored)
            numbers.append(number)
        self.lists.append(tuple(numbers))

    def _stored(self, value: Scalar) -> tuple[int, int | float]:
        kind = _KINDS[type(value)]
        if isinstance(value, str):
            return kind, self.texts.number(_bytes(value))
        if kind == INT:
            return kind, int(2 * value if value >= 0 else -2 * value - 1)
        return kind, value

    def columns(self) -> encoding.NewLists:
        """Return the encoded columns, in the order in which the lists first have their facts."""
        found = encoding.NewLists("B")
        for column in self._columns.values():
            if column.typecode == "d":
                column = encoding.unpack(encoding.pack(column), array("Q"))
            found.append(encoding.encode(column))
        return found


@lru_cache(1 << 12)  # texts are names, licenses and the like
def _bytes(text: str) -> bytes:
    # As pickle writes text: JSON may hold lone surrogates.
    return text.encode("utf-8", "surrogatepass")


class Facts:
    """The facts of all samples, as the index has them. Columns are decoded when they are used.

    Parameters
    ----------
    names, texts : list of str
    lists : list of tuple of int
        As `FactsWriter` has them.
    places : array of int, shape (samples,)
        The number of the list of each sample.
    encoded : Lists
        The columns.

    Attributes
    ----------
    columns : list of (str, int)
        The name and the kind of each column.
    lists : list of tuple of int
        The columns in which samples with this list have values.

    Raises
    ------
    ValueError, LookupError
        If they do not belong together.
    """

    def __init__(
        self,
        names: list[str],
        texts: list[str],
        lists: list[tuple[int, ...]],
        places: array[int],
        encoded: encoding.Lists,
    ) -> None:
        kinds = len(KINDS)
        numbers = dict.fromkeys(chain.from_iterable(lists))
        columns = {number: column for column, number in enumerate(numbers)}
        _check(len(columns) == len(encoded) and max(places, default=-1) < len(lists))
        _check(len(set(names)) == len(names))
        _check(all(len({each // kinds for each in found}) == len(found) for found in lists))
        self.columns = [(names[number // kinds], number % kinds) for number in columns]
        _check(all(n.startswith("/") or FACTS.get(n) == kind for n, kind in self.columns))
        self.lists = [tuple(map(columns.__getitem__, found)) for found in lists]
        self.texts, self.places, self._encoded = texts, places, encoded
        self._decoded: dict[int, array[int]] = {}
        self._row, self._ranks = 0, [0] * len(columns)

    def encoded(self, column: int) -> bytes:
        """Return the stored numbers of the samples that have a value in a column, encoded."""
        return bytes(self._encoded[column])

    def most(self, column: int) -> int:
        """Return the largest number that a column may hold."""
        return {BOOL: 1, TEXT: len(self.texts) - 1}.get(self.columns[column][1], 2**64 - 1)

    def of(self, row: int) -> tuple[Fact, ...]:
        """Return the facts that a sample was added with; fast if rows are asked for in order.

        Raises
        ------
        ValueError, LookupError, OverflowError, struct.error
            If a column is damaged.
        """
        self._go_to(row)
        found = []
        for column in self.lists[self.places[row]]:
            name, kind = self.columns[column]
            number = self._numbers(column)[self._ranks[column]]
            found.append((name, value(kind, number, self.texts)))
        return tuple(found)

    def _go_to(self, row: int) -> None:
        """Count the values that each column has before a row."""
        if row < self._row:
            self._row, self._ranks = 0, [0] * len(self.columns)
        for place in self.places[self._row : row]:
            for column in self.lists[place]:
                self._ranks[column] += 1
        self._row = row

    def _numbers(self, column: int) -> array[int]:
        if column not in self._decoded:
            numbers = encoding.decode(self.encoded(column))
            _check(max(numbers, default=0) <= self.most(column))
            self._decoded[column] = numbers
        return self._decoded[column]


def value(kind: int, number: int, texts: Sequence[str]) -> Scalar:
    """Return the value of a kind that is stored as a number."""
    if kind == FLOAT:
        found: float = _FLOAT.unpack(_NUMBER.pack(number))[0]
        return found
    if kind == TEXT:
        return texts[number]
    if kind == BOOL:
        return bool(number)
    return -(number + 1 >> 1) if number & 1 else number >> 1


def facts_of(samples: Iterable[dict[str, Any]]) -> Facts:
    """Make the facts of all samples from their metadata."""
    writer = FactsWriter()
    for metadata in samples:
        writer.append(facts(metadata).items())
    names, texts = (encoding.texts(each.texts.finish()) for each in (writer.names, writer.texts))
    lists = writer.lists.lists.finish()
    kinds = [tuple(lists[number]) for number in range(len(lists))]
    return Facts(names, texts, kinds, writer.lists.places, writer.columns().finish())


def _check(is_whole: bool) -> None:
    if not is_whole:
        raise ValueError("these facts do not belong together")
