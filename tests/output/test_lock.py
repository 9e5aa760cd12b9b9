from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from limbo_compress.errors import OutputError
from limbo_compress.output import lock as lock_module
from limbo_compress.output.lock import Lock
from tests.jobs import run, wait_until
from tests.run.refused import UTIMENSAT


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


def age(path: Path, seconds: float = 100) -> None:
    os.utime(path, (path.stat().st_mtime - seconds,) * 2)


TAKE = """
import sys
from limbo_compress.errors import OutputError
from limbo_compress.output.lock import Lock
try:
    with Lock(sys.argv[1], "other"):
        print("taken")
except OutputError as error:
    print(error)
"""
# Mounts are seen by one command only.
PRIVATE = ("unshare", "--mount", "--propagation", "private", "sh", "-ec")
# A user who may read the files of this test, but is not shown its processes.
ANOTHER_USER = (
    *("setpriv", "--reuid=12345", "--regid=12345", "--clear-groups"),
    *("--inh-caps=-all,+dac_override", "--ambient-caps=-all,+dac_override"),
)


def run_in(bed: tuple[str, ...], program: str, folder: Path) -> list[str]:
    """Run a program in a test bed, and return the lines that it prints."""
    try:
        run(*bed, "true", check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"this needs root, and a kernel that can do it: {error}")
    done = run(*bed, sys.executable, "-c", program, folder, TAKE, check=True)
    return done.stdout.splitlines()


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


@pytest.mark.parametrize("hidepid", ["1", "2", "ptraceable"])
def test_a_run_that_proc_does_not_show_is_alive_while_it_is_touched(
    folder: Path, hidepid: str
) -> None:
    """Login nodes show users only their own processes."""
    mount = f'mount -t proc -o hidepid={hidepid} proc /proc; exec "$@"'
    bed = (*PRIVATE, mount, "sh", *ANOTHER_USER)
    with Lock(str(folder), "a") as lock:
        (refused,) = run_in(bed, TAKE, folder)
        assert f"another run may be at work on this prefix: process {os.getpid()} on" in refused
        assert refused.endswith("; set `wait` to 60 to see whether it is")
        lock.check()
        age(folder / "lock" / "a", 30)
        assert run_in(bed, TAKE, folder) == [refused]
    reused = leave_lock(folder, started="1")
    assert run_in(bed, TAKE, folder) == [refused]
    age(reused)
    assert run_in(bed, TAKE, folder) == ["taken"]
    with subprocess.Popen(["true"]) as gone:
        pass
    leave_lock(folder, pid=gone.pid)
    assert run_in(bed, TAKE, folder) == ["taken"]


def test_a_foreign_proc_is_not_believed(folder: Path) -> None:
    """In a pid namespace of its own, but with the /proc of another, ids mean other processes."""
    program = """
import os, subprocess, sys
from limbo_compress.output.lock import Lock
while not os.path.exists(sys.argv[1]):
    if pid := os.fork():
        os.waitpid(pid, 0)
        continue
    if os.path.exists(f"/proc/{os.getpid()}"):  # some other process, which lives on
        Lock(sys.argv[1], "dead").__enter__()
    os.kill(os.getpid(), 9)
with Lock(sys.argv[1], "a") as lock:
    print(os.listdir(os.path.join(sys.argv[1], "lock")), flush=True)
    subprocess.run([sys.executable, "-c", sys.argv[2], sys.argv[1]], check=True)
    lock.check()
"""
    holder, refused = run_in(("unshare", "--pid", "--fork"), program, folder)
    assert holder == "['a']"
    assert "another run may be at work on this prefix: process 1 on" in refused


def test_sandboxes_without_a_boot_id_are_not_one_machine(folder: Path) -> None:
    bed = (*PRIVATE, 'mount --bind /dev/null /proc/sys/kernel/random/boot_id; exec "$@"', "sh")
    with subprocess.Popen(["true"]) as gone:
        pass
    path = leave_lock(folder, boot="", pid=gone.pid)
    (refused,) = run_in(bed, TAKE, folder)
    assert "another run may be at work on this prefix" in refused
    age(path)
    assert run_in(bed, TAKE, folder) == ["taken"]


