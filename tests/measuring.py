"""A plugin of coverage.py for ``make coverage``: processes save what they did before they answer.

Workers are killed when there is nothing left to do, and what they have not saved by then is lost.
"""

from __future__ import annotations

from contextlib import suppress
from multiprocessing.connection import Connection
from resource import RLIM_INFINITY, RLIMIT_FSIZE, getrlimit
from threading import RLock
from typing import Any

from coverage import Coverage
from coverage.plugin_support import Plugins

__all__ = ["coverage_init"]

_save = Coverage.save
_send = Connection.send
_one_at_a_time = RLock()


def coverage_init(plugins: Plugins, options: dict[str, Any]) -> None:
    """Replace what saves and sends; coverage.py calls this in each process that it measures."""
    Coverage.save = _save_if_possible  # type: ignore[assignment]
    Connection.send = _save_and_send  # type: ignore[assignment]


def _save_and_send(connection: Connection, message: object) -> None:
    measured = Coverage.current()
    if measured is not None:
        measured.save()
    _send(connection, message)


def _save_if_possible(measured: Coverage) -> None:
    """Save, but print nothing where a test leaves no room, memory or descriptors for it."""
    if getrlimit(RLIMIT_FSIZE)[0] != RLIM_INFINITY:  # it would damage what is saved already
        return
    with _one_at_a_time, suppress(Exception):
        _save(measured)
