"""Rows in stretches, each looked at by one of several processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn, TypeVar

from ..dataset.row_views import release
from ..errors import InputError, WorkerError
from ..formats.pickling import no_garbage_collection
from ..oserrors import machine_errors
from ..run import cpus
from ..run.executor import Ending, Executor
from ..run.processes import ProcessEngine
from .selection import Selection

__all__ = ["Progress", "in_stretches"]

Result = TypeVar("Result")
Progress = Callable[[int, int], object]


@dataclass(frozen=True)
class _Stretch:
    """Consecutive places of a selection: a task for a worker."""

    start: int
    stop: int
    first_row: int

    def __len__(self) -> int:
        return self.stop - self.start

    def divide(self) -> Sequence[_Stretch]:
        return [self]

    def give_up(self, ending: Ending) -> NoReturn:
        rows = f"row {self.first_row} and the {self.stop - self.start - 1} after it"
        raise WorkerError(f"a worker process {ending.text}, at {rows}")


def in_stretches(
    function: Callable[[Selection, int], Result],
    selection: Selection,
    size: int,
    progress: Progress | None = None,
) -> Iterator[tuple[int, Result]]:
    """Call a function with stretches of a selection, in several processes.

    Parameters
    ----------
    function : callable
        Called as ``function(rows, place)`` with the rows of a stretch, and the place of its first
        one. Picklable, as is what it returns.
    selection : Selection
    size : int
        How many rows a stretch has.
    progress : callable, optional
        Called as ``progress(done, rows)``.

    Yields
    ------
    (int, object)
        The place of the first row of a stretch and what the function returned for it; in the order
        in which stretches are done.

    Raises
    ------
    LimboError
        What the function raised, or that workers die.
    """
    count = len(selection.rows)
    stretches = [
        _Stretch(at, min(at + size, count), int(selection.rows[at])) for at in range(0, count, size)
    ]
    done = 0
    for stretch, result in _run(partial(_call, function, selection), stretches, selection):
        done += stretch.stop - stretch.start
        if progress is not None:
            progress(done, count)
        yield stretch.start, result


def _call(
    function: Callable[[Selection, int], Any], selection: Selection, stretch: _Stretch
) -> tuple[_Stretch, Any]:
    part = selection.part(stretch.start, stretch.stop)
    with machine_errors(), no_garbage_collection():
        result = function(part, stretch.start)
    for array in (part.dataset.images, *part.dataset.masks.values()):
        if array is not None:
            release(array[0])
    return stretch, result


def _run(
    call: Callable[[_Stretch], Any], stretches: Sequence[_Stretch], selection: Selection
) -> Iterator[tuple[_Stretch, Any]]:
    workers = min(cpus.default_workers(), len(stretches))
    # Each process would read metadata without an index in full.
    if workers == 1 or not _has_index(selection):
        yield from map(call, stretches)
        return
    with ProcessEngine(call, workers) as engine:
        yield from Executor(engine).run(stretches)


def _has_index(selection: Selection) -> bool:
    """Whether samples can be read alone, or there are none."""
    dataset = selection.dataset
    if dataset.metadata is None:
        return True
    try:
        return bool(dataset.paths[0])
    except InputError:
        return False
