"""The whole export on one screen: choose rows and labels, read, write, rename."""

from __future__ import annotations

import ctypes
import logging
import math
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .. import filenames
from ..dataset.classes import Classes, find_classes, matching, unseen
from ..dataset.dataset import Dataset, concat
from ..dataset.row_views import Ints
from ..dataset.splits import split_rows
from ..errors import InputError, OutputError, UsageError, shown
from ..oserrors import machine_errors, writing
from ..renaming import check_renaming, rename_folder
from ..run.cpus import default_workers
from ..signals import finishing
from .layout import Layout

if TYPE_CHECKING:
    from .exported_rows import Progress, Row, RowReader

__all__ = ["FORMATS", "ExportReport", "export_dataset"]

_log = logging.getLogger("limbo_compress")

_PARTS = ("train", "val", "test")
_SHARD_SIZE = 1000
_HINT = "pip install 'limbo-compress[export]'"


@dataclass(frozen=True)
class _Format:
    """What a format needs.

    Attributes
    ----------
    module : str
        Of this package, which writes it.
    libraries : tuple of str
        Of the extra ``[export]``.
    with_pictures, with_annotations, with_contours : bool
        What it is made of; contours of YOLO only, as others have them anyway.
    needs_metadata : bool
        Whether it makes no sense without them.
    by_label : bool
        Whether it has no place for rows without a label, if labels were asked for.
    with_shards : bool
        Whether its rows are in shards.
    """

    module: str
    libraries: tuple[str, ...] = ("PIL", "pycocotools")
    with_pictures: bool = True
    with_annotations: bool = True
    with_contours: bool = False
    needs_metadata: bool = True
    by_label: bool = False
    with_shards: bool = False


