"""Catch what libraries print to stderr about damaged data, to report it with its sample."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

__all__ = ["captured"]


@contextmanager
def captured() -> Iterator[Callable[[], list[str]]]:
    """Redirect file descriptor 2, to which libpng and libjpeg write past `sys.stderr`.

    Yields
    ------
    callable
        Returns the lines printed since its last call.
    """
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
