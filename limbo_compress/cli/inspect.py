"""The command ``limbo-inspect``: argv to what to look at, and what was seen to lines."""

from __future__ import annotations

import argparse
import json
import logging
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import UsageError
from .console import print_output
from .messages import Parser, with_messages
from .progress import Bar

if TYPE_CHECKING:
    from ..inspect.selection import Selection
    from ..inspect.stretches import Progress

__all__ = ["run"]

_NAME = "limbo-inspect"
_VERIFIED = 100
_FLAGS = {"prefix": "PREFIX"}
# What this command has no option for.
_ADVICE_OF_COMPRESS = re.compile(r"(?:;|, or) use fewer `workers`")

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
        The exit code: 0 if all is well, 1 if metadata are damaged, rows differ from their sources,
        or something cannot be read or written, 2 for a usage error.

    Raises
    ------
    Stopped
        If a signal arrives.
    """
    return with_messages(lambda: _inspect(_arguments(argv)), _with_flags)


def _with_flags(message: str) -> str:
    message = _ADVICE_OF_COMPRESS.sub("", message)
    return re.sub(r"`(\w+)`", lambda match: _FLAGS.get(match[1], match[0]), message)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    arguments = _parser().parse_args(argv)
    if not arguments.prefix:
        hint = f"{_NAME} --help lists the options"
        raise UsageError("no PREFIX is given, or it stands after --verify", "", hint)
    return arguments


def _parser() -> Parser:
    parser = Parser(
        prog=_NAME,
        usage=f"{_NAME} PREFIX ... [options]",
        description="Look at what limbo-compress wrote. Without options: a summary on one screen.",
    )
    parser.add_argument("prefix", nargs="*", metavar="PREFIX", help="beginning of the output names")
    parser.add_argument("--json", action="store_true", help="print JSON, for machines")
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    _add_row_options(parser.add_argument_group("which rows"))
    _add_view_options(parser.add_argument_group("what to do with them"))
    return parser


def _add_row_options(which: argparse._ArgumentGroup) -> None:
    which.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="CATEGORY",
        help="rows with a category in which this regular expression is found; with ! in front,"
        " rows without one; may be repeated",
    )
    which.add_argument("--rows", metavar="A:B", help="rows by their numbers, such as 5:20 or -10:")
    which.add_argument("--sample", type=int, metavar="N", help="N of these rows at random")
    which.add_argument(
        "--seed", type=int, default=0, metavar="S", help="seed of --sample (default: 0)"
    )


def _add_view_options(what: argparse._ArgumentGroup) -> None:
    what.add_argument(
        "--sheet", type=Path, metavar="FILE", help="draw them on a contact sheet, .png or .jpg"
    )
    what.add_argument("--html", type=Path, metavar="DIR", help="write a gallery to a folder")
    what.add_argument(
        "--verify",
        nargs="?",
        type=_row_count,
        const=_VERIFIED,
        metavar="N",
        help=f"compare N of them (default: {_VERIFIED}; or all) with their sources",
    )


def _row_count(text: str) -> int:
    if text == "all":
        return sys.maxsize
    if text.isascii() and text.isdecimal() and 0 < len(text) < 10 and int(text):
        return int(text)
    raise argparse.ArgumentTypeError(f"it takes a number of rows or all, not {text[:60]!r}")


def _inspect(arguments: argparse.Namespace) -> int:
    from ..inspect.selection import choose  # here so that --help and usage errors are fast

    selection = choose(
        arguments.prefix, arguments.where, arguments.rows, arguments.sample, arguments.seed
    )
    found: dict[str, Any] = {}
    is_well = True
    if arguments.sheet:
        found["sheet"] = _sheet(arguments, selection)
    if arguments.html:
        found["html"] = _gallery(arguments, selection)
    if arguments.verify:
        found["verify"], is_well = _verify(arguments, selection)
    if not (arguments.sheet or arguments.html or arguments.verify):
        found["summary"], is_well = _summary(arguments, selection)
    if arguments.json:
        print_output(json.dumps(found, allow_nan=False))
    return 0 if is_well else 1


@contextmanager
def _progress(arguments: argparse.Namespace) -> Iterator[Progress | None]:
    """A bar on a terminal, and nothing in a log: what takes long writes files."""
    if arguments.quiet or not sys.stderr.isatty():
        yield None
        return
    bar = Bar()
    try:
        yield bar
    finally:
        bar.close()


def _summary(arguments: argparse.Namespace, selection: Selection) -> tuple[dict[str, Any], bool]:
    from ..inspect.summary import summarize
    from .summary_text import lines

    with _progress(arguments) as progress:
        summary = summarize(arguments.prefix, selection, progress)
    if not arguments.json:
        for line in lines(summary):
            print_output(line)
    return summary.as_json(), not summary.damaged


def _sheet(arguments: argparse.Namespace, selection: Selection) -> list[str]:
    from ..inspect.views.sheet import write_sheet

    with _progress(arguments) as progress:
        paths = write_sheet(selection, arguments.sheet, progress)
    if not arguments.json:
        for path in paths:
            print_output(path)
    return paths


def _gallery(arguments: argparse.Namespace, selection: Selection) -> str:
    from ..inspect.views.gallery import write_gallery

    with _progress(arguments) as progress:
        path = write_gallery(arguments.prefix, selection, arguments.html, progress)
    if not arguments.json:
        print_output(path)
    return path


def _verify(arguments: argparse.Namespace, selection: Selection) -> tuple[dict[str, Any], bool]:
    from ..inspect.verify import verify

    with _progress(arguments) as progress:
        report = verify(selection, arguments.verify, progress)
    if not arguments.json:
        for finding in report.findings:
            print_output(str(finding))
        print_output(report.describe())
    return report.as_json(), not report.findings
