"""What a data card and Croissant say of a data set, from its index and the sizes of its files."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..dataset.citations import report
from ..dataset.credits import Credits, find_credits
from ..dataset.dataset import Dataset
from ..dataset.provenance import Provenance, provenance
from ..errors import UsageError, shown
from .summary import File, describe_files
from .views.unfinished import unfinished

__all__ = ["Description", "counted", "describe", "write_text"]

# A longer command is not shown: one that is cut makes something else.
_MAX_COMMAND = 4000


@dataclass(frozen=True)
class Description:
    """What is known of a data set without reading its images."""

    name: str
    text: str  # what it is
    rows: int
    total: int
    prefixes: Mapping[str, int]  # chosen rows of each
    files: Sequence[File]
    categories: Mapping[str, int]  # rows of each, the most frequent first
    # Rows that were rendered, or have any of these; None if there are no metadata.
    synthetic: int | None
    mattes: int | None
    boxes: int | None
    contours: int | None
    credits: Credits
    made: Sequence[tuple[str, str]]  # how: a line for each prefix, and the command if it is known

    @cached_property
    def campaigns(self) -> dict[str | None, int]:
        """Rows of each campaign; None is the name of those whose path names none."""
        return {name: len(rows) for (name,), rows in self.credits.groups(4).items()}

    @property
    def is_limbo(self) -> bool:
        """Whether any row is of a campaign that Limbo's documentation lists."""
        return any(report(name) for name in self.campaigns if name)

    @property
    def limits(self) -> list[str]:
        """What to mind, a sentence for each."""
        found = {
            "have no cryptomatte: a mask of theirs is zero, whatever the image shows": self.mattes,
            "are photographs, or not known to be rendered": self.synthetic,
            "have no box": self.boxes,
            "have no contour": self.contours,
        }
        missing = {text: self.rows - count for text, count in found.items() if count is not None}
        missing |= {
            "name no license": self.credits.unlicensed,
            "are of a campaign that is not known": self.campaigns.get(None, 0),
        }
        limits = [
            f"{rows:,} of {self.rows:,} rows {text}." for text, rows in missing.items() if rows
        ]
        if self.is_limbo:
            limits.append(
                "Rows of one folder, backdrop, turntable or flight can be near copies of each"
                " other: a split at random puts them on both sides."
            )
        return limits


def describe(dataset: Dataset) -> Description:
    """Describe the rows of a data set, without reading images.

    Raises
    ------
    InputError
        If the outputs cannot be read.
    UsageError
        If a prefix is given twice.
    """
    parts = dataset.parts()
    if len({source.prefix for source, _, _ in parts}) < len(parts):
        raise UsageError("a prefix is given twice")
    names = [os.path.basename(source.given) or source.given for source, _, _ in parts]
    if len({*names}) < len(names):
        names = [source.given for source, _, _ in parts]
    prefixes: Counter[str] = Counter()
    for name, (_, _, rows) in zip(names, parts, strict=True):
        prefixes[shown(name)] += len(rows)
    facts: dict[str, int | None] = dict.fromkeys(("synthetic", "has_matte", "boxes", "contours"))
    categories = {}
    if dataset.metadata is not None:
        facts |= {name: int(np.count_nonzero(each)) for name, each in dataset.table(facts).items()}
        categories = dict(sorted(dataset.count().items(), key=lambda item: -item[1]))
    total = sum(len(rows) for _, rows in dataset.prefixes)
    name = shown(", ".join(prefixes), 100)
    chosen = "" if len(dataset) == total else f" {len(dataset):,} of {total:,} rows are described."
    return Description(
        name=name,
        text=f"{len(dataset):,} samples in Limbo's format, packed by limbo-compress into arrays"
        f" with a row for each sample.{chosen}",
        rows=len(dataset),
        total=total,
        prefixes=prefixes,
        files=describe_files(dataset),
        categories=categories,
        synthetic=facts["synthetic"],
        mattes=facts["has_matte"],
        boxes=facts["boxes"],
        contours=facts["contours"],
        credits=find_credits(dataset),
        made=[*map(_how_made, provenance(dataset))],
    )


def _how_made(made: Provenance) -> tuple[str, str]:
    is_long = len(made.line) > _MAX_COMMAND
    too_long = "# too long for this page: limbo-inspect --provenance prints the command"
    return made.describe(), too_long if is_long else made.line


def counted(counts: Mapping[str, int], limit: int) -> list[tuple[str, int]]:
    """Return the first of some counts and, if there are more than a limit, the sum of the rest."""
    items = list(counts.items())
    rest = items[limit:]
    more = [(f"({len(rest):,} more)", sum(count for _, count in rest))] if rest else []
    return items[:limit] + more


def write_text(path: str, text: str) -> None:
    """Write a file, which takes its name when it is complete."""
    with unfinished(path) as folder:
        draft = os.path.join(folder, "draft")
        with open(draft, "x", encoding="utf-8") as stream:
            stream.write(text)
        os.replace(draft, path)
