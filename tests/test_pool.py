from __future__ import annotations

import os
import pickle
import signal
import time
from pathlib import Path

import psutil
import pytest

from limbo_compress import pool
from limbo_compress.errors import SampleError, WorkerError


def double(task: int) -> int:
    return 2 * task


def whose(task: int) -> tuple[int, str | None]:
    time.sleep(0.05)
    return os.getpid(), os.environ.get("OPENBLAS_NUM_THREADS")


def refuse(task: int) -> int:
    raise SampleError("bad", f"/{task}", "mend it")


def stumble(task: int) -> float:
    return 1 / task


def die(task: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return task


def leave(task: int) -> int:
    os._exit(3)


def linger(task: str) -> int:
    Path(task).write_text(str(os.getpid()))
    time.sleep(600)
    return 0


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_every_task_is_done_once(workers: int) -> None:
    assert sorted(pool.run(double, range(50), workers)) == [2 * task for task in range(50)]


def test_no_task_no_result() -> None:
    assert list(pool.run(double, [], 3)) == []


def test_workers_are_processes_of_one_thread() -> None:
    answers = list(pool.run(whose, range(12), 3))
    assert len({pid for pid, _ in answers}) == 3
    assert os.getpid() not in {pid for pid, _ in answers}
    assert {threads for _, threads in answers} == {"1"}
    assert not any(map(psutil.pid_exists, {pid for pid, _ in answers}))


def test_an_error_of_ours_comes_back_as_it_was() -> None:
    with pytest.raises(SampleError) as caught:
        list(pool.run(refuse, [7], 2))
    assert str(caught.value) == "/7: bad; mend it"


def test_an_unforeseen_error_names_itself_and_keeps_its_cause() -> None:
    with pytest.raises(WorkerError, match="ZeroDivisionError") as caught:
        list(pool.run(stumble, [0], 2))
    assert "in stumble" in "".join(caught.value.__notes__)


@pytest.mark.parametrize(("death", "word"), [(die, "SIGKILL"), (leave, "exit code 3")])
def test_a_dead_worker_is_noticed(death: object, word: str) -> None:
    with pytest.raises(WorkerError, match=word):
        list(pool.run(death, [1], 2))  # type: ignore[arg-type]


def test_closing_ends_all_workers(tmp_path: Path) -> None:
    notes = [tmp_path / "0", tmp_path / "1"]
    results = pool.run(_linger_or_answer, [str(notes[0]), str(notes[1]), ""], 3)
    assert next(results) == 1
    while not all(note.exists() and note.read_text() for note in notes):
        time.sleep(0.01)
    results.close()  # type: ignore[attr-defined]
    assert not any(psutil.pid_exists(int(note.read_text())) for note in notes)


def _linger_or_answer(task: str) -> int:
    return linger(task) if task else 1


def test_errors_survive_pickling() -> None:
    error = pickle.loads(pickle.dumps(SampleError("problem", "path", "hint")))
    assert (error.problem, error.path, error.hint) == ("problem", "path", "hint")
