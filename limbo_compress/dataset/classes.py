"""Which categories are meant, and the numbers of classes: the same in every view and export."""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeGuard

from .. import vocabulary
from ..errors import UsageError, nearest, shown

if TYPE_CHECKING:
    from .dataset import Dataset

__all__ = [
    "Classes",
    "Labels",
    "Wanted",
    "doubts",
    "find_classes",
    "listed",
    "matching",
    "meant",
    "unseen",
    "warn",
    "warn_unseen",
]

# A message stays one readable line.
_MOST_NAMED = 20

_PACKAGE = __name__.partition(".")[0]

# For each label a regular expression, a set of the vocabulary such as @type-48, or names.
Labels = Mapping[str, str | Collection[str]]
Wanted = str | Iterable[str] | Labels


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
    class of several categories, or for each class a regular expression or names. A category belongs
    to the first class that has it. `known` are all categories of the prefixes, so that the numbers
    do not depend on the chosen rows.
    """
    if labels is None:
        if isinstance(names, set | frozenset):
            raise UsageError("a set has no order to number classes by", hint="give a list of names")
        chosen = sorted(known) if names is None else listed(names)
        classes = [meant(name, known) for name in chosen]
    else:
        classes = matching(labels, known)
        one_class = [", ".join(sorted(classes[0]))]
        chosen = list(labels) if isinstance(labels, Mapping) else one_class
    places: dict[str, int] = {}
    for place, categories in enumerate(classes):
        places = dict.fromkeys(sorted(categories), place) | places
    return Classes(tuple(chosen), places)


def matching(wanted: Wanted, known: Collection[str]) -> list[frozenset[str]]:
    """Return the categories that each label means, which are as in `find_classes`."""
    if not isinstance(wanted, Mapping):
        return [meant(wanted, known)]
    if not wanted:
        raise UsageError("`labels` names no label")
    return [
        _search(label, known) if _is_pattern(label) else meant(label, known)
        for label in wanted.values()
    ]


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
    """Describe the wanted categories and patterns that match nothing; empty if there are none.

    Of a whole set of the vocabulary, one name is enough.
    """
    patterns: list[str] = []
    names: set[str] = set()
    for label in wanted.values() if isinstance(wanted, Mapping) else [listed(wanted)]:
        if not _is_pattern(label):
            names |= _missing(meant(label, known), known)
        elif not _search(label, known):
            patterns.append(_text(label))
    problems = {"no category matches": patterns, "no sample has the category": sorted(names)}
    return "; ".join(
        f"{problem} {' or '.join(map(shown, absent[:_MOST_NAMED]))};"
        f" the nearest: {nearest(absent, known)}"
        for problem, absent in problems.items()
        if absent
    )


def doubts(wanted: Wanted, dataset: Dataset) -> str:
    """Describe what is `unseen`, and by which names rows that are left out may have the labels."""
    labels = frozenset().union(*matching(wanted, dataset.classes))
    problems = [unseen(wanted, dataset.classes)]
    for name, left_out in vocabulary.overlooked(labels, dataset.category_sets).items():
        names = ", ".join(left_out)
        problems.append(f"this leaves out {names}, which may mean the same: {name} has all of them")
    return "; ".join(filter(None, problems))


def warn_unseen(what: str, wanted: Wanted, dataset: Dataset) -> None:
    """Warn of `doubts`."""
    if problem := doubts(wanted, dataset):
        warn(f"{what}: {problem}")


def warn(message: str) -> None:
    """Warn at the place that called this package."""
    level, frame = 1, sys._getframe()
    while frame.f_back and frame.f_globals["__name__"].startswith(_PACKAGE):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, stacklevel=level)


def _is_pattern(label: object) -> TypeGuard[str | re.Pattern[str]]:
    return not label.startswith("@") if isinstance(label, str) else isinstance(label, re.Pattern)


def meant(names: str | Iterable[str], known: Collection[str]) -> frozenset[str]:
    """Return the categories of these names, of which some may be sets of the vocabulary.

    A category that is `known` means itself, even if its name begins with ``@``.
    """
    found = (
        vocabulary.named(name) if name.startswith("@") and name not in known else {name}
        for name in listed(names)
    )
    return frozenset().union(*found)


def _missing(wanted: frozenset[str], known: Collection[str]) -> frozenset[str]:
    missing = wanted.difference(known)
    for names in vocabulary.NAMES.values():
        if names <= wanted and not names.isdisjoint(known):
            missing -= names
    return missing


def _text(pattern: str | re.Pattern[str]) -> str:
    return pattern if isinstance(pattern, str) else pattern.pattern


def _search(pattern: str | re.Pattern[str], known: Iterable[str]) -> frozenset[str]:
    try:
        return frozenset(category for category in known if re.search(pattern, category))
    except (re.error, TypeError) as error:
        raise UsageError(f"labels: {pattern!r} is not a regular expression: {error}") from error
