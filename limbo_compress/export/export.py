"""The whole export on one screen: choose rows and labels, read, write, rename."""

from __future__ import annotations

import ctypes
import logging
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .. import names
from ..cluster.cpus import default_workers
from ..dataset.classes import Classes, find_classes, matching, unseen
from ..dataset.dataset import Dataset
from ..dataset.rows import Ints
from ..dataset.rows import split as split_rows
from ..errors import InputError, OutputError, UsageError, output_errors, shown
from ..faults import machine_errors

if TYPE_CHECKING:
    from .rows import Progress, Row, RowReader

__all__ = ["FORMATS", "ExportReport", "export_dataset"]

_log = logging.getLogger("limbo_compress")

_TRAIN, _VAL = "train", "val"
_HINT = "pip install 'limbo-compress[export]'"


@dataclass(frozen=True)
class _Format:
    """What a format needs.

    Attributes
    ----------
    libraries : tuple of str
        Of the extra ``[export]``.
    with_pictures, with_annotations : bool
        What it is made of.
    needs_metadata : bool
        Whether it makes no sense without them.
    by_label : bool
        Whether it has no place for rows without a label, if labels were asked for.
    """

    libraries: tuple[str, ...]
    with_pictures: bool = True
    with_annotations: bool = True
    needs_metadata: bool = True
    by_label: bool = False


_LIBRARIES = ("PIL", "pycocotools")
FORMATS = {
    "coco": _Format(_LIBRARIES),
    "yolo": _Format((*_LIBRARIES, "yaml")),
    "parquet": _Format((*_LIBRARIES, "pyarrow"), with_pictures=False),
    "webdataset": _Format(_LIBRARIES, needs_metadata=False),
    "imagefolder": _Format(_LIBRARIES, with_annotations=False, needs_metadata=False, by_label=True),
}


@dataclass(frozen=True)
class ExportReport:
    """What was exported.

    Attributes
    ----------
    path : str
        The folder.
    rows : int
    boxes : int
        With a label; 0 if the format has none.
    """

    path: str
    rows: int
    boxes: int


@machine_errors()
def export_dataset(
    dataset: Dataset,
    to: str,
    out: str | os.PathLike[str],
    labels: Mapping[str, str] | None = None,
    split: float | None = None,
    seed: int = 0,
    source: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
) -> ExportReport:
    """Write a data set in the format of another tool.

    Parameters
    ----------
    dataset : Dataset
        What `limbo_compress.load` returns.
    to : {"coco", "yolo", "parquet", "webdataset", "imagefolder"}
        The format.
    out : path
        The folder to be written; there must be nothing of this name.
    labels : dict of str to str, optional
        For each label a regular expression that is searched for in the categories. A category
        belongs to the first that finds it, a row to the first of its categories' labels. What
        belongs to none is left out. By default, each category is a label.
    split : float, optional
        How much of the rows, of 1, goes to a part ``train``; the others are ``val``.
    seed : int
        The same seed splits the same rows in the same way.
    source : bool
        Whether pictures are links to the source images, or copies where that is not possible,
        and boxes are in their pixels; else pictures are the rows in 8-bit sRGB.
    workers : int, optional
        Number of processes; by default, one for each CPU that this process may use.
    progress : callable, optional
        Called as ``progress(done, rows)``.

    Returns
    -------
    ExportReport

    Raises
    ------
    UsageError
        If an argument makes no sense, or a library is missing.
    InputError
        If the data set has not what the format needs, or it cannot be read.
    OutputError
        If the folder cannot be written. Nothing of its name is left then.
    """
    target = _check(dataset, to, workers, source)
    out = os.path.abspath(os.fsdecode(out))
    from .annotations import printable  # only now is it known that the libraries are there
    from .rows import read_rows

    classes = _classes(dataset, target, labels)
    reader = _reader(dataset, target, classes, labels, split, seed, source)
    writer: Any = import_module(f".{to}", __package__)
    names = None if classes is None else [printable(name) for name in classes.names]
    parts = ("",) if split is None else (_TRAIN, _VAL)
    counted = _Counted()
    with _work_folder(out) as folder:
        rows = read_rows(reader, workers or default_workers(), progress)
        with closing(rows), output_errors(out):
            writer.write(folder, counted.count(rows), names, parts)
    if target.needs_metadata and not counted.boxes:
        _log.warning("no row has a box with a label: were the regions left out of the metadata?")
    return ExportReport(out, counted.rows, counted.boxes)


class _Counted:
    """Counts the rows that pass, and their boxes."""

    def __init__(self) -> None:
        self.rows = self.boxes = 0

    def count(self, rows: Iterable[Row]) -> Iterator[Row]:
        for row in rows:
            self.rows += 1
            self.boxes += sum(1 for _ in row.objects)
            yield row


