"""What all commands say in the same way: usage errors, and what the package logs."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from typing import NoReturn

from .. import UsageError
from .console import print_error

__all__ = ["Parser", "PrintLogged"]


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, "", f"{self.prog} --help lists the options")


class PrintLogged(logging.Handler):
    """Prints what the package reports during the job through `logging`.

    Parameters
    ----------
    with_flags : callable
        Puts the command's flags into a message in the place of names in backticks.
    """

    def __init__(self, with_flags: Callable[[str], str]) -> None:
        super().__init__()
        self._with_flags = with_flags

    def emit(self, record: logging.LogRecord) -> None:
        record.msg = self._with_flags(record.msg)  # not the arguments, which are paths
        print_error(record.getMessage())
