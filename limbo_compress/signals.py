"""The signals that end a job: the first one raises `Stopped`, unless outputs are being published.

A flag decides, not a signal mask, which would hold for one thread only: another one would take the
signal, and Python would still raise in the main thread.
"""

from __future__ import annotations

import signal
import sys
from contextlib import contextmanager

from .errors import Stopped

TYPE_CHECKING = False  # importing it from typing takes long, and no signal is caught yet
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

__all__ = ["finishing", "ignore", "install"]

# Schedulers send some of these ahead of a limit.
_SIGNALS = (
    *(signal.SIGINT, signal.SIGTERM, signal.SIGHUP),
    *(signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU),
)
# How soon `Stopped` is raised again. By then, the callback that lost it has returned.
_AGAIN_SECONDS = 0.1

_is_finishing = False
_has_stopped = False


def install() -> None:
    """Raise `Stopped` at the first signal from now on, in the main thread.

    Signals that are ignored, as SIGHUP is by nohup, stay ignored.
    """
    global _is_finishing, _has_stopped
    _is_finishing = _has_stopped = False
    sys.unraisablehook = _raise_again
    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _stop)


@contextmanager
def finishing() -> Iterator[None]:
    """Publish outputs: no signal interrupts this block, nor what follows its success.

    If the block raises an error, signals count again. Where `install` was not called, as in a
    program that uses the package, this does nothing.
    """
    global _is_finishing
    before = _is_finishing
    _is_finishing = True
    try:
        yield
    except BaseException:
        _is_finishing = before
        raise


def ignore() -> None:
    """Ignore signals until this process has ended."""
    global _is_finishing
    _is_finishing = True
    for number in (*_SIGNALS, signal.SIGALRM):
        signal.signal(number, signal.SIG_IGN)  # at its exit, Python forgets all other handlers


def _stop(number: int, frame: FrameType | None) -> None:
    global _has_stopped
    if not _has_stopped and not _is_finishing:
        _has_stopped = True  # others must not disturb the shutdown
        raise Stopped(signal.Signals(number).name, 128 + number)


def _raise_again(lost: sys.UnraisableHookArgs) -> None:
    """Raise `Stopped` again if Python dropped it, as in the callback of a weak reference."""
    stopped = lost.exc_value
    if isinstance(stopped, Stopped):
        signal.signal(signal.SIGALRM, lambda *_: _raise(stopped))
        signal.setitimer(signal.ITIMER_REAL, _AGAIN_SECONDS)
    elif not _is_finishing:  # `ignore` may provoke "Signal 15 ignored due to race condition"
        sys.__unraisablehook__(lost)


def _raise(stopped: Stopped) -> None:
    if not _is_finishing:
        raise stopped
