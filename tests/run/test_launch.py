"""How worker processes are started, from every kind of caller."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run_python(folder: Path, *arguments: str, stdin: str = "") -> list[str]:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_one_thread_is_forked_two_are_not_and_idle_workers_are_not_started(tmp_path: Path) -> None:
    """A fork remembers what its coordinator did before; a fresh interpreter does not."""
    assert run_python(tmp_path, "-m", "tests.run.launched") == ["(2, [1, 1])", "(2, [0, 0])"]


JOB = """
from pathlib import Path
from limbo_compress import Options, compress
def job():
    what = {{"images": True, "image_size": (8, 8), "workers": {workers}}}
    print(compress(Options({campaign!r}, prefix=Path("p"), **what)).samples)
"""
CALLERS = {
    "without a main guard": "job()",
    "with threads": """
        import threading
        threading.Thread(target=threading.Event().wait, daemon=True).start()
        job()
    """,
    "from two threads at once": """
        import os, threading
        stderr = os.readlink("/proc/self/fd/2")
        def elsewhere(name):
            os.mkdir(name)
            compress(Options({campaign!r}, prefix=f"{{name}}/p", metadata=True, workers={workers}))
        threads = [threading.Thread(target=elsewhere, args=(name,)) for name in "ab"]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        assert os.readlink("/proc/self/fd/2") == stderr
        job()
    """,
    "in a daemon, which may have no children": """
        import multiprocessing
        context = multiprocessing.get_context("fork")
        daemon = context.Process(target=job, daemon=True)
        daemon.start()
        daemon.join()
        assert daemon.exitcode == 0
    """,
}


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("on_stdin", [True, False])
@pytest.mark.parametrize("caller", CALLERS)
def test_every_kind_of_caller_may_compress(
    tmp_path: Path, campaign: Path, caller: str, on_stdin: bool, workers: int
) -> None:
    program = (JOB + textwrap.dedent(CALLERS[caller])).format(
        campaign=str(campaign), workers=workers
    )
    arguments = [] if on_stdin else ["-c", program]
    assert run_python(tmp_path, *arguments, stdin=program) == ["12"]
    assert (tmp_path / "p-images.npy").exists()


def test_fewer_workers_are_started_where_descriptors_are_few(
    tmp_path: Path, campaign: Path
) -> None:
    command = f"ulimit -n 64; exec {sys.executable} -m limbo_compress --metadata {campaign}"
    done = subprocess.run(
        ["sh", "-c", f"{command} --workers 40"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "starting 10 of 40 workers" in done.stderr
    assert "(12,)" in done.stdout
