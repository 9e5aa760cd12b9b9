"""What all commands say in the same way: usage errors, and what the package logs."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from typing import Any, NoReturn

from .. import LimboError, UsageError
from .console import print_error, print_output

__all__ = ["Parser", "with_messages"]

_log = logging.getLogger("limbo_compress")


def with_messages(command: Callable[[], int], with_flags: Callable[[str], str]) -> int:
    """Run a command, and print what it logs, and the error that ends it.

    Parameters
    ----------
    command : callable
        Returns the exit code.
    with_flags : callable
        Puts the command's flags into a message in the place of names in backticks.

    Returns
    -------
    int
        The exit code of the command, or of its error.
    """
    _log.addHandler(_PrintLogged(with_flags))
    _log.propagate = False
    try:
        return command()
    except LimboError as error:
        print_error(with_flags(str(error)))
        return error.exit_code


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, and that knows ``--version``."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.add_argument(
            "--version", action=_Version, nargs=0, help="show the version and what is compiled"
        )

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, "", f"{self.prog} --help lists the options")


class _Version(argparse.Action):
    """Looks the version up only when it is asked for, since that takes longer than the start."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from .. import __version__, installation

        print_output(f"{parser.prog} {__version__}")
        for part, what in installation().items():
            print_output(f"{part}: {what}")
        parser.exit()


class _PrintLogged(logging.Handler):
    """Prints what the package reports during the job through `logging`."""

    def __init__(self, with_flags: Callable[[str], str]) -> None:
        super().__init__()
        self._with_flags = with_flags

    def emit(self, record: logging.LogRecord) -> None:
        record.msg = self._with_flags(record.msg)  # not the arguments, which are paths
        print_error(record.getMessage())
