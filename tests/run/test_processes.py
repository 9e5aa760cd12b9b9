from __future__ import annotations

import os
import pickle
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from limbo_compress.errors import SampleError, WorkerError
from limbo_compress.run.processes import ProcessExecutor


@dataclass(frozen=True)
class Numbers:
    """A task for these tests: some numbers, and a folder to leave notes in."""

    numbers: tuple[int, ...]
    folder: str = ""

    def divide(self) -> list[Numbers]:
        return [Numbers((number,), self.folder) for number in self.numbers]

    def give_up(self, ending: str) -> list[str]:
        assert len(self.numbers) == 1
        return [f"{self.numbers[0]} {ending}"]


def double(task: Numbers) -> list[Any]:
    return [2 * number for number in task.numbers]


def whose(task: Numbers) -> list[Any]:
    time.sleep(0.05)
    return [(os.getpid(), os.environ.get("OPENBLAS_NUM_THREADS")) for _ in task.numbers]


def refuse(task: Numbers) -> list[Any]:
    raise SampleError("bad", f"/{task.numbers[0]}", "mend it")


def stumble(task: Numbers) -> list[Any]:
    return [1 / number for number in task.numbers]


def die_on_sevens(task: Numbers) -> list[Any]:
    if 7 in task.numbers:
        os.kill(os.getpid(), signal.SIGKILL)
    if 13 in task.numbers:
        os._exit(3)
    return double(task)


def die_once(task: Numbers) -> list[Any]:
    """Die in the first process that does this task, as under random kills."""
    note = Path(task.folder, str(task.numbers))
    if not note.exists():
        note.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return double(task)


def linger(task: Numbers) -> list[Any]:
    if task.numbers == (0,):
        return []
    Path(task.folder, str(task.numbers[0])).write_text(str(os.getpid()))
    time.sleep(600)
    return []


def exit_at_once() -> None:
    os._exit(9)


def unchanged(task: Numbers) -> Numbers:
    return task


def tasks(count: int, size: int = 3, folder: Path | None = None) -> list[Numbers]:
    return [
        Numbers(tuple(range(at, at + size)), str(folder or ""))
        for at in range(0, count * size, size)
    ]


def run(function: Callable[[Numbers], list[Any]], work: list[Numbers], workers: int) -> list[Any]:
    with ProcessExecutor(function, workers) as executor:
        executor.expect(len(work))
        return [item for result in executor.run(work, unchanged) for item in result]


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_every_task_is_done_once(workers: int) -> None:
    assert sorted(run(double, tasks(17), workers)) == [2 * number for number in range(51)]


def test_no_task_no_result() -> None:
    assert run(double, tasks(0), 3) == []


def test_workers_are_processes_of_one_thread() -> None:
    answers = run(whose, tasks(12), 3)
    assert len({pid for pid, _ in answers}) == 3
    assert os.getpid() not in {pid for pid, _ in answers}
    assert {threads for _, threads in answers} == {"1"}
    assert not any(map(psutil.pid_exists, {pid for pid, _ in answers}))


def test_an_error_of_ours_comes_back_as_it_was() -> None:
    with pytest.raises(SampleError) as caught:
        run(refuse, tasks(1), 2)
    assert str(caught.value) == "/0: bad; mend it"


def test_an_unforeseen_error_names_itself_and_keeps_its_cause() -> None:
    with pytest.raises(WorkerError, match="ZeroDivisionError") as caught:
        run(stumble, tasks(1), 2)
    assert "in stumble" in "".join(caught.value.__notes__)


@pytest.mark.parametrize("workers", [2, 4])
def test_what_ends_its_workers_is_found_and_given_up(workers: int) -> None:
    results = run(die_on_sevens, tasks(10), workers)
    lost = sorted(item for item in results if isinstance(item, str))
    assert len(lost) == 2
    assert lost[0] == "13 ended with exit code 3"
    assert lost[1].startswith("7 was killed by SIGKILL, as when memory runs out")
    kept = sorted(item for item in results if isinstance(item, int))
    assert kept == [2 * number for number in range(30) if number not in (7, 13)]


def test_workers_that_die_now_and_then_lose_nothing(tmp_path: Path) -> None:
    results = run(die_once, tasks(8, folder=tmp_path), 2)
    assert sorted(results) == list(range(0, 48, 2))


def test_workers_that_do_not_start_are_an_error() -> None:
    said = "do not even start: the last one ended with exit code 9"
    with (
        ProcessExecutor(double, 2, exit_at_once) as executor,
        pytest.raises(WorkerError, match=said),
    ):
        list(executor.run(tasks(3), unchanged))


def test_all_processes_may_die_at_once() -> None:
    with ProcessExecutor(whose, 2) as executor:
        results = executor.run(tasks(30), unchanged)
        seen = next(results)
        for process in psutil.Process().children(recursive=True):
            process.kill()
        seen += [answer for result in results for answer in result]
    assert len(seen) == 90


def lingering(
    executor: ProcessExecutor[Numbers, list[Any]], folder: Path
) -> tuple[Iterator[Any], list[int]]:
    """A run whose three workers are all busy for ever, and their process ids."""
    results = executor.run([Numbers((n,), str(folder)) for n in (1, 2, 3, 0)], unchanged)
    assert next(results) == []
    notes = [folder / str(n) for n in (1, 2, 3)]
    while not all(note.exists() and note.read_text() for note in notes):
        time.sleep(0.01)
    return results, [int(note.read_text()) for note in notes]


def test_closing_ends_all_workers(tmp_path: Path) -> None:
    with ProcessExecutor(linger, 4) as executor:
        results, pids = lingering(executor, tmp_path)
        results.close()  # type: ignore[attr-defined]
        assert not any(map(psutil.pid_exists, pids))


def test_leaving_ends_all_workers(tmp_path: Path) -> None:
    with ProcessExecutor(linger, 4) as executor:
        _, pids = lingering(executor, tmp_path)
    assert not any(map(psutil.pid_exists, pids))


def test_errors_survive_pickling() -> None:
    error = pickle.loads(pickle.dumps(SampleError("problem", "path", "hint")))
    assert (error.problem, error.path, error.hint) == ("problem", "path", "hint")
