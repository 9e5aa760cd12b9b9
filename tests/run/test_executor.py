from __future__ import annotations

import os
import pickle
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from limbo_compress.errors import SampleError, WorkerError
from limbo_compress.run.executor import Executor
from limbo_compress.run.processes import ProcessEngine
from tests.jobs import wait_until
from tests.run.tasks import (
    Numbers,
    describe_worker,
    die_of_7_8_and_13,
    die_once,
    divide_by_zero,
    double,
    exit_at_once,
    raise_always,
    raise_once,
    raise_unless_fresh,
    refuse,
    run_forever,
    tasks,
    unchanged,
)


def run(function: Callable[[Numbers], list[Any]], work: list[Numbers], workers: int) -> list[Any]:
    with ProcessEngine(function, workers) as engine:
        engine.expect(len(work))
        return [item for result in Executor(engine).run(work, unchanged) for item in result]


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_every_task_is_done_once(workers: int) -> None:
    assert sorted(run(double, tasks(17), workers)) == [2 * number for number in range(51)]


def test_no_task_gives_no_result() -> None:
    assert run(double, tasks(0), 3) == []


def test_workers_are_processes_whose_libraries_use_one_thread(tmp_path: Path) -> None:
    answers = run(describe_worker, tasks(12, tmp_path), 3)
    pids = {pid for pid, _ in answers}
    assert len(pids) == 3
    assert os.getpid() not in pids
    assert {threads for _, threads in answers} == {"1"}
    assert not any(map(psutil.pid_exists, pids))


def test_our_own_errors_are_raised_unchanged() -> None:
    with pytest.raises(SampleError) as caught:
        run(refuse, tasks(1), 2)
    assert str(caught.value) == "/0: bad; repair it"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_task_that_raises_the_unexpected_is_given_up_with_the_place(workers: int) -> None:
    results = run(divide_by_zero, tasks(2), workers)
    (given_up,) = (item for item in results if isinstance(item, str))
    place = r"tasks\.py:\d+: division by zero"
    assert re.fullmatch(f"0 met an unexpected ZeroDivisionError at {place}", given_up)
    done = sorted(item for item in results if isinstance(item, float))
    assert done == sorted(1 / number for number in range(1, 6))


@pytest.mark.parametrize("workers", [1, 2])
def test_an_exception_that_does_not_come_again_loses_no_task(tmp_path: Path, workers: int) -> None:
    results = run(raise_once, tasks(1, tmp_path), workers)
    assert sorted(results) == [0, 2, 4]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_suspect_gets_a_fresh_worker(workers: int) -> None:
    assert sorted(run(raise_unless_fresh, tasks(2), workers)) == list(range(0, 12, 2))


def test_suspects_do_not_wait_for_all_other_tasks(tmp_path: Path) -> None:
    """So that a job on which everything fails can be stopped soon."""
    with ProcessEngine(raise_always, 2) as engine:
        results = Executor(engine).run(tasks(100, tmp_path), unchanged)
        assert "unexpected LookupError" in next(results)[0]
        assert len(os.listdir(tmp_path)) < 60


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_tasks_that_kill_their_workers_are_given_up(workers: int) -> None:
    results = run(die_of_7_8_and_13, tasks(6), workers)
    given_up = sorted(item for item in results if isinstance(item, str))
    assert given_up == [
        "13 ended with exit code 3",
        "7 was killed by SIGSEGV",
        "8 was killed by SIGKILL, as when memory runs out (fewer --workers need less)"
        " (from outside)",
    ]
    done = sorted(item for item in results if isinstance(item, int))
    assert done == [2 * number for number in range(18) if number not in (7, 8, 13)]


def test_workers_that_die_now_and_then_lose_no_task(tmp_path: Path) -> None:
    results = run(die_once, tasks(8, tmp_path), 2)
    assert sorted(results) == list(range(0, 48, 2))


def test_workers_that_do_not_start_are_an_error() -> None:
    message = "do not even start: the last one ended with exit code 9"
    with (
        ProcessEngine(double, 2, exit_at_once) as engine,
        pytest.raises(WorkerError, match=message),
    ):
        list(Executor(engine).run(tasks(3), unchanged))


def test_all_workers_may_die_at_once() -> None:
    with ProcessEngine(double, 2) as engine:
        results = Executor(engine).run(tasks(30), unchanged)
        numbers = next(results)
        for process in psutil.Process().children(recursive=True):
            process.kill()
        numbers += [number for result in results for number in result]
    assert sorted(numbers) == [2 * number for number in range(90)]


def occupy_workers(
    engine: ProcessEngine[Numbers, list[Any]], folder: Path
) -> tuple[Iterator[Any], list[int]]:
    """Give three workers a task without end; return the results and the process ids."""
    results = Executor(engine).run([Numbers((n,), str(folder)) for n in (1, 2, 3, 0)], unchanged)
    assert next(results) == []
    wait_until(lambda: len(list(folder.glob("*.pid"))) == 3, "three busy workers")
    return results, [int(path.read_text()) for path in folder.glob("*.pid")]


def test_closing_the_results_kills_all_workers(tmp_path: Path) -> None:
    with ProcessEngine(run_forever, 4) as engine:
        results, pids = occupy_workers(engine, tmp_path)
        results.close()  # type: ignore[attr-defined]
        assert not any(map(psutil.pid_exists, pids))


def test_leaving_the_engine_kills_all_workers(tmp_path: Path) -> None:
    with ProcessEngine(run_forever, 4) as engine:
        _, pids = occupy_workers(engine, tmp_path)
    assert not any(map(psutil.pid_exists, pids))


def test_errors_survive_pickling() -> None:
    error = pickle.loads(pickle.dumps(SampleError("problem", "path", "hint")))
    assert (error.problem, error.path, error.hint) == ("problem", "path", "hint")
