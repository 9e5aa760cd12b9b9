"""The whole export on one screen: choose rows and labels, read, write, rename."""

from __future__ import annotations

import ctypes
import logging
import math
import os
import secrets
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import filenames
from ..dataset.classes import Classes, Labels, doubts, find_classes, matching
from ..dataset.credits import find_credits
from ..dataset.dataset import Dataset, concat
from ..dataset.groups import Groups, group_rows
from ..dataset.provenance import provenance
from ..dataset.row_views import Ints
from ..dataset.splits import divide, far_off, shares_of
from ..errors import InputError, OutputError, UsageError, missing_extra, shown
from ..oserrors import machine_errors, writing
from ..renaming import check_renaming, rename_folder
from ..run.cpus import default_workers
from ..signals import finishing
from .writers import CREDITS, FORMATS, Format, Layout

if TYPE_CHECKING:
    from ..run.executor import Progress
    from .exported_rows import Row, RowReader

__all__ = ["ExportReport", "export_dataset"]

_log = logging.getLogger("limbo_compress")

_SPLITS = ("train", "val", "test")
_SHARD_SIZE = 1000
# Rows of which a warning gives the numbers.
_MOST_NAMED = 20


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
    without_matte : int or None
        Rows without a cryptomatte, of which masks say nothing; None if there are no masks, or no
        metadata that can be read.
    """

    path: str
    rows: int
    boxes: int
    dropped: int
    without_matte: int | None = None


@machine_errors()
def export_dataset(
    dataset: Dataset,
    to: str,
    out: str | os.PathLike[str],
    labels: Labels | None = None,
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
    rows: ArrayLike | None = None,
    split_by: Groups | None = None,
) -> ExportReport:
    """Write a data set in the format of another tool.

    Parameters
    ----------
    dataset : Dataset
        What `limbo_compress.load` returns.
    to : str
        The format: one of `EXPORT_FORMATS`, which describes them.
    out : path
        The folder to be written; there must be nothing of this name.
    labels : dict of str to (str or set of str), optional
        For each label what `Dataset.labels` takes: a regular expression that is searched for in the
        categories, categories, or a set such as ``@type-48``. A category belongs to the first that
        finds it, a row to the first of its categories' labels. What belongs to none is left out.
        By default, each category is a label.
    split : float, optional
        How much of the rows, of 1, goes to the split ``train``; the others are ``val``.
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
        Instead of `split`: the rows of the splits ``val`` and ``test``, numbered after those of
        `dataset`, which are ``train``.
    min_box : float
        Objects whose box, within the picture, covers fewer pixels are left out.
    edge_margin : float
        Objects are left out if the center of their box, within the picture, is fewer pixels away
        from an edge of the picture.
    shard_size : int, optional
        Rows of a shard of WebDataset, by default 1000.
    rows : array_like of int, optional
        Which rows to export, of those of all splits together. They keep their numbers and are
        exported in their order. By default, all.
    split_by : str, array_like of shape (rows,), or tuple of these, optional
        With `split`: groups of rows, as `Dataset.groups` takes them, that stay together.

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
    dataset, rows_of_splits = _joined(dataset, val, test, split)
    if split_by is not None and split is None:
        raise UsageError("`split_by` is given without `split`")
    target = _check(dataset, to, workers, source)
    _check_numbers(to, target, min_box, edge_margin, shard_size)
    out = os.path.abspath(os.fsdecode(out))
    from .annotations import printable  # only now is it known that the libraries are there
    from .exported_rows import read_rows

    classes = _classes(dataset, target, labels)
    numbers = _numbers(dataset, rows)
    grouped = None if split_by is None else partial(group_rows, dataset, split_by, _log.warning)
    split_of = partial(_split, split, grouped, seed)
    reader = _reader(dataset, numbers, target, classes, labels, rows_of_splits, split_of, source)
    reader = replace(reader, min_box=min_box, edge_margin=edge_margin)
    write = target.writer()
    layout = Layout(
        out=out,
        classes=[] if classes is None else [printable(name) for name in classes.names],
        splits=tuple(rows_of_splits) if split is None else _SPLITS[:2],
        with_contours=target.with_contours,
        shard_size=shard_size or _SHARD_SIZE,
        table=partial(_table, dataset, reader),
        credits=find_credits(dataset.select(reader.numbers))._replace(rows=reader.numbers),
        provenance=[each.line for each in provenance(dataset) if each.line],
    )
    without_matte = _without_matte(dataset.select(reader.numbers))
    counts: Counter[str] = Counter()
    problems: dict[str, list[int]] = defaultdict(list)
    with _work_folder(out) as folder:
        ready = read_rows(reader, workers or default_workers(), progress)
        with closing(ready), writing(out):
            write(folder, _counted(ready, counts, problems), layout)
            _write_credits(folder, target, layout, reader.splits)
    for problem, where in problems.items():
        more = f", … ({len(where)} in all)" if len(where) > _MOST_NAMED else ""
        _log.warning("%s: rows %s%s", problem, ", ".join(map(str, where[:_MOST_NAMED])), more)
    report = ExportReport(out, counts["rows"], counts["boxes"], counts["dropped"], without_matte)
    if target.needs_metadata and not report.boxes + report.dropped:
        _log.warning("no row has a box with a label: were the regions left out of the metadata?")
    return report


