"""The metadata file of a prefix: one sample at a time by its index, or all of it without one."""

from __future__ import annotations

import logging
import os
import pickle
import weakref
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import cached_property
from typing import Any, BinaryIO, NoReturn

import numpy as np
from numpy.typing import NDArray

from .. import deflate
from ..errors import InputError, shown
from ..formats.facts import Facts, facts_of
from ..formats.filestate import open_regular
from ..formats.index import Index, Paths, categories, read_index
from ..formats.pickling import (
    LIST_END,
    LIST_START,
    load_abridged,
    load_compact,
    load_fragment,
    no_garbage_collection,
)
from .untrusted_pickle import DAMAGED, load_list

__all__ = ["Metadata", "open_metadata"]

_log = logging.getLogger(__name__)


def open_metadata(path: str, rows: int | None) -> Metadata:
    """Open a metadata file of `rows` samples, None if unknown, and its index if it has one.

    A file without an index may turn out to be damaged later, when it is used first.
    """
    try:
        with ExitStack() as stack:
            stream = stack.enter_context(open_regular(path, buffering=0))
            index, problem = _usable_index(stream)
            if index is not None:
                _check_rows(path, len(index), rows)
                stack.pop_all()
                return _IndexedMetadata(stream, index)
            if stream.read(1) != pickle.PROTO:
                raise ValueError("it is not a pickle")
    except (OSError, ValueError) as error:
        raise _error(path, error) from error
    if problem:
        _log.warning("%s: %s, so all of it is read", shown(path), problem)
    return _WholeMetadata(path, rows, problem)


def _check_rows(path: str, samples: int, rows: int | None) -> None:
    if rows not in (None, samples):
        raise InputError(f"it has {samples} samples where the arrays have {rows} rows", path)


def _error(path: str, error: Exception) -> InputError:
    return InputError(f"cannot read it: {error or type(error).__name__}", path)


def _usable_index(stream: BinaryIO) -> tuple[Index | None, str]:
    """Read the index; None if there is none that can be used, and what is wrong with it."""
    file = stream.fileno()
    try:
        index = read_index(file)
    except ValueError as error:
        return None, str(error)
    if index is not None:
        edges = os.pread(file, len(LIST_START), 0), os.pread(file, 1, int(index.offsets[-1]))
        if edges != (LIST_START, LIST_END):
            raise ValueError("it is damaged")
    return index, ""


class _IndexedMetadata:
    """Metadata with an index: reading a sample reads nothing else.

    With pread(2), not through a mapping: a process that reads all samples would end up with the
    whole file in its memory, and with SIGBUS if somebody cut the file short.

    Attributes
    ----------
    index : Index
    problem : str
        What is wrong with the index: nothing.
    set_ids : ndarray of int, shape (samples,)
        Number, in `category_sets`, of each sample's set of categories.
    category_sets : tuple of frozenset of str
    """

    problem = ""

    @cached_property
    def facts(self) -> Facts:
        """Facts about each sample. All metadata are read if the index is of an older kind."""
        path = os.fsdecode(self._stream.name)
        try:
            found = self.index.facts
        except ValueError as error:
            raise _error(path, error) from error
        return found or _facts_of(path, map(self.sample, range(len(self))))

    @property
    def paths(self) -> Paths:
        return self.index.paths

    def __init__(self, stream: BinaryIO, index: Index) -> None:
        self._stream = stream
        self.index = index
        self.set_ids = np.asarray(index.set_ids)
        self.category_sets = index.category_sets
        weakref.finalize(self, stream.close)

    def __len__(self) -> int:
        return len(self.index)

    def sample(self, row: int) -> dict[str, Any]:
        return self._load(row, load_fragment)

    def abridged(self, row: int) -> dict[str, Any]:
        return self._load(row, load_abridged)

    def compact(self, row: int) -> dict[str, Any]:
        return self._load(row, load_compact)

    def _load(self, row: int, load: Callable[[bytes], Any]) -> dict[str, Any]:
        begin, end = self.index.offsets[row : row + 2].tolist()
        try:
            data = os.pread(self._stream.fileno(), end - begin, begin)
            if deflate.crc32(data) != self.index.checksums[row]:
                raise ValueError("it is damaged")
            with no_garbage_collection():
                sample = load(data)
            if not isinstance(sample, dict):
                raise ValueError("it holds something else")
        except (OSError, *DAMAGED) as error:
            problem = f"cannot read the metadata of row {row}: {error or type(error).__name__}"
            raise InputError(problem, os.fsdecode(self._stream.name)) from error
        return sample

    def path(self, row: int) -> str:
        return self.index.path(row)

    def categories(self, row: int) -> frozenset[str]:
        return self.category_sets[int(self.set_ids[row])]


class _WholeMetadata:
    """Metadata without an index, as of the reference: read in full when they are used first.

    Attributes
    ----------
    index : None
    problem : str
        Why there is no index that can be used; empty if there is none at all.
    """

    index = None

    def __init__(self, path: str, rows: int | None, problem: str) -> None:
        self._path = path
        self._rows = rows
        self.problem = problem

    def __len__(self) -> int:
        return len(self._samples)

    def sample(self, row: int) -> dict[str, Any]:
        return self._samples[row]

    abridged = compact = sample

    @cached_property
    def facts(self) -> Facts:
        return _facts_of(self._path, self._samples)

    @property
    def paths(self) -> NoReturn:
        self.path(0)

    def path(self, row: int) -> NoReturn:
        raise InputError(
            "it does not say the paths of its samples",
            self._path,
            "compress them again with this version",
        )

    def categories(self, row: int) -> frozenset[str]:
        return self._sets[row]

    @cached_property
    def _samples(self) -> list[dict[str, Any]]:
        try:
            with open_regular(self._path) as stream:
                samples = load_list(stream)
        except (OSError, *DAMAGED) as error:
            raise _error(self._path, error) from error
        _check_rows(self._path, len(samples), self._rows)
        return samples

    @cached_property
    def _sets(self) -> list[frozenset[str]]:
        return [frozenset(categories(sample)) for sample in self._samples]

    @cached_property
    def category_sets(self) -> tuple[frozenset[str], ...]:
        return tuple(dict.fromkeys(self._sets))

    @cached_property
    def set_ids(self) -> NDArray[Any]:
        numbers = {names: number for number, names in enumerate(self.category_sets)}
        return np.array([numbers[names] for names in self._sets], np.intp)


def _facts_of(path: str, samples: Iterable[dict[str, Any]]) -> Facts:
    try:
        return facts_of(samples)
    except DAMAGED as error:
        raise _error(path, error) from error


Metadata = _IndexedMetadata | _WholeMetadata
