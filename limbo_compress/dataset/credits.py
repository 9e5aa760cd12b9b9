"""Whom to credit for rows: copyrights, licenses, sources, and what to cite."""

from __future__ import annotations

import logging
import textwrap
from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, shown
from .citations import OWNER, PAPER, RULES, TERMS, report
from .dataset import Dataset
from .row_views import Ints

__all__ = ["Credits", "citation", "find_credits"]

_log = logging.getLogger("limbo_compress")

_PROVENANCE = ("copyright", "license", "license_uri", "uri")
_COLUMNS = (*_PROVENANCE, "campaign")
_NAMES = ("copyright: ", "license: ", "license at: ", "source: ")
_MAX_TEXT, _WIDTH = 2000, 100
_HEAD = (
    "CREDITS",
    "",
    "Whom to credit for the pictures that came with this file, as the metadata of their samples say"
    " it, and what to cite. Pictures are named after the numbers of their rows. Keep this file with"
    " them.",
)
_NOTHING = "not known: no copyright, license or source is given"


class Credits(NamedTuple):
    """What some rows say.

    Attributes
    ----------
    rows : ndarray of int, shape (rows,)
        Their numbers.
    said : ndarray of object, shape (rows, 5)
        Copyright, license, address of the license, source and campaign of each: str, or None.
    """

    rows: Ints
    said: NDArray[np.object_]

    def of(self, chosen: NDArray[np.bool_]) -> Credits:
        """Return those of some of the rows."""
        return Credits(self.rows[chosen], self.said[chosen])

    def groups(self, *columns: int) -> dict[tuple[str | None, ...], list[int]]:
        """Return the rows that say the same in some columns of `said`; those of nothing last."""
        found: defaultdict[tuple[str | None, ...], list[int]] = defaultdict(list)
        said = self.said[:, list(columns)].tolist()
        for row, texts in zip(self.rows.tolist(), said, strict=True):
            found[tuple(texts)].append(row)
        return dict(sorted(found.items(), key=lambda item: not any(item[0])))

    @property
    def unlicensed(self) -> int:
        """How many rows name no license."""
        return sum(license is None for license in self.said[:, 1])

    def text(self) -> str:
        """Describe them as the text of a file CREDITS."""
        return "".join(f"{line}\n" for line in (*map(_wrapped, _HEAD), *self._lines()))

    def _lines(self) -> Iterator[str]:
        for texts, rows in self.groups(0, 1, 2, 3).items():
            yield f"\n{_numbered(rows)}"
            named = zip(_NAMES, texts, strict=True)
            found = [f"  {name}{shown(text, _MAX_TEXT)}" for name, text in named if text]
            yield from found or [f"  {_NOTHING}"]
        yield f"\n{self.unlicensed:,} of {len(self.rows):,} rows name no license."
        yield "\nWhat to cite"
        for (campaign,), rows in self.groups(4).items():
            yield f"\n{_numbered(rows)}"
            yield f"  {citation(campaign)}"
        yield f"\nLimbo's terms of use: {TERMS}"
        yield from map(_wrapped, (*RULES, f"For synthetic images: {OWNER}", PAPER))


def citation(campaign: str | None) -> str:
    """Say in one line what to cite for a campaign; None means that it is not known."""
    if campaign is None:
        return "campaign not known: if it is one of Limbo's, cite its SAND report"
    found = report(campaign) or "cite the campaign's SAND report, which Limbo's terms do not list"
    return f"{shown(campaign)}: {found}"


def find_credits(dataset: Dataset) -> Credits:
    """Read whom to credit for the rows of a data set. What nothing says is None.

    Not all exports need metadata. If those of a prefix cannot be read, all of it is None, and a
    warning says so.
    """
    numbers, start = dataset.row_numbers, 0
    said = np.full((len(numbers), len(_COLUMNS)), None, object)
    for _, prefix in dataset.prefixes:
        stop = start + len(prefix)
        places = np.flatnonzero((numbers >= start) & (numbers < stop))
        if prefix.metadata is not None:
            rows = prefix.select(numbers[places] - start)
            try:
                table = rows.table(set(_COLUMNS).intersection(rows.columns))
            except InputError as error:
                _log.warning("%s; whom to credit is not known", error)
                table = {}
            for name, values in table.items():
                said[places, _COLUMNS.index(name)] = values
        start = stop
    return Credits(numbers, said)


def _numbered(rows: list[int]) -> str:
    """Write numbers of rows, consecutive ones as a range."""
    parts = np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1)
    ranges = (f"{part[0]}" if len(part) == 1 else f"{part[0]}-{part[-1]}" for part in parts)
    return _wrapped(f"{len(rows):,} row{'s' * (len(rows) > 1)}: {', '.join(ranges)}")


def _wrapped(text: str) -> str:
    return textwrap.fill(text, _WIDTH, break_long_words=False, break_on_hyphens=False)
