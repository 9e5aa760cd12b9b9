"""Read batches ahead in a thread, while a network works on the one before."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterable, Iterator, Sized
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar, cast

from ..errors import UsageError

__all__ = ["Prefetch", "prefetch"]

Batch = TypeVar("Batch")

# A loop that is left waits this long, in seconds, for the batch that the thread is reading.
_LONGEST_WAIT = 5.0


def prefetch(loader: Iterable[Batch], batches: int = 1) -> Prefetch[Batch]:
    """Read batches of a loader ahead in a thread.

    Batches are the loader's own, in its order. An exception of the loader is raised in the loop,
    after the batches before it. The thread ends when the loop does, in whatever way.

    Parameters
    ----------
    loader : iterable
        Such as a ``DataLoader`` without workers. Every loop starts it anew.
    batches : int
        How many to have ready besides the one that is in use.

    Returns
    -------
    iterable
        Its length is that of the loader.

    Raises
    ------
    UsageError
        If `batches` is not a number from 1.

    Examples
    --------
    >>> [batch for batch in prefetch(["first", "second"])]
    ['first', 'second']
    """
    if not isinstance(batches, int) or batches < 1:
        raise UsageError(f"prefetch reads 1 batch or more ahead, not {batches!r}")
    return Prefetch(loader, batches)


class Prefetch(Generic[Batch]):
    """What `prefetch` returns."""

    def __init__(self, loader: Iterable[Batch], batches: int) -> None:
        self._loader = loader
        self._batches = batches

    def __len__(self) -> int:
        return len(cast(Sized, self._loader))

    def __iter__(self) -> Iterator[Batch]:
        return _Reading(iter(self._loader), self._batches)


class _Reading(Iterator[Batch]):
    """The batches of one loop, and the thread that reads them."""

    def __init__(self, batches: Iterator[Batch], ahead: int) -> None:
        self._ready: _Ready[Batch] = SimpleQueue()
        self._slots = threading.Semaphore(ahead)
        stopped = threading.Event()
        arguments = (batches, self._ready, self._slots, stopped)
        thread = threading.Thread(target=_read, args=arguments, daemon=True, name="prefetch")
        thread.start()
        # Also called when Python exits: a thread that is in PyTorch then would abort the process.
        self._close = weakref.finalize(self, _close, thread, self._slots, stopped)

    def __next__(self) -> Batch:
        if not self._close.alive:
            raise StopIteration
        batch, error = self._next()
        self._slots.release()
        if error is not None:
            self._close()
            raise error
        return cast(Batch, batch)

    def _next(self) -> tuple[Batch | None, BaseException | None]:
        while True:
            # Python only sees a signal that arrives just before it waits when it stops waiting.
            with suppress(Empty):
                return self._ready.get(timeout=1)


# A batch, or the exception that ended reading; StopIteration is the end.
_Ready = SimpleQueue[tuple[Batch | None, BaseException | None]]


def _read(
    batches: Iterator[Batch],
    ready: _Ready[Batch],
    slots: threading.Semaphore,
    stopped: threading.Event,
) -> None:
    try:
        while slots.acquire() and not stopped.is_set():
            ready.put((next(batches), None))
    except BaseException as error:  # the loop raises it
        ready.put((None, error))


def _close(thread: threading.Thread, slots: threading.Semaphore, stopped: threading.Event) -> None:
    stopped.set()
    slots.release()
    if thread is not threading.current_thread():  # whose garbage collection may have come here
        thread.join(_LONGEST_WAIT)
