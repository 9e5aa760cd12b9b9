from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from limbo_compress.errors import OutputError
from limbo_compress.output.lock import Lock


def write_holder(path: Path, **change: object) -> None:
    """Write the lock of this process, with some changes."""
    with Lock(str(path)):
        holder = json.loads(path.read_text())
    path.write_text(json.dumps(holder | change))


def test_only_one_run_holds_a_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with Lock(str(path)):
        with pytest.raises(OutputError, match=f"another run is at work.*process {os.getpid()} on"):
            Lock(str(path)).__enter__()
        assert path.exists()
    assert os.listdir(tmp_path) == []
    with Lock(str(path)):
        pass


def test_the_lock_of_a_killed_run_does_not_block(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    program = (
        "import os, sys; from limbo_compress.output.lock import Lock;"
        "Lock(sys.argv[1]).__enter__(); os.kill(os.getpid(), 9)"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(path)])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # a zombie: dead all the same
    assert path.exists()
    with Lock(str(path)):
        assert json.loads(path.read_text())["pid"] == os.getpid()
    process.wait()


def test_a_reused_process_id_does_not_block(tmp_path: Path) -> None:
    write_holder(tmp_path / "lock", started="1")
    with Lock(str(tmp_path / "lock")):
        pass


@pytest.mark.parametrize("change", [{"host": "elsewhere"}, {"namespace": "pid:[1]"}, {"boot": "x"}])
def test_a_lock_of_another_machine_blocks_while_it_is_refreshed(
    tmp_path: Path, change: dict[str, object]
) -> None:
    path = tmp_path / "lock"
    write_holder(path, **change)
    with pytest.raises(OutputError, match="another run"):
        Lock(str(path)).__enter__()
    os.utime(path, (path.stat().st_mtime - 100,) * 2)
    with Lock(str(path)):
        pass
    assert os.listdir(tmp_path) == []


def test_an_incomplete_lock_blocks_until_it_is_old(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_text('{"host": "')
    with pytest.raises(OutputError):
        Lock(str(path)).__enter__()
    os.utime(path, (0, 0))
    with Lock(str(path)):
        pass


@pytest.mark.parametrize(
    "left", [[], ["lock.breaking"], ["lock.breaking", "lock.breaking.breaking"]]
)
def test_one_of_many_runs_takes_over_a_dead_lock(tmp_path: Path, left: list[str]) -> None:
    path = tmp_path / "lock"

    def take(barrier: threading.Barrier) -> Lock | None:
        lock = Lock(str(path))
        barrier.wait()
        try:
            return lock.__enter__()
        except OutputError:
            return None

    for _ in range(20):
        write_holder(path, started="1")
        for name in left:
            (tmp_path / name).touch()
            os.utime(tmp_path / name, (0, 0))
        with ThreadPoolExecutor(8) as threads:
            locks = list(threads.map(take, [threading.Barrier(8)] * 8))
        (winner,) = (lock for lock in locks if lock is not None)
        assert os.listdir(tmp_path) == ["lock"]
        winner.__exit__()