def _table(dataset: Dataset, reader: RowReader) -> dict[str, NDArray[Any]]:
    """Make the table of the exported samples, with the numbers and the splits of their rows."""
    splits = np.array([split or None for split in reader.splits.tolist()], np.object_)
    found = dataset.select(reader.numbers).table() | {"row": reader.numbers, "split": splits}
    return {name: found.pop(name) for name in ("row", "split")} | found


def _without_matte(dataset: Dataset) -> int | None:
    with suppress(InputError):  # not all formats need metadata
        return int(np.count_nonzero(~dataset.has_matte)) if dataset.masks else None
    return None


def _counted(
    rows: Iterable[Row], counts: Counter[str], problems: dict[str, list[int]]
) -> Iterator[Row]:
    """Count the rows that pass, their boxes and dropped objects, and note rows with problems."""
    for row in rows:
        for problem in row.problems:
            problems[problem].append(row.number)
        counts.update(rows=1, boxes=len(list(row.objects)), dropped=row.dropped)
        yield row


def _write_credits(folder: str, target: Format, layout: Layout, splits: NDArray[np.str_]) -> None:
    """Write whom to credit for the pictures, next to those of each split and for all of them."""
    if not target.with_pictures or target.with_shards:  # shards have their own
        return
    found = {"": layout.credits}
    if target.with_split_folders:
        found |= {split: layout.credits.of(splits == split) for split in layout.splits}
    for place, credit in found.items():
        with open(os.path.join(folder, place, CREDITS), "x", encoding="utf-8") as stream:
            stream.write(credit.text())


def _check(dataset: Dataset, to: str, workers: int | None, source: bool) -> Format:
    """Find the format, and check what can be checked before any work."""
    if to not in FORMATS:
        raise UsageError(f"`to` is {shown(to)!r}, expected one of {', '.join(FORMATS)}")
    if workers is not None and workers < 1:
        raise UsageError(f"`workers` is {workers}, expected 1 or more")
    target = FORMATS[to]
    for library in target.libraries:
        if find_spec(library) is None:
            raise missing_extra(f"the format {to} needs the library {library}", "export")
    if target.needs_metadata:
        _check_metadata(dataset)
    if target.with_pictures and not source:
        with _hint("compress them with `images`, or export the sources: `source`"):
            dataset.rows(filenames.IMAGES)
    return target


