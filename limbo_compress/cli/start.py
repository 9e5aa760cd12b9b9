"""The entry point: signal handlers first, so that a signal during the imports ends in one line."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from importlib import import_module
from types import FrameType
from typing import NoReturn

from .. import Stopped
from . import console

__all__ = ["export", "inspect", "main"]

# Schedulers can be told to send SIGUSR1 ahead of the time limit.
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``limbo-compress``.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments; by default those of this process.

    Returns
    -------
    int
        The exit code: 0 when everything was published, 2 for a usage error, 128 plus the
        signal's number for a signal, else 1.
    """
    return _run("compress", argv)


def export(argv: Sequence[str] | None = None) -> int:
    """Run ``limbo-export``, as `main` runs ``limbo-compress``."""
    return _run("export", argv)


def inspect(argv: Sequence[str] | None = None) -> int:
    """Run ``limbo-inspect``, as `main` runs ``limbo-compress``."""
    return _run("inspect", argv)


def _run(command: str, argv: Sequence[str] | None) -> int:
    """Run the command of a module beside this one."""
    console.name_command(f"limbo-{command}")
    console.open_missing_streams()
    try:
        _install_signal_handlers()
        exit_code: int = import_module(f".{command}", __package__).run(argv)
        _ignore_signals()  # there is nothing left to stop
        return exit_code
    except Stopped as stopped:
        console.print_error(str(stopped))
        return stopped.exit_code
    except (ImportError, MemoryError, OSError) as error:  # a job converts its own
        console.print_error(f"cannot start: {str(error) or 'out of memory'}")
        return 1
    finally:
        console.flush()


def _install_signal_handlers() -> None:
    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup ignores SIGHUP
            signal.signal(number, _stop)


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    _ignore_signals()  # a second one must not disturb the shutdown
    raise Stopped(signal.Signals(number).name, 128 + number)


def _ignore_signals() -> None:
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
