"""What all commands say in the same way: errors, what the package logs, and JSON."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from .. import LimboError
from .console import print_error, print_output

__all__ = ["print_json", "run"]

_log = logging.getLogger("limbo_compress")

# How a command line writes an argument of Python: --NAME, but for these.
_FLAGS = {
    "directories": "directory",
    "groups": "--split-by",
    "labels": "--label",
    "masks": "--mask",
    "out": "-o",
    "partitions": "N of --partition",
    "source": "--from source",
}


def run(command: ModuleType, argv: Sequence[str] | None) -> int:
    """Run a command, print what it logs and the error that ends it, and return the exit code.

    Its module has ``parser()``, and ``run(arguments)``, which returns the exit code.
    """
    _log.addHandler(_PrintLogged())
    _log.propagate = False
    try:
        arguments = command.parser().parse(argv)
        if arguments.quiet:
            _log.setLevel(logging.ERROR)
        return int(command.run(arguments))
    except LimboError as error:
        error.problem, error.hint = _with_flags(error.problem), _with_flags(error.hint)
        print_error(str(error))
        return error.exit_code


def print_json(value: Any) -> None:
    """Print a value as one line of JSON. A range becomes its two ends."""
    text = json.dumps(value, allow_nan=False, default=lambda rows: [rows.start, rows.stop])
    print_output(text)


def _with_flags(message: str) -> str:
    """Write the names in backticks, which are arguments of Python, as flags."""
    return re.sub(
        r"`(\w+)`", lambda match: _FLAGS.get(match[1], "--" + match[1].replace("_", "-")), message
    )


class _PrintLogged(logging.Handler):
    """Prints what the package reports during the job through `logging`."""

    def emit(self, record: logging.LogRecord) -> None:
        record.msg = _with_flags(record.msg)  # not the arguments, which are paths
        print_error(record.getMessage())
