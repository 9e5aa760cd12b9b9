"""Rows in stretches, each looked at by one of several processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn, TypeVar

from ..dataset.dataset import Dataset
from ..errors import InputError, UsageError, WorkerError
from ..formats.pickling import no_garbage_collection
from ..oserrors import machine_errors
from ..run import cpus
from ..run.executor import Ending, Executor, Progress
from ..run.processes import ProcessEngine

__all__ = ["in_stretches"]

Result = TypeVar("Result")


@dataclass(frozen=True)
class _Stretch:
    """Consecutive rows of a data set: a task for a worker."""

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
    function: Callable[[Dataset, int], Result],
    dataset: Dataset,
    size: int,
    progress: Progress | None = None,
    workers: int | None = None,
) -> Iterator[tuple[int, Result]]:
    """Call a function with stretches of `size` rows of a data set, in several processes.

    The function gets the rows of a stretch and the place of its first one. Yields this place and
    what the function returned, in the order in which stretches are done.
    """
    if workers is not None and workers < 1:
        raise UsageError(f"`workers` is {workers}, expected 1 or more")
    count, numbers = len(dataset), dataset.row_numbers.tolist()
    stretches = [_Stretch(at, min(at + size, count), numbers[at]) for at in range(0, count, size)]
    if not _has_index(dataset):  # each process would read the metadata in full
        workers = 1
    workers = min(workers or cpus.default_workers(), len(stretches))
    done = 0
    for stretch, result in _run(partial(_call, function, dataset), stretches, workers):
        done += stretch.stop - stretch.start
        if progress is not None:
            progress(done, count)
        yield stretch.start, result


def _call(
    function: Callable[[Dataset, int], Any], dataset: Dataset, stretch: _Stretch
) -> tuple[_Stretch, Any]:
    rows = dataset[stretch.start : stretch.stop]
    with machine_errors(), no_garbage_collection():
        result = function(rows, stretch.start)
    rows.release()
    return stretch, result


def _run(
    call: Callable[[_Stretch], Any], stretches: Sequence[_Stretch], workers: int
) -> Iterator[tuple[_Stretch, Any]]:
    if workers <= 1:
        yield from map(call, stretches)
        return
    with ProcessEngine(call, workers) as engine:
        yield from Executor(engine).run(stretches)


def _has_index(dataset: Dataset) -> bool:
    """Whether samples can be read alone, or there are none."""
    if dataset.metadata is None:
        return True
    try:
        return bool(dataset.paths[:1])
    except InputError:
        return False
