"""The command ``limbo-export``: argv to `export_dataset`, messages and exit codes."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from .. import EXPORT_FORMATS, UsageError
from .console import print_output
from .messages import print_json
from .parser import Parser, chosen
from .progress import shown_progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .. import Dataset, ExportReport

__all__ = ["parser", "run"]

_HELPS = {
    "--to": "; ".join(f"{name}: {what}" for name, what in EXPORT_FORMATS.items()),
    "--out": "folder to be written, which must not exist",
    "--from": "source: link the source images, or copy them where links are not possible, with"
    " boxes in their pixels (default: rows)",
    "--labels": "a label by a regular expression, such as tank=^tank/, or a set of names, such as"
    " 48=@type-48; the first that has a category counts; may be repeated, or several be joined by"
    " commas (default: each category with a box, or one folder for imagefolder)",
    "--min-box": "drop objects whose box, within the picture, covers fewer pixels (default: 0)",
    "--edge-margin": "drop objects whose center is closer to an edge of the picture (default: 0)",
    "--shard-size": "rows of a shard of webdataset (default: 1000); each worker of a loader needs a"
    " shard",
    "--split": "how much of the rows, of 1, goes at random to the split train; the others are val,"
    " with the same balance of labels",
    "--split-by": "with --split: keep rows together that belong together, by folder, campaign, pair"
    " (image_N and background_N), duplicate, block:N (N samples in a row) or a column such as"
    " /background/env_map; may be repeated",
    "--val": "instead of --split: train on the first prefixes, validate on these",
    "--test": "with --val: test on these",
}


def run(arguments: argparse.Namespace) -> int:
    """Run the command. The exit code is 0 when everything was written."""
    report = _export(arguments)
    if arguments.json:
        print_json(asdict(report))
    elif not arguments.quiet:
        print_output(_describe(report))
    return 0


def _describe(report: ExportReport) -> str:
    dropped = f"  {report.dropped} dropped" if report.dropped else ""
    unknown = f"  {report.without_matte} without a cryptomatte" if report.without_matte else ""
    return f"{report.path}  {report.rows} rows  {report.boxes} boxes{dropped}{unknown}"


def parser() -> Parser:
    """Make the parser of the arguments."""
    made = Parser(
        "export",
        "[options] PREFIX ... --to FORMAT -o OUT",
        (
            "test --to coco -o test-coco",
            "test --to yolo -o boxes --label 48=@type-48 --split 0.8",
        ),
        "Export compressed Limbo data sets to other tools.",
        "Pictures are the rows in 8-bit sRGB, named by the number of their row. With --label, what"
        " belongs to no label is left out. -- ends the options: what follows is a PREFIX.",
        _HELPS,
    )
    made.add_prefixes()
    flag = made.group("what to write")
    flag("--to", required=True, choices=EXPORT_FORMATS, metavar="FORMAT")
    flag("-o", "--out", required=True)
    flag("--from", dest="source", choices=("rows", "source"), default="rows")
    labels = {"dest": "labels", "action": "extend", "type": _split_labels}
    flag("--label", "--labels", metavar="NAME=PATTERN", **labels)
    flag("--min-box", type=float, default=0, metavar="PIXELS")
    flag("--edge-margin", type=float, default=0, metavar="PIXELS")
    flag("--shard-size", type=int, metavar="N")
    made.add_row_flags()
    flag = made.group("training, validation and test")
    flag("--split", type=float, metavar="FRACTION")
    flag("--split-by", action="append", metavar="GROUPS")
    flag("--val", nargs="+", action="extend", metavar="PREFIX")
    flag("--test", nargs="+", action="extend", metavar="PREFIX")
    made.add_run_flags()
    return made


def _split_labels(text: str) -> list[str]:
    """Split ``48=^48,30B=@type-30b``. A comma separates only where a name and ``=`` follow."""
    return re.split(r",(?=[^,=]+=)", text)


def _labels(items: Sequence[str]) -> dict[str, str]:
    labels: dict[str, str] = {}
    for item in items:
        name, equals, pattern = item.partition("=")
        if not equals or not name or name in labels:
            problem = f"--label {item!r} is not a new NAME=PATTERN"
            raise UsageError(problem, "", "such as 48=@type-48")
        labels[name] = pattern
    return labels


def _export(arguments: argparse.Namespace) -> ExportReport:
    from .. import export_dataset, load  # here so that --help and usage errors are fast

    labels = arguments.labels and _labels(arguments.labels)
    with shown_progress(arguments.quiet) as progress:
        train, val, test = (
            prefixes and load(prefixes, root=dict(arguments.root))
            for prefixes in (arguments.prefix, arguments.val, arguments.test)
        )
        return export_dataset(
            train,
            arguments.to,
            arguments.out,
            labels=labels,
            split=arguments.split,
            seed=arguments.seed,
            source=arguments.source == "source",
            workers=arguments.workers,
            progress=progress,
            val=val,
            test=test,
            min_box=arguments.min_box,
            edge_margin=arguments.edge_margin,
            shard_size=arguments.shard_size,
            split_by=arguments.split_by and tuple(arguments.split_by),
            rows=_rows(arguments, [train, val, test]),
        )


def _rows(arguments: argparse.Namespace, splits: Sequence[Dataset | None]) -> NDArray[Any] | None:
    """Choose among the rows of all splits, which are numbered one split after the other."""
    if not arguments.where and arguments.rows is None and arguments.sample is None:
        return None
    from .. import concat

    return chosen(concat(rows for rows in splits if rows is not None), arguments).row_numbers