_YOLO = _Format("yolo", ("PIL", "pycocotools", "yaml"))
FORMATS = {
    "coco": _Format("coco"),
    "yolo": _YOLO,
    "yolo-seg": replace(_YOLO, with_contours=True),
    "parquet": _Format("parquet", ("PIL", "pycocotools", "pyarrow"), with_pictures=False),
    "webdataset": _Format("webdataset", needs_metadata=False, with_shards=True),
    "imagefolder": _Format(
        "imagefolder", with_annotations=False, needs_metadata=False, by_label=True
    ),
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
    dropped : int
        Objects left out by `min_box` and `edge_margin`.
    """

    path: str
    rows: int
    boxes: int
    dropped: int


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
    *,
    val: Dataset | None = None,
    test: Dataset | None = None,
    min_box: float = 0,
    edge_margin: float = 0,
    shard_size: int | None = None,
) -> ExportReport:
    """Write a data set in the format of another tool.

    Parameters
    ----------
    dataset : Dataset
        What `limbo_compress.load` returns.
    to : {"coco", "yolo", "yolo-seg", "parquet", "webdataset", "imagefolder"}
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
    val, test : Dataset, optional
        Instead of `split`: the rows of the parts ``val`` and ``test``, numbered after those of
        `dataset`, which are ``train``.
    min_box : float
        Objects whose box, within the picture, covers fewer pixels are left out.
    edge_margin : float
        Objects are left out if the center of their box, within the picture, is fewer pixels away
        from an edge of the picture.
    shard_size : int, optional
        Rows of a shard of WebDataset, by default 1000.

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
    dataset, rows_of_parts = _joined(dataset, val, test, split)
    target = _check(dataset, to, workers, source)
    _check_numbers(to, target, min_box, edge_margin, shard_size)
    out = os.path.abspath(os.fsdecode(out))
    from .annotations import printable  # only now is it known that the libraries are there
    from .exported_rows import read_rows

    classes = _classes(dataset, target, labels)
    reader = _reader(dataset, target, classes, labels, rows_of_parts, split, seed, source)
    reader = replace(reader, min_box=min_box, edge_margin=edge_margin)
    writer: Any = import_module(f".{target.module}", __package__)
    layout = Layout(
        out=out,
        classes=[] if classes is None else [printable(name) for name in classes.names],
        parts=tuple(rows_of_parts) if split is None else _PARTS[:2],
        with_contours=target.with_contours,
        shard_size=shard_size or _SHARD_SIZE,
    )
    counted = _Counted()
    with _work_folder(out) as folder:
        rows = read_rows(reader, workers or default_workers(), progress)
        with closing(rows), writing(out):
            writer.write(folder, counted.count(rows), layout)
    if target.needs_metadata and not counted.boxes + counted.dropped:
        _log.warning("no row has a box with a label: were the regions left out of the metadata?")
    return ExportReport(out, counted.rows, counted.boxes, counted.dropped)


class _Counted:
    """Counts the rows that pass, their boxes, and the objects that were dropped."""

    def __init__(self) -> None:
        self.rows = self.boxes = self.dropped = 0

    def count(self, rows: Iterable[Row]) -> Iterator[Row]:
        for row in rows:
            self.rows += 1
            self.boxes += sum(1 for _ in row.objects)
            self.dropped += row.dropped
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
            dataset.rows(filenames.IMAGES)
    return target


def _check_numbers(
    to: str, target: _Format, min_box: float, edge_margin: float, shard_size: int | None
) -> None:
    for name, pixels in (("min_box", min_box), ("edge_margin", edge_margin)):
        if not 0 <= pixels < math.inf:
            raise UsageError(f"`{name}` is {pixels}, expected 0 or more")
        if pixels and not target.with_annotations:
            raise UsageError(f"`{name}` drops objects, of which the format {to} has none")
    if shard_size is not None and not target.with_shards:
        raise UsageError(f"`shard_size` is for webdataset; the format {to} has no shards")
    if shard_size is not None and shard_size < 1:
        raise UsageError(f"`shard_size` is {shard_size}, expected 1 or more")


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


def _joined(
    train: Dataset, val: Dataset | None, test: Dataset | None, split: float | None
) -> tuple[Dataset, dict[str, int]]:
    """Join the data sets of the parts, and return how many rows each part has."""
    if val is None:
        if test is not None:
            raise UsageError("`test` is given without `val`")
        return train, {"": len(train)}
    if split is not None:
        raise UsageError("`split` and `val` are two ways to divide rows; choose one")
    parts = dict(zip(_PARTS, [train, val] if test is None else [train, val, test], strict=False))
    for first, second in combinations(parts, 2):
        if parts[first].shares_rows(parts[second]):
            raise UsageError(f"the same rows are in {first} and in {second}")
    return concat(parts.values()), {part: len(rows) for part, rows in parts.items()}


def _reader(
    dataset: Dataset,
    target: _Format,
    classes: Classes | None,
    labels: Mapping[str, str] | None,
    rows_of_parts: Mapping[str, int],
    split: float | None,
    seed: int,
    source: bool,
) -> RowReader:
    """Choose the rows, their labels and their parts."""
    from .annotations import printable
    from .exported_rows import RowReader

    row_labels = np.full(len(dataset), -1) if labels is None else _row_labels(dataset, labels)
    numbers = np.arange(len(dataset))
    if target.by_label and labels is not None:
        numbers = _with_label(row_labels, list(labels))
    chosen = row_labels[numbers]
    parts = np.repeat(list(rows_of_parts), list(rows_of_parts.values()))
    named = np.array([*map(printable, labels or ()), None], np.object_)
    return RowReader(
        dataset=dataset,
        numbers=numbers,
        parts=parts[numbers] if split is None else _split(chosen, split, seed),
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


def _split(strata: Ints, split: float, seed: int) -> NDArray[np.str_]:
    """Return the part of each row; the rows of each stratum are divided by the same fraction."""
    if not 0 <= split <= 1:
        raise UsageError(f"`split` is {split}, expected a fraction from 0 to 1")
    if seed < 0:
        raise UsageError(f"`seed` is {seed}, expected 0 or more")
    train, _ = split_rows(strata + 1, split, seed)
    parts = np.full(len(strata), _PARTS[1], np.dtype("U5"))
    parts[train] = _PARTS[0]
    return parts


@contextmanager
def _work_folder(out: str) -> Iterator[str]:
    """Make a hidden folder beside `out`; give it that name at the end, or remove it."""
    with writing(out):
        if _exists(out):
            hint = "remove it, or choose another `out`"
            raise OutputError("there is already something of this name", out, hint)
        folder = os.path.join(os.path.dirname(out), f".export-{secrets.token_hex(4)}.partial")
        os.mkdir(folder)
    try:
        with writing(out):
            check_renaming(folder)
        yield folder
        with writing(out):
            _sync(folder)
            with finishing():
                rename_folder(folder, out)
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
