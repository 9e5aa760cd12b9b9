"""The command ``limbo-export``: argv to `export_dataset`, messages and exit codes."""

from __future__ import annotations

import argparse
import logging
import re
import sys
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

from .console import print_error, print_output
from .messages import Parser, with_messages
from .progress import Bar, Lines

if TYPE_CHECKING:
    from .. import ExportReport

__all__ = ["run"]

_NAME = "limbo-export"
# What messages call by the names of Python's arguments.
_FLAGS = {"prefix": "PREFIX", "out": "-o", "source": "--from source"}

_log = logging.getLogger("limbo_compress")


def run(argv: Sequence[str] | None) -> int:
    """Run the command.

    Parameters
    ----------
    argv : sequence of str or None
        The arguments; None means those of this process.

    Returns
    -------
    int
        The exit code: 0 when everything was written, 2 for a usage error, else 1.

    Raises
    ------
    Stopped
        If a signal arrives.
    """
    return with_messages(partial(_run, argv), _with_flags)


def _run(argv: Sequence[str] | None) -> int:
    arguments = _parser().parse_args(argv)
    if arguments.quiet:
        _log.setLevel(logging.ERROR)
    report = _export(arguments)
    if not arguments.quiet:
        print_output(_describe(report))
    return 0


def _describe(report: ExportReport) -> str:
    dropped = f"  {report.dropped} dropped" if report.dropped else ""
    return f"{report.path}  {report.rows} rows  {report.boxes} boxes{dropped}"


def _with_flags(message: str) -> str:
    """Replace arguments in backticks by their flags, or by those of limbo-compress."""
    return re.sub(
        r"`(\w+)`", lambda match: _FLAGS.get(match[1], "--" + match[1].replace("_", "-")), message
    )


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog=_NAME,
        description="Hand compressed Limbo data sets to other tools.",
        epilog="Pictures are the rows in 8-bit sRGB, named by the number of their row. With"
        " --labels, what belongs to no label is left out.",
    )
    parser.add_argument("prefix", nargs="+", help="prefix of the outputs of limbo-compress")
    parser.add_argument(
        "--to",
        required=True,
        metavar="FORMAT",
        help="coco, yolo, yolo-seg (contours), parquet (a table of annotations), webdataset or"
        " imagefolder",
    )
    parser.add_argument(
        "-o", "--out", required=True, help="folder to be written, which must not exist"
    )
    parser.add_argument(
        "--from",
        dest="source",
        choices=("rows", "source"),
        default="rows",
        help="source: link the source images, or copy them where links are not possible, with boxes"
        " in their pixels (default: rows)",
    )
    parser.add_argument(
        "--labels",
        type=_labels,
        metavar="NAME=PATTERN,...",
        help="labels by regular expressions, such as 48=^48,30=^30; the first that is found in"
        " a category counts (default: each category with a box, or one folder for imagefolder)",
    )
    parser.add_argument(
        "--split",
        type=float,
        metavar="FRACTION",
        help="how much of the rows, of 1, goes at random to a part train; the others are val, with"
        " the same balance of labels",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="another seed splits in another way (default: 0)"
    )
    parser.add_argument(
        "--val",
        nargs="+",
        action="extend",
        metavar="PREFIX",
        help="instead of --split: train on the first prefixes, validate on these",
    )
    parser.add_argument(
        "--test", nargs="+", action="extend", metavar="PREFIX", help="with --val: test on these"
    )
    parser.add_argument(
        "--min-box",
        type=float,
        default=0,
        metavar="PIXELS",
        help="drop objects whose box, within the picture, covers fewer pixels (default: 0)",
    )
    parser.add_argument(
        "--edge-margin",
        type=float,
        default=0,
        metavar="PIXELS",
        help="drop objects whose center is closer to an edge of the picture (default: 0)",
    )
    parser.add_argument(
        "--shard-size",
        type=int,
        metavar="N",
        help="rows of a shard of webdataset (default: 1000); each worker of a loader needs a shard",
    )
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="processes (default: all the CPUs that this process may use)",
    )
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    return parser


def _labels(text: str) -> dict[str, str]:
    """Parse ``48=^48,30=^30``. A comma separates only where a name and ``=`` follow."""
    labels: dict[str, str] = {}
    for item in re.split(r",(?=[^,=]+=)", text):
        name, equals, pattern = item.partition("=")
        if not equals or not name or name in labels:
            raise argparse.ArgumentTypeError(
                f"{item!r} is no new NAME=PATTERN; expected such as 48=^48,30=^30"
            )
        labels[name] = pattern
    return labels


def _export(arguments: argparse.Namespace) -> ExportReport:
    from .. import export_dataset, load  # here so that --help and usage errors are fast

    def export(progress: Bar | Lines | None) -> ExportReport:
        train, val, test = (
            prefixes and load(prefixes)
            for prefixes in (arguments.prefix, arguments.val, arguments.test)
        )
        return export_dataset(
            train,
            arguments.to,
            arguments.out,
            labels=arguments.labels,
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
        )

    if arguments.quiet:
        return export(None)
    with closing(Bar() if sys.stderr.isatty() else Lines(print_error)) as progress:
        return export(progress)