def _check_numbers(
    to: str, target: Format, min_box: float, edge_margin: float, shard_size: int | None
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


def _classes(dataset: Dataset, target: Format, labels: Labels | None) -> Classes | None:
    """Number the classes; None if the format needs none, and there are no labels."""
    if labels is None and not target.needs_metadata:
        return None
    _check_metadata(dataset)
    if labels is not None and (problem := doubts(labels, dataset)):
        _log.warning("labels: %s", problem)
    known = dataset.classes if labels or target.by_label else dataset.box_classes
    return find_classes(known, labels)


def _joined(
    train: Dataset, val: Dataset | None, test: Dataset | None, split: float | None
) -> tuple[Dataset, dict[str, int]]:
    """Join the data sets of the splits, and return how many rows each has."""
    if val is None:
        if test is not None:
            raise UsageError("`test` is given without `val`")
        return train, {"": len(train)}
    if split is not None:
        raise UsageError("`split` and `val` are two ways to divide rows; choose one")
    splits = dict(zip(_SPLITS, [train, val] if test is None else [train, val, test], strict=False))
    for first, second in combinations(splits, 2):
        if splits[first].shares_rows(splits[second]):
            raise UsageError(f"the same rows are in {first} and in {second}")
    return concat(splits.values()), {name: len(rows) for name, rows in splits.items()}


def _numbers(dataset: Dataset, rows: ArrayLike | None) -> Ints:
    """Return the numbers of the rows that are wanted, each once, in their order."""
    numbers = np.arange(len(dataset))
    try:
        return numbers if rows is None else np.unique(numbers[np.asarray(rows).tolist()])
    except IndexError as error:
        raise UsageError(f"these `rows` cannot be exported: {error}") from error


def _reader(
    dataset: Dataset,
    numbers: Ints,
    target: Format,
    classes: Classes | None,
    labels: Labels | None,
    rows_of_splits: Mapping[str, int],
    split_of: Callable[[Ints, Ints], NDArray[np.str_] | None],
    source: bool,
) -> RowReader:
    """Find the labels and the splits of the rows."""
    from .annotations import printable
    from .exported_rows import RowReader

    splits = np.repeat(list(rows_of_splits), list(rows_of_splits.values()))
    for name, count in rows_of_splits.items():
        if count and name not in splits[numbers]:
            _log.warning("no row of the split %s is chosen", name)
    chosen = np.full(len(numbers), -1)
    if labels is not None:
        chosen = _row_labels(dataset, numbers, labels)
        if target.by_label:
            _warn_of_labels(chosen, list(labels))
            numbers, chosen = numbers[chosen >= 0], chosen[chosen >= 0]
    named = np.array([*map(printable, labels or ()), None], np.object_)
    label_of = None
    if labels and classes:
        label_of = {category: classes.names[place] for category, place in classes.places.items()}
    return RowReader(
        dataset=dataset,
        numbers=numbers,
        splits=splits[numbers] if (divided := split_of(numbers, chosen)) is None else divided,
        labels=named[chosen],
        classes=label_of,
        from_source=source,
        with_pictures=target.with_pictures,
        with_annotations=target.with_annotations,
    )


def _row_labels(dataset: Dataset, numbers: Ints, labels: Labels) -> Ints:
    """Return the number of the first label of each of some rows, or -1."""
    table = dataset.has_any(matching(labels, dataset.classes))[numbers]
    found = np.where(table.any(axis=1), table.argmax(axis=1), -1)
    if len(found) and (found < 0).all():
        categories = ", ".join(dataset.count()) or "none"
        raise UsageError(f"no row has any of the labels; the categories: {shown(categories)}")
    return found


def _warn_of_labels(row_labels: Ints, labels: Sequence[str]) -> None:
    """Say which rows have no label, and which labels no row."""
    if left_out := int((row_labels < 0).sum()):
        _log.warning("%d of %d rows have no label and are left out", left_out, len(row_labels))
    for number, label in enumerate(labels):
        if number not in row_labels:
            _log.warning("label %s: no row has it before another one", shown(label))


def _split(
    fraction: float | None,
    groups_of: Callable[[Ints], Ints] | None,
    seed: int,
    numbers: Ints,
    labels: Ints,
) -> NDArray[np.str_] | None:
    """Return the split of each of some rows, if a fraction is given; each label is divided so."""
    if fraction is None:
        return None
    if not 0 <= fraction <= 1:
        raise UsageError(f"`split` is {fraction}, expected a fraction from 0 to 1")
    if seed < 0:
        raise UsageError(f"`seed` is {seed}, expected 0 or more")
    shares = shares_of([fraction])
    groups = None if groups_of is None else groups_of(numbers)
    parts = divide(labels + 1, groups, shares, seed, len(shares))
    if groups is not None and (problem := far_off(parts, groups, shares)):
        _log.warning("split: %s", problem)
    return np.array(_SPLITS)[parts]


@contextmanager
def _work_folder(out: str) -> Iterator[str]:
    """Make a hidden folder next to `out`; give it that name at the end, or remove it."""
    with writing(out):
        with suppress(FileNotFoundError):
            os.lstat(out)  # unlike `os.path.lexists`, it says if nothing could have this name
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
