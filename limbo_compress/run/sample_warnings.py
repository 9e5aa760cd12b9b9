"""Catch what libraries print to stderr and what we log, to report it with its sample.

Code of this package that finds something odd about a sample logs a warning to `limbo_compress`.
What reads files may not: it runs ahead, while another sample is converted.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

__all__ = ["captured"]


@contextmanager
def captured() -> Iterator[Callable[[], list[str]]]:
    """Catch what is logged and printed.

    Yields
    ------
    callable
        Returns the messages logged and the lines printed since its last call.
    """
    with _logged() as take_logged, _printed() as take_printed:
        yield lambda: take_logged() + take_printed()


class _Collector(logging.Handler):
    """Keeps messages until they are taken."""

    def __init__(self) -> None:
        super().__init__()
        self._messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self._messages.append(record.getMessage())

    def take(self) -> list[str]:
        taken, self._messages = self._messages, []
        return taken


@contextmanager
def _logged() -> Iterator[Callable[[], list[str]]]:
    """Take the warnings of this package from its other handlers, whatever its level is."""
    log, collector = logging.getLogger("limbo_compress"), _Collector()
    handlers, level, propagate = log.handlers, log.level, log.propagate
    log.handlers, log.propagate = [collector], False
    log.setLevel(logging.WARNING)
    try:
        yield collector.take
    finally:
        log.handlers, log.propagate = handlers, propagate
        log.setLevel(level)


@contextmanager
def _printed() -> Iterator[Callable[[], list[str]]]:
    """Redirect file descriptor 2, to which libpng and libjpeg write past `sys.stderr`."""
    sys.stderr.flush()
    file = _scratch()
    if file is None:  # what is printed is not lost then, but shows no sample
        yield list
        return
    saved = os.dup(2)
    try:
        with file:
            os.dup2(file.fileno(), 2)
            try:
                yield lambda: _read_lines(file)
            finally:
                os.dup2(saved, 2)
    finally:
        os.close(saved)


def _scratch() -> BinaryIO | None:
    """Open a file, in memory where possible, since /tmp may be full; None where there is none."""
    if sys.platform == "linux":
        # Old kernels and sandboxes refuse memfd_create(2), and some builds of Python lack it.
        with suppress(OSError, AttributeError):
            return open(os.memfd_create("stderr"), "w+b", buffering=0)
    with suppress(OSError):
        return tempfile.TemporaryFile(buffering=0)
    return None


def _read_lines(file: BinaryIO) -> list[str]:
    # The descriptors share one position, which is at the end of what was printed.
    if not file.tell():
        return []
    file.seek(0)
    text = file.read().decode(errors="replace")
    file.seek(0)
    file.truncate()
    return [line for line in map(str.strip, text.splitlines()) if line]
