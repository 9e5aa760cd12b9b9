from __future__ import annotations

import os
import pickle
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import psutil
import pytest

from limbo_compress.errors import SampleError, WorkerError
from limbo_compress.run.executor import Engine, Executor
from limbo_compress.run.processes import ProcessEngine
from tests.clusters import dask_cluster
from tests.jobs import wait_until
from tests.run.tasks import (
    Numbers,
    describe_worker,
    die_of_7_8_and_13,
    die_once,
    divide_by_zero,
    double,
    exit_at_once,
    lacks_nothing,
    raise_always,
    raise_once,
    raise_unless_fresh,
    refuse,
    run_forever,
    stand_still,
    tasks,
)

Make = Callable[..., Engine[Numbers, list[Any]]]


def processes(
    function: Callable[[Numbers], list[Any]],
    workers: int = 2,
    initialize: Callable[[], object] = lacks_nothing,
) -> Engine[Numbers, list[Any]]:
    return ProcessEngine(function, workers, initialize)


@pytest.fixture(scope="session")
def scheduler() -> Iterator[str]:
    """The address of a Dask scheduler, with three workers of one thread."""
    pytest.importorskip("distributed", reason="Dask is not installed")
    with dask_cluster(3) as address:
        yield address


@pytest.fixture(params=["processes", "dask"])
def make(request: pytest.FixtureRequest) -> Make:
    """Make an engine, one of those that this test runs over."""
    if request.param == "processes":
        return processes
    address: str = request.getfixturevalue("scheduler")

    def dask(
        function: Callable[[Numbers], list[Any]],
        workers: int = 3,
        initialize: Callable[[], object] = lacks_nothing,
    ) -> Engine[Numbers, list[Any]]:
        from limbo_compress.run.dask import DaskEngine

        return DaskEngine(function, initialize, address, None, 60)

    return dask


def run(engine: Engine[Numbers, list[Any]], work: list[Numbers]) -> list[Any]:
    with engine:
        engine.expect(len(work))
        engine.prepare(lacks_nothing)
        return [item for result in Executor(engine).run(work) for item in result]


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_every_task_is_done_once(make: Make, workers: int) -> None:
    assert sorted(run(make(double, workers), tasks(17))) == [2 * number for number in range(51)]


def test_no_task_gives_no_result(make: Make) -> None:
    assert run(make(double), tasks(0)) == []


def test_workers_are_processes_whose_libraries_use_one_thread(make: Make, tmp_path: Path) -> None:
    answers = run(make(describe_worker, 3), tasks(12, tmp_path))
    pids = {pid for pid, _ in answers}
    assert len(pids) == 3
    assert os.getpid() not in pids
    assert {threads for _, threads in answers} == {"1"}
    wait_until(lambda: not any(map(psutil.pid_exists, pids)), "all workers to end")


def test_our_own_errors_are_raised_unchanged(make: Make) -> None:
    with pytest.raises(SampleError) as caught:
        run(make(refuse), tasks(1))
    assert str(caught.value) == "/0: bad; repair it"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_task_that_raises_the_unexpected_is_given_up_with_the_place(
    make: Make, workers: int
) -> None:
    results = run(make(divide_by_zero, workers), tasks(2))
    (given_up,) = (item for item in results if isinstance(item, str))
    place = r"tasks\.py:\d+: division by zero"
    assert re.fullmatch(f"0 met an unexpected ZeroDivisionError at {place}", given_up)
    done = sorted(item for item in results if isinstance(item, float))
    assert done == sorted(1 / number for number in range(1, 6))


@pytest.mark.parametrize("workers", [1, 2])
def test_an_exception_that_does_not_come_again_loses_no_task(
    make: Make, tmp_path: Path, workers: int
) -> None:
    results = run(make(raise_once, workers), tasks(1, tmp_path))
    assert sorted(results) == [0, 2, 4]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_suspect_gets_a_fresh_worker(make: Make, workers: int) -> None:
    assert sorted(run(make(raise_unless_fresh, workers), tasks(2))) == list(range(0, 12, 2))