def _check(dataset: Dataset, to: str, workers: int | None, source: bool) -> _Format:
    """Find the format, and check what can be checked before any work."""
    if to not in FORMATS:
        raise UsageError(f"`to` is {shown(to)!r}, expected one of {', '.join(FORMATS)}")
    if workers is not None and workers < 1:
        raise UsageError(f"`workers` is {workers}, expected 1 or more")
    target = FORMATS[to]
    for library in target.libraries:
        if find_spec(library) is None:
            raise UsageError(f"the format {to} needs the library {library}", "", _HINT)
    if target.needs_metadata:
        _check_metadata(dataset)
    if target.with_pictures and not source:
        with _hint("compress them with `images`, or export the sources: `source`"):
            dataset.rows(names.IMAGES)
    return target


def _check_metadata(dataset: Dataset) -> None:
    if dataset.metadata is None:
        with _hint("compress them with `metadata`"):
            dataset.count()  # its error names the file that is missing


@contextmanager
def _hint(hint: str) -> Iterator[None]:
    try:
        yield
    except InputError as error:
        error.add_hint(hint)
        raise


def _classes(dataset: Dataset, target: _Format, labels: Mapping[str, str] | None) -> Classes | None:
    """Number the classes; None if the format needs none, and there are no labels."""
    if labels is None and not target.needs_metadata:
        return None
    _check_metadata(dataset)
    if labels is not None and (problem := unseen(labels, dataset.classes)):
        _log.warning("labels: %s", problem)
    return find_classes(dataset.classes, labels)


def _reader(
    dataset: Dataset,
    target: _Format,
    classes: Classes | None,
    labels: Mapping[str, str] | None,
    split: float | None,
    seed: int,
    source: bool,
) -> RowReader:
    """Choose the rows, their labels and their parts."""
    from .annotations import printable
    from .rows import RowReader

    row_labels = np.full(len(dataset), -1) if labels is None else _row_labels(dataset, labels)
    numbers = np.arange(len(dataset))
    if target.by_label and labels is not None:
        numbers = _with_label(row_labels, list(labels))
    chosen = row_labels[numbers]
    named = np.array([*map(printable, labels or ()), None], np.object_)
    return RowReader(
        dataset=dataset,
        numbers=numbers,
        parts=_parts(chosen, split, seed),
        labels=named[chosen],
        classes=_label_of_category(classes) if labels and classes else None,
        from_source=source,
        with_pictures=target.with_pictures,
        with_annotations=target.with_annotations,
    )


def _label_of_category(classes: Classes) -> dict[str, str]:
    return {category: classes.names[place] for category, place in classes.places.items()}


def _row_labels(dataset: Dataset, labels: Mapping[str, str]) -> Ints:
    """Return the number of the first label of each row, or -1."""
    table = dataset.has_any(matching(labels, dataset.classes))
    found = np.where(table.any(axis=1), table.argmax(axis=1), -1)
    if len(found) and (found < 0).all():
        categories = ", ".join(dataset.count()) or "none"
        raise UsageError(f"no row has any of the labels; the categories: {shown(categories)}")
    return found


def _with_label(row_labels: Ints, labels: Sequence[str]) -> Ints:
    """Return the rows that have a label, and say what is left out."""
    rows = np.flatnonzero(row_labels >= 0)
    if len(rows) < len(row_labels):
        left_out = len(row_labels) - len(rows)
        _log.warning("%d of %d rows have no label and are left out", left_out, len(row_labels))
    for number, label in enumerate(labels):
        if number not in row_labels:
            _log.warning("label %s: no row has it before another one", shown(label))
    return rows


def _parts(strata: Ints, split: float | None, seed: int) -> NDArray[np.str_]:
    """Return the part of each row; the rows of each stratum are divided by the same fraction."""
    if split is None:
        return np.full(len(strata), "", "U5")
    if not 0 <= split <= 1:
        raise UsageError(f"`split` is {split}, expected a fraction from 0 to 1")
    if seed < 0:
        raise UsageError(f"`seed` is {seed}, expected 0 or more")
    train, _ = split_rows(strata + 1, split, seed)
    parts = np.full(len(strata), _VAL, "U5")
    parts[train] = _TRAIN
    return parts


@contextmanager
def _work_folder(out: str) -> Iterator[str]:
    """Make a hidden folder beside `out`; give it that name at the end, or remove it."""
    with output_errors(out):
        if _exists(out):
            hint = "remove it, or choose another `out`"
            raise OutputError("there is already something of this name", out, hint)
        folder = os.path.join(os.path.dirname(out), f".export-{secrets.token_hex(4)}.partial")
        os.mkdir(folder)
    try:
        yield folder
        with output_errors(out):
            _sync(folder)
            os.rename(folder, out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _exists(path: str) -> bool:
    """Whether a path leads to anything, even a broken link. Unlike `os.path.lexists`, this raises.

    Raises
    ------
    OSError
        If nothing could ever have this name, as when it is too long.
    """
    try:
        os.lstat(path)
    except FileNotFoundError:
        return False
    return True


def _sync(folder: str) -> None:
    """Write what is in a folder to the disk, where the system can: a rename may overtake it."""
    syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if syncfs is None:
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if syncfs(descriptor):
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error))
    finally:
        os.close(descriptor)
