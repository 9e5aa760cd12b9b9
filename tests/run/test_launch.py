"""How worker processes are started, from every kind of caller."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.jobs import ROOT, run, shadow_modules


def run_python(folder: Path, *arguments: str, stdin: str = "", **environ: str) -> list[str]:
    env = {"OPENBLAS_NUM_THREADS": "1"} | environ
    done = run(sys.executable, *arguments, cwd=folder, env=env, input=stdin)
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
    done = run("sh", "-c", f"{command} --workers 40", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "starting 10 of 40 workers" in done.stderr
    assert "(12,)" in done.stdout


BESIDE_A_THREAD = """
import os, sys, threading
from pathlib import Path
from limbo_compress import LimboError, Options, compress
def job():
    print(compress(Options({campaign!r}, prefix={prefix!r}, metadata=True, workers=2)).samples)
threading.Thread(target=threading.Event().wait, daemon=True).start()
"""


@pytest.fixture
def run_beside(tmp_path: Path, campaign: Path) -> Callable[..., list[str]]:
    """Run lines alongside a thread, so with fresh interpreters; return what they print."""

    def run_lines(lines: str, *flags: str, is_script: bool = True, **environ: str) -> list[str]:
        begin = BESIDE_A_THREAD.format(campaign=str(campaign), prefix=str(tmp_path / "p"))
        text = begin + textwrap.dedent(lines)
        script = tmp_path / "scripts" / "program.py"
        script.parent.mkdir()
        script.write_text(text)
        program = [str(script)] if is_script else ["-c", text]
        return run_python(tmp_path, *flags, *program, **environ)

    return run_lines


@pytest.mark.parametrize(
    ("is_script", "python_path"), [(True, ""), (False, ""), (True, ":x:"), (True, ".")]
)
def test_workers_run_no_module_of_a_folder_that_became_the_current_one(
    tmp_path: Path, run_beside: Callable[..., list[str]], is_script: bool, python_path: str
) -> None:
    """The first job loads what this process needs: an empty entry would lead it there as well."""
    (tmp_path / "download" / "x").mkdir(parents=True)
    shadow_modules(tmp_path / "download")
    shadow_modules(tmp_path / "download" / "x", [*sys.stdlib_module_names, "sitecustomize"])
    lines = "job(); os.chdir('download'); job()"
    environ = {"PYTHONPATH": f"{python_path}:{ROOT}"}
    assert run_beside(lines, is_script=is_script, **environ) == ["12", "12"]


def test_workers_are_of_the_copy_of_the_package_that_started_them(
    tmp_path: Path, run_beside: Callable[..., list[str]]
) -> None:
    package = Path(shutil.copytree(ROOT / "limbo_compress", tmp_path / "limbo_compress"))
    with open(package / "run" / "worker.py", "a") as stream:
        # At once, as two workers write it: print would write the end of the line by itself.
        stream.write("os.write(1, b'the copy\\n')\n")
    seen = run_beside("job(); os.chdir('/'); job()", is_script=False)
    assert set(seen) == {"12", "the copy"}
    assert seen.count("the copy") >= 3, "this process, and a worker of each job"


def test_entries_of_the_path_that_python_ignores_and_very_many_do_no_harm(
    run_beside: Callable[..., list[str]],
) -> None:
    lines = """
        sys.path += [Path("/a"), b"/b", None, 7, type("Name", (str,), {})("/c")]
        sys.path += [f"/{number:0200}" for number in range(1500)]
        job()
    """
    assert run_beside(lines) == ["12"]


@pytest.mark.parametrize("executable", [None, "", "/no/python"])
def test_a_missing_interpreter_is_one_clear_error(
    run_beside: Callable[..., list[str]], executable: str | None
) -> None:
    lines = f"""
        sys.executable = {executable!r}
        try:
            job()
        except LimboError as error:
            print(error)
    """
    (line,) = run_beside(lines)
    prefix = f"{executable}: " if executable else ""
    assert line == (
        f"{prefix}sys.executable names no interpreter; set it to the path of this Python"
    )


def test_workers_have_the_flags_of_this_interpreter(
    run_beside: Callable[..., list[str]],
) -> None:
    """With -s, for one, no module of the user's own site may run."""
    lines = """
        from limbo_compress.run.executor import Executor
        from limbo_compress.run.processes import ProcessEngine
        from tests.run.tasks import no_user_site, tasks
        with ProcessEngine(no_user_site, 1) as engine:
            print(*Executor(engine).run(tasks(1)))
    """
    assert run_beside(lines, "-s") == ["[1]"]
