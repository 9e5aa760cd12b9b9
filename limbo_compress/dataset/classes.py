"""Which categories are meant, and the numbers of classes: the same in every view and export."""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from ..errors import UsageError, nearest, shown

__all__ = [
    "Classes",
    "Wanted",
    "find_classes",
    "listed",
    "matching",
    "unseen",
    "warn",
    "warn_unseen",
]

# A message stays one readable line.
_MOST_NAMED = 20

_PACKAGE = __name__.partition(".")[0]

Wanted = str | Iterable[str] | Mapping[str, str]


@dataclass(frozen=True)
class Classes:
    """The classes of boxes.

    Attributes
    ----------
    names : tuple of str
        In the order of their numbers.
    places : dict of str to int
        For each category that belongs to a class, the place of the class in `names`.
    """

    names: tuple[str, ...]
    places: dict[str, int]


def find_classes(
    known: Collection[str], labels: Wanted | None = None, names: Iterable[str] | None = None
) -> Classes:
    """Number the classes of boxes.

    Each of `names` is a class, by default each category, in alphabetical order. `labels` are one
    class of several categories, or a regular expression for each class; a category belongs to the
    first class that finds it. `known` are all categories of the prefixes, so that the numbers do
    not depend on the chosen rows.
    """
    if labels is None:
        if isinstance(names, set | frozenset):
            raise UsageError("a set has no order to number classes by", hint="give a list of names")
        chosen = sorted(known) if names is None else listed(names)
        return Classes(tuple(chosen), {name: place for place, name in enumerate(chosen)})
    places: dict[str, int] = {}
    for place, categories in enumerate(matching(labels, known)):
        places = dict.fromkeys(sorted(categories), place) | places
    one_class = labels if isinstance(labels, Mapping) else [", ".join(sorted(places))]
    return Classes(tuple(one_class), places)


def matching(wanted: Wanted, known: Iterable[str]) -> list[frozenset[str]]:
    """Return the categories that each label means, which are as in `find_classes`."""
    if not isinstance(wanted, Mapping):
        return [frozenset(listed(wanted))]
    if not wanted:
        raise UsageError("`labels` names no label")
    return [_search(pattern, known) for pattern in wanted.values()]


def listed(names: str | Iterable[str]) -> list[str]:
    """Return names of categories as a list; a text is one name."""
    if isinstance(names, str):
        return [names]
    found: list[object] = []
    # An array holds a value for each row, even one of texts.
    if isinstance(names, Iterable) and not hasattr(names, "__array__"):
        found = list(names)
    if not found or not all(isinstance(name, str) for name in found):
        what = shown(f"{type(names).__name__} {names!r}".replace("\n", " "))
        raise UsageError(f"expected names of categories, not {what}", hint='such as {"48G", "48X"}')
    if len(set(found)) < len(found):
        raise UsageError("a category is named twice", hint="labels for each row are numbers")
    return [str(name) for name in found]


def unseen(wanted: Wanted, known: Collection[str]) -> str:
    """Describe the wanted categories and patterns that match nothing; empty if there are none."""
    if isinstance(wanted, Mapping):
        missing = [_text(pattern) for pattern in wanted.values() if not _search(pattern, known)]
        problem = "no category matches"
    else:
        missing = sorted(set(listed(wanted)).difference(known))
        problem = "no sample has the category"
    if not missing:
        return ""
    named = " or ".join(map(shown, missing[:_MOST_NAMED]))
    return f"{problem} {named}; the nearest: {nearest(missing, known)}"


def warn_unseen(what: str, wanted: Wanted, known: Collection[str]) -> None:
    """Warn of wanted categories and patterns that match nothing."""
    if problem := unseen(wanted, known):
        warn(f"{what}: {problem}")


def warn(message: str) -> None:
    """Warn at the place that called this package."""
    level, frame = 1, sys._getframe()
    while frame.f_back and frame.f_globals["__name__"].startswith(_PACKAGE):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, stacklevel=level)


def _text(pattern: str | re.Pattern[str]) -> str:
    return pattern if isinstance(pattern, str) else pattern.pattern


def _search(pattern: str, known: Iterable[str]) -> frozenset[str]:
    try:
        return frozenset(category for category in known if re.search(pattern, category))
    except (re.error, TypeError) as error:
        raise UsageError(f"labels: {pattern!r} is not a regular expression: {error}") from error
