"""What libraries print to stderr about damaged data, kept for the sample that it is about."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO

__all__ = ["captured"]


@contextmanager
def captured() -> Iterator[Callable[[], list[str]]]:
    """Turn file descriptor 2 aside: libpng and libjpeg write there, past `sys.stderr`.

    Yields
    ------
    callable
        Gives the lines that came since it was last called.
    """
    sys.stderr.flush()
    saved = os.dup(2)
    try:
        with _scratch() as file:
            os.dup2(file.fileno(), 2)
            try:
                yield lambda: _take(file)
            finally:
                os.dup2(saved, 2)
    finally:
        os.close(saved)


def _scratch() -> BinaryIO:
    """A file in memory where there is such a thing: /tmp may be full."""
    if sys.platform == "linux":
        return open(os.memfd_create("stderr"), "w+b", buffering=0)
    return tempfile.TemporaryFile(buffering=0)


def _take(file: BinaryIO) -> list[str]:
    # The descriptors share one position, which printing has left at the end.
    if not file.tell():
        return []
    file.seek(0)
    text = file.read().decode(errors="replace")
    file.seek(0)
    file.truncate()
    return [line for line in map(str.strip, text.splitlines()) if line]
