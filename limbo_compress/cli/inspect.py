"""The command ``limbo-inspect``: argv to what to inspect, and what was found to lines."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .console import print_output
from .messages import print_json
from .parser import Parser, chosen
from .progress import shown_progress

if TYPE_CHECKING:
    from .. import Dataset

__all__ = ["parser", "run"]

_VERIFIED = 100
_COUNT = re.compile(r"[-+]?\d+|all")


def run(arguments: argparse.Namespace) -> int:
    """Run the command. The exit code is 1 if outputs are damaged, or differ from the sources."""
    from .. import load  # here so that --help and usage errors are fast

    dataset = chosen(load(arguments.prefix, root=dict(arguments.root)), arguments)
    if arguments.against:
        _other(dataset, arguments)  # what is wrong with them is said before any work
    found: dict[str, Any] = {}
    is_well = True
    for name in _chosen_tasks(arguments):
        # A bar on a terminal, and nothing in a log: what takes long writes files.
        with shown_progress(arguments.quiet, in_logs=False) as progress:
            result = _TASKS[name](dataset, arguments, progress)
        found[name] = result.as_json
        is_well &= result.is_well
        for line in () if arguments.json else result.lines:
            print_output(line)
    if arguments.json:
        print_json(found)
    return 0 if is_well else 1


def _chosen_tasks(arguments: argparse.Namespace) -> list[str]:
    chosen = [name for name in _TASKS if getattr(arguments, name, None)]
    if arguments.against and arguments.html:
        chosen.remove("html")  # which shows pairs then
    return ["summary", *chosen] if chosen in ([], ["against"]) else chosen


def parser() -> Parser:
    """Make the parser of the arguments."""
    made = _Parser(
        "inspect",
        "[options] PREFIX ...",
        ("test", "test --where '^48' --sample 50 --sheet sheet.png"),
        "Inspect what limbo-compress wrote. Without options: a summary on one screen.",
        "-- ends the options: what follows is a PREFIX.",
        {
            "--sheet": "draw them on a contact sheet, .png or .jpg",
            "--html": "write a gallery to a folder",
            "--against": "compare with the outputs of PREFIX, such as a test set: which rows and"
            " groups both have; with --html, show the rows; may be repeated",
            "--card": "write a data card in Markdown, with front matter for Hugging Face",
            "--croissant": "describe whole outputs in Croissant 1.1 (JSON-LD)",
            "--check": "compare them with their checksums; this needs no sources",
            "--provenance": "print the command that would make the outputs again",
            "--verify": f"compare N of them (default: {_VERIFIED}; or all) with their sources",
        },
    )
    made.add_prefixes()
    made.add_row_flags()
    flag = made.group("what to do with them")
    flag("--sheet", type=Path, metavar="FILE")
    flag("--html", type=Path, metavar="DIR")
    flag("--against", action="append", metavar="PREFIX")
    flag("--card", type=Path, metavar="FILE")
    flag("--croissant", type=Path, metavar="FILE")
    flag("--check", action="store_true")
    flag("--provenance", action="store_true")
    flag("--verify", nargs="?", type=_row_count, const=_VERIFIED, metavar="N")
    made.add_run_flags()
    return made


class _Parser(Parser):
    """A parser whose ``--verify`` takes the next word only if it is a number or ``all``."""

    def parse(self, argv: Sequence[str] | None) -> argparse.Namespace:
        words = list(sys.argv[1:] if argv is None else argv)
        for at in range(words.index("--") if "--" in words else len(words)):
            if words[at] == "--verify" and not _COUNT.fullmatch("".join(words[at + 1 : at + 2])):
                words[at] = f"--verify={_VERIFIED}"
        return super().parse(words)


def _row_count(text: str) -> int:
    if text == "all":
        return sys.maxsize
    if text.isascii() and text.isdecimal() and 0 < len(text) < 10 and int(text):
        return int(text)
    raise argparse.ArgumentTypeError(f"it takes a number of rows or all, not {text[:60]!r}")


class _Result(NamedTuple):
    """What was found or written, for machines and for people."""

    as_json: Any
    lines: Iterable[str]
    is_well: bool = True


_Task = Callable[["Dataset", argparse.Namespace, Callable[[int, int], object] | None], _Result]


def _sheet(dataset: Dataset, arguments: argparse.Namespace, progress: Any) -> _Result:
    from .. import write_sheet

    paths = write_sheet(dataset, arguments.sheet, progress, workers=arguments.workers)
    return _Result(paths, paths)


def _gallery(dataset: Dataset, arguments: argparse.Namespace, progress: Any) -> _Result:
    from .. import write_gallery

    path = write_gallery(dataset, arguments.html, progress, workers=arguments.workers)
    return _Result(path, [path])


def _against(dataset: Dataset, arguments: argparse.Namespace, progress: Any) -> _Result:
    from .. import leaks, write_gallery
    from .summary_text import leak_lines

    other = _other(dataset, arguments)
    report = leaks(dataset, other, progress=progress, workers=arguments.workers)
    lines = list(leak_lines(report, " ".join(arguments.against)))
    found = report.as_json()
    if arguments.html and report.pairs:
        pairs = report.select(dataset, other)
        found["html"] = write_gallery(pairs, arguments.html, workers=arguments.workers)
        lines.append(found["html"])
    elif arguments.html:
        lines.append(f"there is no pair to show, so {arguments.html} was not written")
    return _Result(found, lines)


def _other(dataset: Dataset, arguments: argparse.Namespace) -> Dataset:
    """Open what to compare with, and check that both have what this needs."""
    from .. import InputError, concat, load

    other = load(arguments.against, root=dict(arguments.root))
    for rows in (dataset, other):
        rows.rows("images")
    if arguments.html:
        try:
            concat([dataset, other]).rows("images")
        except InputError as error:
            error.add_hint("a gallery shows rows of one size; leave out `html`")
            raise
    return other


def _card(dataset: Dataset, arguments: argparse.Namespace, _: Any) -> _Result:
    from .. import write_card

    path = write_card(dataset, arguments.card)
    return _Result(path, [path])


def _croissant(dataset: Dataset, arguments: argparse.Namespace, progress: Any) -> _Result:
    from .. import write_croissant

    path = write_croissant(dataset, arguments.croissant, progress)
    return _Result(path, [path])


def _verify(dataset: Dataset, arguments: argparse.Namespace, progress: Any) -> _Result:
    from .. import verify

    report = verify(dataset, arguments.verify, progress, workers=arguments.workers)
    lines = [*map(str, report.findings), report.describe()]
    return _Result(report.as_json(), lines, not report.findings)


def _check(dataset: Dataset, arguments: argparse.Namespace, progress: Any) -> _Result:
    from .. import check

    report = check(dataset, progress, workers=arguments.workers)
    notes = (f"{reason}: {path}" for path, reason in report.unchecked.items())
    lines = [*map(str, report.findings), *notes, report.describe()]
    return _Result(report.as_json(), lines, not report.findings)


def _provenance(dataset: Dataset, _: argparse.Namespace, __: Any) -> _Result:
    from .. import provenance

    found = provenance(dataset)
    lines = [line for each in found for line in (each.describe(), each.line) if line]
    return _Result([each.as_json() for each in found], lines, all(each.line for each in found))


def _summary(dataset: Dataset, arguments: argparse.Namespace, progress: Any) -> _Result:
    from .. import summarize
    from .summary_text import lines

    summary = summarize(dataset, progress, workers=arguments.workers)
    return _Result(summary.as_json(), lines(summary), not summary.damaged)


_TASKS: dict[str, _Task] = {
    "sheet": _sheet,
    "html": _gallery,
    "against": _against,
    "card": _card,
    "croissant": _croissant,
    "check": _check,
    "verify": _verify,
    "provenance": _provenance,
    "summary": _summary,
}
