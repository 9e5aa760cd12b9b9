"""Files and folders that take their names only when they are complete."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from ...oserrors import writing

__all__ = ["unfinished"]


@contextmanager
def unfinished(path: str) -> Iterator[str]:
    """Make a hidden folder next to a path for what is not finished, and remove it in the end."""
    folder, name = os.path.split(os.path.abspath(path))
    # Names may have 255 bytes, and that of the path may be as long.
    work = os.path.join(folder, f".{name[:40]}.{secrets.token_hex(8)}.partial")
    with writing(path):
        os.mkdir(work)
        try:
            yield work
        finally:
            shutil.rmtree(work, ignore_errors=True)
