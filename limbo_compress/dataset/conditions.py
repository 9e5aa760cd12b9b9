"""Conditions that rows meet, as ``--where`` and `Dataset.where` take them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError, shown
from .classes import matching, unseen
from .table import FIXED

if TYPE_CHECKING:
    from .dataset import Dataset

__all__ = ["meeting"]

_COMPARISON = re.compile(r"(!?)(.+?)(!=|<=|>=|=|<|>)(.*)", re.DOTALL)


def meeting(dataset: Dataset, condition: str) -> tuple[NDArray[np.bool_], str]:
    """Return which rows meet a condition, and why none can; empty if any can.

    Raises
    ------
    UsageError
        If it makes no sense.
    InputError
        If the outputs cannot be read.
    """
    match = _COMPARISON.fullmatch(condition)
    if match and (match[2] in FIXED or match[2].startswith("/")):
        not_, name, sign, value = match.groups()
        if not_:
            raise UsageError(f"{shown(condition)} makes no sense", hint=f"write {name}!=VALUE")
        column = dataset.column(name)
        try:
            meets = column.meets(sign.removeprefix("!"), value)
        except ValueError as error:
            raise UsageError(f"{shown(condition)}: {error}") from error
        problem = "" if meets.any() else "no row has such a value"
        return ~meets if sign == "!=" else meets, problem
    wanted = {"": condition.removeprefix("!")}
    has = dataset.has_any(matching(wanted, dataset.classes))[:, 0] == 1
    return ~has if condition.startswith("!") else has, unseen(wanted, dataset.classes)
