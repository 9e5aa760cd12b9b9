"""Open the outputs of prefixes."""

from __future__ import annotations

import os
from collections.abc import Iterable

from ..errors import UsageError
from .dataset import Dataset
from .source import Source

__all__ = ["load"]

Prefix = str | os.PathLike[str]


def load(prefix: Prefix | Iterable[Prefix]) -> Dataset:
    """Open the outputs of a prefix, or of several, one after the other.

    Nothing is read but headers and the index of the metadata. Metadata without one, as of the
    reference, are read in full when they are first used. Nothing in a file is executed: a pickle
    that names a class or function is refused.

    Parameters
    ----------
    prefix : path or iterable of path
        The `prefix` of the `Options`.

    Returns
    -------
    Dataset

    Raises
    ------
    InputError
        If there are no outputs, one is damaged, or their numbers of rows differ.
    UsageError
        If no prefix is given.
    """
    prefixes = [prefix] if isinstance(prefix, str | os.PathLike) else list(prefix)
    if not prefixes:
        raise UsageError("load takes at least one prefix")
    sources = [Source(os.fsdecode(path)) for path in prefixes]
    for source in sources:
        len(source)  # opens it
    return Dataset(sources)
