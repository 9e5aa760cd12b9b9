"""Progress of a job: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, NoReturn

from .console import print_error

if TYPE_CHECKING:
    from tqdm import tqdm

__all__ = ["shown_progress"]

_LOG_SECONDS = 30


@contextmanager
def shown_progress(quiet: bool, in_logs: bool = True) -> Iterator[_Bar | _Lines | None]:
    """Yield what shows how far the work inside is, or None if nothing is to be shown."""
    on_terminal = sys.stderr.isatty()
    if quiet or not (on_terminal or in_logs):
        yield None
        return
    with closing(_Bar() if on_terminal else _Lines()) as progress:
        yield progress


class _Bar:
    """A bar of samples, on a terminal."""

    def __init__(self) -> None:
        self._bar: tqdm[NoReturn] | None = None

    def __call__(self, done: int, samples: int) -> None:
        if self._bar is None:
            # tqdm takes them for arguments, and fails on those that make no sense.
            for name in [name for name in os.environ if name.startswith("TQDM_")]:
                del os.environ[name]
            # Imported late: tqdm starts a thread, and workers can be forked only before that.
            from tqdm import tqdm

            self._bar = tqdm(total=samples, initial=done, unit="sample")
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


class _Lines:
    """A plain line now and then and at the end, in a log."""

    def __init__(self) -> None:
        self._begun = self._last = time.monotonic()
        self._resumed: int | None = None

    def __call__(self, done: int, samples: int) -> None:
        now = time.monotonic()
        if self._resumed is None:
            self._resumed = done
        if done == samples or now - self._last >= _LOG_SECONDS:
            self._last = now
            rate = (done - self._resumed) / max(now - self._begun, 1e-9)
            print_error(f"{done} of {samples} samples, {rate:.1f} samples/s")

    def close(self) -> None:
        """Do nothing: each line is complete."""