def test_suspects_do_not_wait_for_all_other_tasks(make: Make, tmp_path: Path) -> None:
    """So that a job on which everything fails can be stopped soon."""
    with make(raise_always) as engine:
        engine.prepare(lacks_nothing)
        results = Executor(engine).run(tasks(100, tmp_path))
        assert "unexpected LookupError" in next(results)[0]
        assert len(os.listdir(tmp_path)) < 60


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_tasks_that_kill_their_workers_are_given_up(make: Make, workers: int) -> None:
    results = run(make(die_of_7_8_and_13, workers), tasks(6))
    given_up = sorted(item for item in results if isinstance(item, str))
    assert given_up == [
        "13 ended with exit code 3",
        "7 was killed by SIGSEGV",
        "8 was killed by SIGKILL, as when memory runs out (fewer workers need less) (from outside)",
    ]
    done = sorted(item for item in results if isinstance(item, int))
    assert done == [2 * number for number in range(18) if number not in (7, 8, 13)]


def test_workers_that_die_now_and_then_lose_no_task(make: Make, tmp_path: Path) -> None:
    results = run(make(die_once), tasks(8, tmp_path))
    assert sorted(results) == list(range(0, 48, 2))


def test_workers_that_do_not_start_are_an_error(make: Make) -> None:
    message = "do not even start: the last one ended with exit code 9"
    with pytest.raises(WorkerError, match=message):
        run(make(double, 2, exit_at_once), tasks(3))


def test_all_workers_may_die_at_once() -> None:
    others = set(psutil.Process().children(recursive=True))
    with ProcessEngine(double, 2) as engine:
        results = Executor(engine).run(tasks(30))
        numbers = next(results)
        for process in set(psutil.Process().children(recursive=True)) - others:
            process.kill()
        numbers += [number for result in results for number in result]
    assert sorted(numbers) == [2 * number for number in range(90)]


def occupy_workers(
    engine: Engine[Numbers, list[Any]], folder: Path
) -> tuple[Iterator[Any], list[int]]:
    """Give three workers a task without end; return the results and the process ids."""
    engine.prepare(lacks_nothing)
    results = Executor(engine).run([Numbers((n,), str(folder)) for n in (0, 1, 2, 3)])
    assert next(results) == []
    wait_until(lambda: len(list(folder.glob("*.pid"))) == 3, "three busy workers")
    return results, [int(path.read_text()) for path in folder.glob("*.pid")]


def test_closing_the_results_kills_all_workers(make: Make, tmp_path: Path) -> None:
    with make(run_forever, 4) as engine:
        results, pids = occupy_workers(engine, tmp_path)
        results.close()  # type: ignore[attr-defined]
        wait_until(lambda: not any(map(psutil.pid_exists, pids)), "all workers to end")
        assert not engine.left_alive


def test_leaving_the_engine_kills_all_workers(make: Make, tmp_path: Path) -> None:
    with make(run_forever, 4) as engine:
        _, pids = occupy_workers(engine, tmp_path)
    wait_until(lambda: not any(map(psutil.pid_exists, pids)), "all workers to end")


def test_errors_survive_pickling() -> None:
    error = pickle.loads(pickle.dumps(SampleError("problem", "path", "hint")))
    assert (error.problem, error.path, error.hint) == ("problem", "path", "hint")


def test_a_worker_that_stands_still_is_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With what it is at; then it goes on."""
    monkeypatch.setattr("limbo_compress.run.processes._STILL_SECONDS", 0.2)
    caplog.set_level("WARNING")

    def go_on() -> None:
        wait_until(lambda: "has stood still" in caplog.text, "a warning")
        found = re.search(r"worker process (\d+) has stood still", caplog.text)
        assert found is not None
        os.kill(int(found[1]), signal.SIGCONT)

    thread = Thread(target=go_on)
    thread.start()
    with ProcessEngine[Numbers, list[Any]](stand_still, 1) as engine:
        results = list(Executor(engine).run(tasks(2)))
    thread.join()
    assert sorted(results) == [[0, 2, 4], [6, 8, 10]]
    warnings = [message for message in caplog.messages if "has stood still" in message]
    assert [message.endswith("seconds, at number 1") for message in warnings] == [True]
