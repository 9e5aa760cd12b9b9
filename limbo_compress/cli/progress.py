"""Progress of a job: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from tqdm import tqdm

__all__ = ["Bar", "Lines"]

_LOG_SECONDS = 30


class Bar:
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


class Lines:
    """A plain line now and then and at the end, in a log.

    Parameters
    ----------
    print_line : callable
        Called as ``print_line(line)``.
    """

    def __init__(self, print_line: Callable[[str], None]) -> None:
        self._print_line = print_line
        self._begun = self._last = time.monotonic()
        self._resumed: int | None = None

    def __call__(self, done: int, samples: int) -> None:
        now = time.monotonic()
        if self._resumed is None:
            self._resumed = done
        if done == samples or now - self._last >= _LOG_SECONDS:
            self._last = now
            rate = (done - self._resumed) / max(now - self._begun, 1e-9)
            self._print_line(f"{done} of {samples} samples, {rate:.1f} samples/s")

    def close(self) -> None:
        """Do nothing: each line is complete."""
