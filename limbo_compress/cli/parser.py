"""The parser of a command, and the flags that mean the same in all of them."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from .. import UsageError
from .console import print_output

if TYPE_CHECKING:
    from .. import Dataset

__all__ = ["Parser", "chosen"]

# The flags that mean the same in all commands that have them.
_HELPS = {
    "prefix": "beginning of the output names",
    "--root": "look for samples that were below the folder OLD in the folder NEW; may be repeated",
    "--where": "rows with a category in which this regular expression is found, or one of a set of"
    " names such as @type-48; with ! in front, rows without one; NAME=PATTERN, NAME!=PATTERN,"
    " NAME<x, <=, > or >= choose by a column of the table of samples, such as /camera/focal; may be"
    " repeated",
    "--rows": "rows by their numbers, such as 5:20 or -10:",
    "--sample": "N of these rows at random",
    "--seed": "another seed chooses others at random (default: 0)",
    "--workers": "processes (default: all the CPUs that this process may use)",
    "--quiet": "print nothing but errors, and results that were asked for",
    "--json": "print the result as JSON",
    "--version": "show the version and what is compiled",
}


class Parser(argparse.ArgumentParser):
    """A parser whose help begins with examples, and whose errors are one line.

    `name` is that of the command, without ``limbo-``; `helps` says what each flag of its own does,
    by the last name of the flag.
    """

    def __init__(
        self,
        name: str,
        usage: str,
        examples: Sequence[str],
        description: str,
        epilog: str,
        helps: Mapping[str, str],
    ) -> None:
        prog = f"limbo-{name}"
        super().__init__(prog, f"{prog} {usage}", description, epilog)
        self._examples = examples
        self._helps = {**_HELPS, **helps}
        self.add_argument("--version", action=_Version, nargs=0, help=self._helps["--version"])

    def parse(self, argv: Sequence[str] | None) -> argparse.Namespace:
        """Parse arguments; None means those of this process."""
        return self.parse_args(argv)

    def format_help(self) -> str:
        examples = "".join(f"  {self.prog} {example}\n" for example in self._examples)
        return f"examples:\n{examples}\n{super().format_help()}"

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, "", f"{self.prog} --help lists the options")

    def group(self, title: str) -> Callable[..., None]:
        """Begin a group of flags; return a function that adds one, as `add_argument` does."""
        group = self.add_argument_group(title)

        def add(*names: str, **settings: Any) -> None:
            group.add_argument(*names, help=self._helps[names[-1]], **settings)

        return add

    def add_prefixes(self) -> None:
        """Add the prefixes whose outputs are read."""
        flag = self.group("input")
        flag("prefix", nargs="+", metavar="PREFIX")
        flag("--root", action="append", default=[], type=_root, metavar="OLD=NEW")

    def add_row_flags(self) -> None:
        """Add the choice of rows, which `chosen` makes."""
        flag = self.group("which rows")
        flag("--where", action="append", default=[], metavar="CONDITION")
        flag("--rows", metavar="A:B")
        flag("--sample", type=int, metavar="N")
        flag("--seed", type=int, default=0, metavar="S")

    def add_run_flags(self) -> Callable[..., None]:
        """Add how to run and what to print; return a function that adds more of these."""
        flag = self.group("how to run")
        flag("--workers", type=int, metavar="N")
        flag("--quiet", action="store_true")
        flag("--json", action="store_true")
        return flag


def _root(text: str) -> tuple[str, str]:
    old, _, new = text.partition("=")
    if not (old and new):
        problem = f"it takes OLD=NEW, a folder and where it is now, not {text[:60]!r}"
        raise argparse.ArgumentTypeError(problem)
    return old, new


def chosen(dataset: Dataset, arguments: argparse.Namespace) -> Dataset:
    """Return the rows that the flags of `Parser.add_row_flags` choose."""
    from .. import choose_rows  # here because limbo-compress starts without numpy

    return choose_rows(dataset, arguments.where, arguments.rows, arguments.sample, arguments.seed)


class _Version(argparse.Action):
    """Looks the version up only when it is asked for, since that takes longer than the start."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from .. import __version__, installation

        print_output(f"{parser.prog} {__version__}")
        for part, what in installation().items():
            print_output(f"{part}: {what}")
        parser.exit()
