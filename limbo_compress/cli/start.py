"""The entry point: signal handlers first, so that a signal during the imports ends in one line."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

from .. import Stopped, signals
from . import console

__all__ = ["export", "inspect", "main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``limbo-compress`` with these arguments, or those of this process.

    Returns
    -------
    int
        The exit code: 0 when everything was written and all is well, 2 for a usage error, 128 plus
        the signal's number for a signal, else 1.
    """
    return _run("compress", argv)


def export(argv: Sequence[str] | None = None) -> int:
    """Run ``limbo-export``, as `main` runs ``limbo-compress``."""
    return _run("export", argv)


def inspect(argv: Sequence[str] | None = None) -> int:
    """Run ``limbo-inspect``, as `main` runs ``limbo-compress``."""
    return _run("inspect", argv)


def _run(name: str, argv: Sequence[str] | None) -> int:
    """Run the command of a module in this folder."""
    console.name_command(f"limbo-{name}")
    console.open_missing_streams()
    try:
        try:
            signals.install()
            command = import_module(f".{name}", __package__)
            return int(import_module(".messages", __package__).run(command, argv))
        except (ImportError, MemoryError, OSError) as error:  # a job converts its own
            console.print_error(f"cannot start: {str(error) or 'out of memory'}")
            return 1
        finally:
            signals.ignore()  # there is nothing left to stop
    except Stopped as stopped:
        console.print_error(str(stopped))
        return stopped.exit_code
    finally:
        console.flush()
