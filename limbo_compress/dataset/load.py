"""Open the outputs of prefixes."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import UsageError, shown
from .dataset import Dataset
from .source import Move, Source

__all__ = ["load"]

_log = logging.getLogger(__name__)

Prefix = str | os.PathLike[str]
Root = Mapping[str, Prefix] | Mapping[os.PathLike[str], Prefix] | tuple[Prefix, Prefix]


def load(
    prefix: Prefix | Iterable[Prefix],
    *,
    root: Root | None = None,
) -> Dataset:
    """Open the outputs of a prefix, or of several, one after the other.

    Nothing is read but headers and the index of the metadata. Metadata without one, as of the
    reference, are read in full when they are first used. Nothing in a file is executed: a pickle
    that names a class or function is refused. When an array is first used, a few of its rows are
    compared with the checksums in the index, so that arrays of one job and metadata of another
    are an `InputError`.

    Parameters
    ----------
    prefix : path or iterable of path
        The `prefix` of the `Options`.
    root : dict of path to path, or (path, path), optional
        Where the samples have moved: a folder that had them when they were compressed, and where
        it is now. `Dataset.paths` are then those of today. The first folder that a path is in
        counts. A folder without a sample is a warning.

    Returns
    -------
    Dataset

    Raises
    ------
    InputError
        If there are no outputs, one is damaged, or their numbers of rows differ.
    UsageError
        If no prefix is given, or a root is not two paths.
    """
    prefixes = [prefix] if isinstance(prefix, str | os.PathLike) else list(prefix)
    if not prefixes:
        raise UsageError("load takes at least one prefix")
    moves = _moves(root)
    sources = [Source(os.fsdecode(path), moves) for path in prefixes]
    for source in sources:
        len(source)  # opens it
    for old, _ in moves:
        if not any(source.has_samples_in(old) for source in sources):
            _log.warning("`root`: no sample was below %s", shown(old))
    return Dataset(sources)


def _moves(root: Root | None) -> tuple[Move, ...]:
    """Return the folders of `root` as absolute paths, the outermost one as the empty text."""
    given: Any = root
    try:
        pairs = [given] if isinstance(given, tuple) else (given or {}).items()
        return tuple((_absolute(old), _absolute(new)) for old, new in pairs)
    except (AttributeError, TypeError, ValueError) as error:
        raise UsageError(f"`root` takes a folder, and where it is now, not {root!r}") from error


def _absolute(path: Prefix) -> str:
    return os.path.abspath(os.fsdecode(path)).rstrip("/")
