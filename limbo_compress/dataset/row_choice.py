"""The choice of rows that the commands offer."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable

import numpy as np

from ..errors import InputError, UsageError, shown
from .conditions import meeting
from .dataset import Dataset
from .row_views import Ints

__all__ = ["choose_rows"]

_log = logging.getLogger("limbo_compress")

_ROWS = re.compile(r"(-?\d+)|(-?\d*):(-?\d*)(?::(-?\d*))?")


def choose_rows(
    dataset: Dataset,
    where: Iterable[str] = (),
    rows: str | None = None,
    sample: int | None = None,
    seed: int = 0,
) -> Dataset:
    """Choose the rows of a data set that meet all conditions, as the commands do.

    Parameters
    ----------
    dataset : Dataset
    where : iterable of str
        Conditions, as `Dataset.where` takes them.
    rows : str, optional
        As in Python: ``5``, ``5:20``, ``-10:`` or ``::2``.
    sample : int, optional
        Choose this number of what is left at random, or all if there are fewer. They stay in order.
    seed : int
        The same seed chooses the same rows.

    Returns
    -------
    Dataset
        A view, for which no images are read.

    Raises
    ------
    InputError
        If the outputs cannot be read, or no row is left.
    UsageError
        If a condition makes no sense.
    """
    places = np.arange(len(dataset))[_parse_rows(rows, len(dataset))]
    unmatched = []
    for condition in where:
        meets, problem = meeting(dataset, condition)
        places = places[meets[places]]
        if problem:
            unmatched.append(f"`where` {shown(condition)}: {problem}")
    if sample is not None:
        places = _sample(places, sample, seed)
    if len(places) == 0:
        hint = "; ".join(unmatched) or "choose others"
        raise InputError(f"none of the {len(dataset)} rows is chosen", "", hint)
    for problem in unmatched:
        _log.warning(problem)
    return dataset if len(places) == len(dataset) else dataset.select(places)


def _parse_rows(text: str | None, count: int) -> slice:
    if text is None:
        return slice(None)
    match = _ROWS.fullmatch(text)
    # Python refuses numbers of thousands of digits.
    if match is None or len(text) > 60:
        raise UsageError(f"rows are numbers such as 5, 5:20 or -10:, not {text[:60]!r}")
    if match[1]:
        row = int(match[1])
        if not -count <= row < count:
            raise UsageError(f"there is no row {row}: there are {count} rows")
        return slice(row, row + 1 or None)
    start, stop, step = (int(number) if number else None for number in match.groups()[1:])
    if step is not None and step < 1:
        raise UsageError(f"rows come in order: {text} goes backwards, or nowhere")
    return slice(start, stop, step)


def _sample(places: Ints, count: int, seed: int) -> Ints:
    if count < 1 or seed < 0:
        raise UsageError("a sample is of one row or more, and its seed is not negative")
    generator = np.random.default_rng(seed)
    return np.sort(generator.permutation(places)[:count])
