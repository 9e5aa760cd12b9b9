from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from limbo_compress.errors import OutputError
from limbo_compress.output import lock as lock_module
from limbo_compress.output.lock import Lock
from tests.jobs import wait_until


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A work folder that is not there yet."""
    return tmp_path / "work"


def taken(folder: Path, run: str) -> Lock:
    return Lock(str(folder), run).__enter__()


def leave_lock(folder: Path, **change: object) -> Path:
    """Leave the lock of a process like this one, except for some differences."""
    with Lock(str(folder), "dead"):
        process = json.loads((folder / "lock" / "dead").read_text())
    path = folder / "lock" / "dead"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(process | change))
    return path


def age(path: Path) -> None:
    os.utime(path, (path.stat().st_mtime - 100,) * 2)


def test_the_work_folder_comes_and_goes_with_its_lock(folder: Path) -> None:
    with Lock(str(folder), "a") as lock:
        lock.check()
        assert folder.exists()
    assert not folder.exists()
    with Lock(str(folder), "b"):
        (folder / "work").touch()
    assert os.listdir(folder) == ["work"]


def test_only_one_run_holds_a_lock(folder: Path) -> None:
    with Lock(str(folder), "a") as lock:
        before = sorted(folder.rglob("*"))
        with pytest.raises(OutputError, match=f"another run is at work.*process {os.getpid()} on"):
            taken(folder, "b")
        assert sorted(folder.rglob("*")) == before
        lock.check()


def test_the_lock_of_a_killed_run_does_not_block(folder: Path) -> None:
    program = (
        "import os, sys; from limbo_compress.output.lock import Lock;"
        "Lock(sys.argv[1], 'dead').__enter__(); os.kill(os.getpid(), 9)"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(folder)])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # a zombie: dead all the same
    assert os.listdir(folder / "lock") == ["dead"]
    with Lock(str(folder), "b") as lock:
        assert os.listdir(folder / "lock") == ["b"]
        lock.check()
    assert not folder.exists()
    process.wait()


def test_a_reused_process_id_does_not_block(folder: Path) -> None:
    leave_lock(folder, started="1")
    with Lock(str(folder), "b"):
        pass


@pytest.mark.parametrize("change", [{"host": "elsewhere"}, {"namespace": "pid:[1]"}, {"boot": "x"}])
def test_a_lock_of_another_machine_expires(folder: Path, change: dict[str, object]) -> None:
    path = leave_lock(folder, **change)
    with pytest.raises(OutputError, match="another run"):
        taken(folder, "b")
    age(path)
    with Lock(str(folder), "b"):
        pass
    assert not folder.exists()


def live(path: Path) -> None:
    """Let the process of another machine show life, once someone waits to see it."""
    drafts = path.parent.parent
    wait_until(lambda: any(drafts.glob("lock-*")), "another run")
    os.utime(path)


def test_a_run_on_another_machine_that_shows_no_life_is_waited_for(folder: Path) -> None:
    """It is dead a minute after the last touch, as far as its files tell."""
    path = leave_lock(folder, host="elsewhere")
    os.utime(path, (path.stat().st_mtime - 57,) * 2)
    begun = time.monotonic()
    with Lock(str(folder), "b", wait=60) as lock:
        assert lock.dead == {"dead": False}
    assert time.monotonic() - begun > 1


def test_a_run_on_another_machine_that_shows_life_is_alive(folder: Path) -> None:
    path = leave_lock(folder, host="elsewhere")
    os.utime(path, (path.stat().st_mtime - 30,) * 2)
    with ThreadPoolExecutor(1) as thread:
        touched = thread.submit(live, path)
        with pytest.raises(OutputError, match="another run is at work"):
            Lock(str(folder), "b", wait=3600).__enter__()
        touched.result()


def test_a_run_on_another_machine_may_release_its_lock_while_another_waits(folder: Path) -> None:
    path = leave_lock(folder, host="elsewhere")

    def release() -> None:
        wait_until(lambda: any(folder.glob("lock-*")), "another run")
        path.unlink()

    with ThreadPoolExecutor(1) as thread:
        released = thread.submit(release)
        with Lock(str(folder), "b", wait=3600) as lock:
            assert lock.dead == {}
        released.result()


@pytest.mark.parametrize("content", ["", '{"host": "', "[]", '{"pid": null}'])
def test_a_damaged_lock_blocks_only_until_it_expires(folder: Path, content: str) -> None:
    path = leave_lock(folder)
    path.write_text(content)
    with pytest.raises(OutputError, match="another run is at work on this prefix; wait"):
        taken(folder, "b")
    age(path)
    with Lock(str(folder), "b"):
        pass


def test_a_lock_that_was_half_released_is_free(folder: Path) -> None:
    (folder / "lock").mkdir(parents=True)
    with Lock(str(folder), "a"):
        pass
    assert not folder.exists()


def test_a_lock_that_was_taken_without_a_reply_is_held(folder: Path) -> None:
    """A network may lose the reply to the rename, and then say that it failed."""
    leave_lock(folder, host="elsewhere").rename(folder / "lock" / "a")
    with Lock(str(folder), "a") as lock:
        lock.check()
    assert not folder.exists()


def test_a_run_that_was_taken_over_notices_and_disturbs_nobody(folder: Path) -> None:
    late = taken(folder, "late")
    leave_lock_of_another_host(folder / "lock" / "late")
    with Lock(str(folder), "next") as lock:
        with pytest.raises(OutputError, match="another run took over this prefix"):
            late.check()
        late.__exit__()
        assert os.listdir(folder / "lock") == ["next"]
        lock.check()


def leave_lock_of_another_host(path: Path) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | {"host": "elsewhere"}))
    age(path)


def test_a_run_touches_its_lock_again_after_a_failure(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock_module, "_BEAT_SECONDS", 0.01)
    path, hidden = folder / "lock" / "a", folder.with_name("hidden")
    touches = threading.Semaphore(0)

    def count(event: str, arguments: tuple[object, ...]) -> None:
        if event == "os.utime" and arguments[0] == str(path):
            touches.release()

    sys.addaudithook(count)
    with Lock(str(folder), "a"):
        path.rename(hidden)
        for _ in range(3):  # so the second of them failed for certain
            assert touches.acquire(timeout=60)
        hidden.rename(path)
        os.utime(path, (0, 0))
        for _ in range(3):
            assert touches.acquire(timeout=60)
        assert path.stat().st_mtime > 0


@pytest.mark.parametrize("dead", [False, True])
def test_of_many_runs_at_once_one_wins(folder: Path, dead: bool) -> None:
    def take(run: str) -> Lock | None:
        barrier.wait()
        try:
            return taken(folder, run)
        except OutputError:
            return None

    for number in range(30):
        if dead:
            leave_lock(folder, started="1")
        barrier = threading.Barrier(8)
        with ThreadPoolExecutor(8) as threads:
            locks = list(threads.map(take, [f"{number}-{thread}" for thread in range(8)]))
        (won,) = (lock for lock in locks if lock is not None)
        won.check()
        assert os.listdir(folder) == ["lock"]
        won.__exit__()
        assert not folder.exists()


def test_a_run_can_take_the_lock_while_others_end(folder: Path) -> None:
    """The folder goes away and comes back all the time; each run gets the lock or is refused."""
    held = threading.Lock()

    def run(name: str) -> str:
        try:
            with Lock(str(folder), name) as lock:
                assert held.acquire(blocking=False), "two runs hold the lock"
                lock.check()
                held.release()
        except OutputError as error:
            return error.problem
        return "won"

    with ThreadPoolExecutor(4) as threads:
        ends = Counter(threads.map(run, map(str, range(400))))
    assert ends.pop("won") > 0
    assert all("another run is at work" in problem for problem in ends)
    assert not folder.exists()


def test_a_folder_that_cannot_be_created_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot write it: Not a directory"):
        taken(tmp_path / "file" / "work", "a")
