"""A summary as lines of text that fit one screen."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from .console import escaped

if TYPE_CHECKING:
    from .. import LeakReport, Summary
    from ..inspect.leaks import SharedGroups

__all__ = ["leak_lines", "lines"]

# How many of each kind fit a screen.
_MAX_FOLDERS, _MAX_CATEGORIES, _MAX_PAIRED, _MAX_TEXTS, _MAX_ODD = 8, 14, 5, 4, 8
_MAX_LEAKED = 3
_NAME_WIDTH = 16
_TEXT_WIDTH = 58
_MAX_COMMANDS, _COMMAND_WIDTH = 2, 180
# The parts of a sample that are counted on a line of their own.
_PARTS = ("synthetic", "boxes", "contours", "tags", "cryptomatte", "provenance")


def lines(summary: Summary) -> Iterator[str]:
    """Write a summary as lines of text.

    Long names are shortened, and of long lists only the most frequent things are shown.
    """
    yield from _files(summary)
    if summary.has_metadata:
        yield from _campaigns(summary)
        yield from _categories(summary)
    yield from _samples(summary)
    if summary.channels is not None:
        yield from _pixels(summary)


def _files(summary: Summary) -> Iterator[str]:
    chosen = "all" if summary.rows == summary.total else f"{summary.rows:,} chosen"
    yield f"rows: {summary.total:,}, {chosen}"
    rows = [
        [str(file.shape).replace(",)", ")"), file.dtype, _size(file.bytes), _short(file.path, 200)]
        for file in summary.files
    ]
    yield from _table(rows, "<<><")
    yield f"  the numbers of rows match; {_checksums(summary)}"
    for command in list(summary.provenance.values())[:_MAX_COMMANDS]:
        yield f"  made by {_short(command, _COMMAND_WIDTH)}"


def _checksums(summary: Summary) -> str:
    if not summary.has_metadata:
        return "there are no metadata"
    if summary.damaged:
        row, problem = next(iter(summary.damaged.items()))
        damaged = f"the metadata of {len(summary.damaged):,} rows are DAMAGED"
        return f"{damaged}, such as row {row}: {_short(problem, _TEXT_WIDTH)}"
    if not summary.has_paths:
        return "the metadata have no index, so no checksums and no paths"
    return "the checksums of the metadata hold"


def _size(count: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


def _campaigns(summary: Summary) -> Iterator[str]:
    folders = summary.campaigns
    if not folders:
        return
    common = os.path.commonpath([os.path.dirname(folder) for folder in folders])
    yield ""
    yield f"samples by folder in {_short(common, _TEXT_WIDTH)}"
    names = {os.path.relpath(folder, common): count for folder, count in folders.items()}
    yield from _counted(names, _MAX_FOLDERS)


def _counted(counts: Mapping[str, int], limit: int) -> Iterator[str]:
    """Count the first things of a list, and say how many more there are."""
    shown = list(counts.items())[:limit]
    yield from _table([[f"{count:,}", _short(name, _TEXT_WIDTH)] for name, count in shown], "><")
    if len(counts) > limit:
        rest = sum(counts.values()) - sum(count for _, count in shown)
        yield f"  and {rest:,} in {len(counts) - limit:,} more (--json has all)"


def _categories(summary: Summary) -> Iterator[str]:
    by_samples = sorted(summary.categories, key=lambda name: -summary.categories[name].samples)
    if not by_samples:
        return
    paired = by_samples[:_MAX_PAIRED]
    together = {(first, second): rows for first, second, rows in summary.together}
    together |= {(second, first): rows for (first, second), rows in together.items()}
    heads = ["samples", "annotations", "boxes", "contours"]
    table = [["category", *heads, *(f"+ {_short(name, _NAME_WIDTH)}" for name in paired)]]
    for name in sorted(by_samples[:_MAX_CATEGORIES]):
        pairs = [
            "·" if name == other else f"{together.get((name, other), 0):,}" for other in paired
        ]
        counts = [f"{count:,}" for count in summary.categories[name]]
        table.append([_short(name, _NAME_WIDTH), *counts, *pairs])
    yield ""
    yield from _table(table, "<" + ">" * (len(heads) + len(paired)))
    if len(by_samples) > _MAX_CATEGORIES:
        yield f"  and {len(by_samples) - _MAX_CATEGORIES:,} more categories (--json has all)"
    if summary.mixed:
        mixed = (f"{', '.join(names)} ({name})" for name, names in summary.mixed.items())
        yield f"  several names of one thing: {'; '.join(mixed)}"
    if summary.repeated:
        yield f"  {summary.repeated:,} annotations repeat one of their sample, and do not count"


def _samples(summary: Summary) -> Iterator[str]:
    table = [["samples", "with", "without", "unknown"]]
    found: list[tuple[str, int, int]] = []
    if summary.has_metadata:
        found = [(part, summary.parts[part], len(summary.damaged)) for part in _PARTS]
    for mask, rows in summary.masks.items():
        found.append((_short(f"mask {mask}", _NAME_WIDTH), rows, summary.unknown_masks[mask]))
    for name, rows, unknown in found:
        numbers = (rows, summary.rows - rows - unknown, unknown)
        shown = "synthetic (else real)" if name == "synthetic" else name
        table.append([shown, *(f"{number:,}" for number in numbers)])
    if found:
        yield ""
        yield from _table(table, "<>>>")
    if any(summary.unknown_masks.values()):
        yield "  without a cryptomatte, a mask is all zeros and says nothing: it is unknown"
    if summary.parts.get("empty boxes"):
        yield f"  {summary.parts['empty boxes']:,} samples have a box without any area"
    sizes = {f"{width} × {height} pixels": rows for width, height, rows in summary.sizes}
    texts = {"license": summary.licenses, "copyright": summary.copyrights, "source image": sizes}
    for what, counts in texts.items():
        if counts:
            named = {name or "(not given)": count for name, count in counts.items()}
            yield f"{what}:"
            yield from _counted(named, _MAX_TEXTS)


def _pixels(summary: Summary) -> Iterator[str]:
    channels = summary.channels
    assert channels is not None
    table = [["channels", "mean R", "G", "B", "deviation R", "G", "B"]]
    for name, mean, deviation in (
        ("linear light", channels.linear_mean, channels.linear_std),
        ("sRGB", channels.srgb_mean, channels.srgb_std),
    ):
        table.append([name, *(f"{value:.4f}" for value in (*mean, *deviation))])
    yield ""
    yield from _table(table, "<>>>>>>")
    yield "odd rows:"
    odd = {reason: rows for reason, rows in summary.odd.items() if rows}
    for reason, rows in odd.items():
        yield f"  {len(rows):,} {reason}: {_numbers(rows)}"
    if summary.duplicates:
        groups = summary.duplicates
        repeats = sum(len(group) - 1 for group in groups)
        yield f"  {repeats:,} repeat the image of another, such as {_numbers(groups[0], ' = ')}"
    elif not odd:
        yield "  none is black, constant, not finite, or the same as another"


def leak_lines(report: LeakReport, name: str) -> Iterator[str]:
    """Write what a set to evaluate on has in common with one to train on."""
    yield ""
    yield f"{_short(name, _TEXT_WIDTH)}, {report.test:,} rows, against these {report.train:,}:"
    equal, near = report.pairs[: report.equal], report.pairs[report.equal :]
    for pairs, what, sign in ((equal, "equal", "="), (near, "nearly equal", "~")):
        if pairs:
            such = ", ".join(f"{pair.test} {sign} {pair.train}" for pair in pairs[:_MAX_LEAKED])
            yield f"  WARNING: rows that {what} one of these: {len(pairs):,}, such as {such}"
    if not report.pairs:
        yield "  none of its rows equals one of these, or nearly does"
    for kind, shared in report.groups.items():
        yield f"  by {kind}: {_in_both(shared, report.test, _short(name, _TEXT_WIDTH))}"


def _in_both(shared: SharedGroups, rows: int, name: str) -> str:
    if not shared.groups:
        return "no group is in both"
    some = "1 group is in both; it has"
    if shared.groups > 1:
        some = f"{shared.groups:,} groups are in both; they have"
    return f"{some} {shared.rows:,} of the {rows:,} rows of {name}"


def _numbers(rows: Sequence[int], separator: str = ", ") -> str:
    more = [] if len(rows) <= _MAX_ODD else ["…"]
    return separator.join([*map(str, rows[:_MAX_ODD]), *more])


def _short(text: str, width: int) -> str:
    """Escape what cannot be printed, and shorten the text in the middle to fit."""
    if len(text) > 4 * width:  # of a text of any length, the ends are enough
        text = text[: 2 * width] + text[-2 * width :]
    line = escaped(text)
    if len(line) <= width:
        return line
    half = width // 2
    return f"{line[:half]}…{line[1 + half - width :]}"


def _table(rows: Sequence[Sequence[str]], alignment: str) -> Iterator[str]:
    """Align the columns, two spaces apart."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = zip(row, alignment, widths, strict=True)
        yield ("  " + "  ".join(f"{text:{align}{width}}" for text, align, width in cells)).rstrip()