@pytest.mark.parametrize("seconds", [3600, 2 * 86400, 40 * 365 * 86400])
def test_a_time_in_the_future_expires_once_it_was_looked_at_for_long(
    folder: Path, seconds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong clock may have set it."""
    paths = [leave_lock(folder, host="elsewhere")]
    for number in range(3):  # they are looked at together
        paths.append(folder / f"partition-{number}" / "dead")
        paths[-1].parent.mkdir()
        paths[-1].write_bytes(paths[0].read_bytes())
    for path in paths:
        age(path, -seconds)
    with pytest.raises(OutputError, match=r"another run may be at work.*set `wait` to 60 to see"):
        taken(folder, "b")
    monkeypatch.setattr(lock_module, "_DEAD_SECONDS", 1.0)
    begun = time.monotonic()
    with Lock(str(folder), "b", wait=60) as lock:
        assert 1 <= time.monotonic() - begun < 60
        lock.bury_partitions()
        assert os.listdir(folder / "lock") == ["b"]
        assert not list(folder.glob("partition-*"))


def touch(lock: Path) -> None:
    os.utime(lock)


def beat(lock: Path) -> None:
    """Show life where the time is not seen to change, as by a client that believes its cache."""
    process, touched = json.loads(lock.read_text()), lock.stat().st_mtime
    draft = lock.parents[1].with_name("beat")
    draft.write_text(json.dumps(process | {"beats": process["beats"] + 1}))
    os.utime(draft, (touched, touched))
    draft.replace(lock)


@pytest.mark.parametrize(
    ("seconds", "show_life"),
    [(30, touch), (-3600, touch), (0, beat)],
    ids=["touched", "clock set right", "time not seen to change"],
)
def test_a_run_on_another_machine_that_shows_life_is_alive(
    folder: Path,
    caplog: pytest.LogCaptureFixture,
    seconds: float,
    show_life: Callable[[Path], None],
) -> None:
    """Once someone has looked, and waits to see it."""
    path = leave_lock(folder, host="elsewhere")
    age(path, seconds)

    def live() -> None:
        wait_until(lambda: "waiting up to" in caplog.text, "another run")
        show_life(path)

    with ThreadPoolExecutor(1) as thread:
        shown = thread.submit(live)
        with pytest.raises(OutputError, match="another run is at work"):
            Lock(str(folder), "b", wait=3600).__enter__()
        shown.result()


def test_a_run_on_another_machine_that_shows_no_life_is_waited_for(folder: Path) -> None:
    """It is dead a minute after the last touch, as far as its files tell."""
    path = leave_lock(folder, host="elsewhere")
    os.utime(path, (path.stat().st_mtime - 57,) * 2)
    begun = time.monotonic()
    with Lock(str(folder), "b", wait=60):
        assert not path.exists()
    assert time.monotonic() - begun > 1


def test_a_run_on_another_machine_may_release_its_lock_while_another_waits(folder: Path) -> None:
    path = leave_lock(folder, host="elsewhere")

    def release() -> None:
        wait_until(lambda: any(folder.glob("lock-*")), "another run")
        path.unlink()

    with ThreadPoolExecutor(1) as thread:
        released = thread.submit(release)
        with Lock(str(folder), "b", wait=3600):
            released.result()


@pytest.mark.parametrize("content", ["", '{"host": "', "[]", '{"pid": null}'])
def test_a_damaged_lock_blocks_only_until_it_expires(folder: Path, content: str) -> None:
    path = leave_lock(folder)
    path.write_text(content)
    with pytest.raises(OutputError, match="another run may be at work on this prefix; set `wait`"):
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


@pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in UTIMENSAT, reason="needs seccomp(2)"
)
@pytest.mark.parametrize("refused", ["times", "writes"])
def test_a_run_shows_life_where_times_or_writes_are_refused(folder: Path, refused: str) -> None:
    program = """
import errno, os, platform, resource, sys
from limbo_compress.output import lock
from tests.jobs import run, wait_until
from tests.run.refused import UTIMENSAT, refuse
lock._BEAT_SECONDS = 0.02
path = os.path.join(sys.argv[1], "lock", "a")
if sys.argv[2] == "times":
    refuse(UTIMENSAT[platform.machine()], errno.EPERM)
with lock.Lock(sys.argv[1], "a"):
    if sys.argv[2] == "writes":
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    for _ in range(3):
        (before,) = lock.holders(sys.argv[1], "lock")
        wait_until(lambda: list(lock.holders(sys.argv[1], "lock")) != [before], "a touch")
        assert before.process["pid"] == os.getpid()
"""
    run(sys.executable, "-c", program, folder, refused, check=True)


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
