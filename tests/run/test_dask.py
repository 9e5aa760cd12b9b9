"""The real command on a Dask cluster of real processes, and what happens to them."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from benchmarks.campaign import Campaign, write_campaign
from limbo_compress.run.executor import Executor
from tests.clusters import DaskCluster
from tests.jobs import ROOT, error_line, outputs, run, run_command, shadow_modules, wait_until
from tests.run.tasks import Numbers, double, lacks_nothing, tasks
from tests.running import MAX_SECONDS, Running

pytest.importorskip("distributed", reason="Dask is not installed")

FLAGS = ("--prefix", "out", "--images", "--metadata")
# What a cluster may take to start, on the busiest of machines.
SECONDS = 60


@pytest.fixture(scope="module")
def long_campaign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Samples enough that a job is not over before something happens to it."""
    folder = tmp_path_factory.mktemp("long") / "campaign"
    write_campaign(folder, Campaign(300, distinct=12, photographs=4, size=(480, 360), instances=5))
    return folder


@pytest.fixture(scope="module")
def expected(long_campaign: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("local")
    assert run_command(folder, *FLAGS, "--", long_campaign).returncode == 0
    return outputs(folder)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[DaskCluster]:
    """A scheduler without workers."""
    folder = tmp_path / "cluster"
    folder.mkdir()
    cluster = DaskCluster(folder)
    yield cluster
    cluster.close()


class Run(Running):
    """The command on a cluster, running."""

    def __init__(
        self, folder: Path, cluster: DaskCluster, *arguments: object, **environ: str
    ) -> None:
        program = (sys.executable, "-m", "limbo_compress", *FLAGS)
        flags = ("--scheduler-file", cluster.file, *arguments)
        super().__init__(folder, [*program, *flags], environ)

    def wait_for_shards(self, count: int) -> None:
        super().wait_for_shards(count)
        assert self.is_running(), self.stderr

    def wait_for_line(self, text: str, times: int = 1) -> None:
        """Wait until it has printed a text this many times."""
        wait_until(lambda: self.stderr.count(text) >= times, text, MAX_SECONDS)

    def finish(self) -> tuple[int, str]:
        """Wait for the end; return the exit code and stderr."""
        return self.wait(), self.stderr


def children(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def test_the_outputs_are_those_of_this_machine(
    campaign: Path, cluster: DaskCluster, tmp_path: Path
) -> None:
    cluster.add_worker()
    cluster.add_worker()
    local = tmp_path / "local"
    local.mkdir()
    flags = ("--mask", "m", "^48", "--image-size", "299", "200", "--", campaign)
    assert run_command(local, *FLAGS, *flags).returncode == 0
    code, stderr = Run(tmp_path, cluster, *flags).finish()
    assert code == 0, stderr
    assert stderr.startswith("limbo-compress: 12 of 12 samples")
    assert outputs(tmp_path) == outputs(local)
    assert not any(map(children, cluster.workers))


def test_outputs_grow_on_a_cluster(campaign: Path, cluster: DaskCluster, tmp_path: Path) -> None:
    cluster.add_worker()
    local = tmp_path / "local"
    local.mkdir()
    flags = (*FLAGS, "--mask", "m", "^48", "--image-size", "32", "24")
    assert run_command(local, *flags, "--", campaign).returncode == 0
    assert run_command(tmp_path, *flags, "--end", "5", "--", campaign).returncode == 0
    done = run_command(tmp_path, *flags, "--scheduler-file", cluster.file, "--", campaign)
    assert done.returncode == 0, done.stderr
    assert "copied 5, made 7" in done.stdout
    assert outputs(tmp_path) == outputs(local)


def test_a_child_runs_no_module_of_the_folder_of_its_worker(
    campaign: Path, cluster: DaskCluster, tmp_path: Path
) -> None:
    shadow_modules(cluster.file.parent)
    cluster.add_worker()
    code, stderr = Run(tmp_path, cluster, "--", campaign).finish()
    assert code == 0, stderr
    assert "another module" not in stderr


def kill_a_worker(cluster: DaskCluster) -> None:
    cluster.workers[0].kill()


def kill_a_child(cluster: DaskCluster) -> None:
    children(cluster.workers[0])[0].kill()


def add_a_worker(cluster: DaskCluster) -> None:
    cluster.add_worker()


@pytest.mark.parametrize("happens", [kill_a_worker, kill_a_child, add_a_worker])
def test_workers_come_and_go(
    long_campaign: Path,
    expected: dict[str, bytes],
    cluster: DaskCluster,
    tmp_path: Path,
    happens: Callable[[DaskCluster], None],
) -> None:
    cluster.add_worker()
    cluster.add_worker()
    cluster.wait_for_workers(2)
    job = Run(tmp_path, cluster, "--", long_campaign)
    job.wait_for_shards(2)
    happens(cluster)
    code, stderr = job.finish()
    assert code == 0, stderr
    assert ("its work is done again" in stderr) == (happens is not add_a_worker), stderr
    assert outputs(tmp_path) == expected


def test_frozen_workers_get_no_work_until_they_answer(
    long_campaign: Path, expected: dict[str, bytes], cluster: DaskCluster, tmp_path: Path
) -> None:
    """One is frozen at the start, another joins so; the first wakes up while the good one naps."""
    frozen, good = cluster.add_worker(), cluster.add_worker()
    cluster.wait_for_workers(2)
    frozen.send_signal(signal.SIGSTOP)
    job = Run(tmp_path, cluster, "--", long_campaign)
    job.wait_for_line("shows no sign of life: it gets no work until it answers")
    job.wait_for_shards(1)

    good.send_signal(signal.SIGSTOP)
    job.process.send_signal(signal.SIGSTOP)  # it must not ask before the worker is frozen
    joins = cluster.add_worker()
    cluster.wait_for_workers(3)
    joins.send_signal(signal.SIGSTOP)
    job.process.send_signal(signal.SIGCONT)
    job.wait_for_line("shows no sign of life: it gets no work until it answers", times=2)
    frozen.send_signal(signal.SIGCONT)
    wait_until(lambda: bool(children(frozen)), "work for the worker that woke up", SECONDS)

    good.send_signal(signal.SIGCONT)
    code, stderr = job.finish()
    assert code == 0, stderr
    assert outputs(tmp_path) == expected


@pytest.mark.parametrize("sent", [None, signal.SIGSTOP, signal.SIGKILL])
def test_what_may_still_write_is_known(
    cluster: DaskCluster, monkeypatch: pytest.MonkeyPatch, sent: signal.Signals | None
) -> None:
    """Of a worker that freezes or is lost at work, nobody knows whether its child has ended."""
    from limbo_compress.run.dask import DaskEngine

    monkeypatch.setattr("limbo_compress.run.dask._FROZEN_SECONDS", 10.0)
    for _ in range(2):
        cluster.add_worker()
    cluster.wait_for_workers(2)
    given = 0

    def complete(task: Numbers) -> Numbers:
        """Send the signal when both workers have work, and there is more."""
        nonlocal given
        given += 1
        if given == 4 and sent is not None:
            cluster.workers[0].send_signal(sent)
        return task

    with DaskEngine[Numbers, list[int]](double, lacks_nothing, cluster.address, None, 60) as engine:
        engine.prepare(lacks_nothing)
        results = [item for result in Executor(engine, complete).run(tasks(17)) for item in result]
    assert sorted(results) == [2 * number for number in range(51)]
    assert engine.left_alive == (sent is not None)


def freeze_while_it_maps(worker: psutil.Process) -> bool:
    """Stop a worker whose rows are mapped, which a kernel lock shows on its own machine only."""
    worker.suspend()
    if "images.npy" in Path(f"/proc/{worker.pid}/maps").read_text():
        return True
    worker.resume()
    return False


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_what_a_run_of_one_machine_may_still_write_is_known_on_a_cluster(
    long_campaign: Path, expected: dict[str, bytes], cluster: DaskCluster, tmp_path: Path
) -> None:
    arguments = (*FLAGS, "--workers", "1", "--write-rows", "mmap", "--", str(long_campaign))
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "limbo_compress", *arguments],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    wait_until(lambda: bool(psutil.Process(process.pid).children()), "a worker")
    (worker,) = psutil.Process(process.pid).children()
    wait_until(lambda: any(tmp_path.glob(".out.partial/work-*/*.part")), "a shard")
    wait_until(lambda: freeze_while_it_maps(worker), "a mapped row")
    process.kill()
    process.wait()
    cluster.add_worker()
    code, stderr = Run(tmp_path, cluster, "--", long_campaign).finish()
    assert code == 0, stderr
    assert "may still write: copies will be published" in stderr
    worker.kill()
    assert outputs(tmp_path) == expected


@pytest.fixture
def job(long_campaign: Path, cluster: DaskCluster, tmp_path: Path) -> Run:
    """A job on a cluster of one worker, of which two shards are done."""
    cluster.add_worker()
    job = Run(tmp_path, cluster, "--", long_campaign)
    job.wait_for_shards(2)
    return job


@pytest.mark.parametrize("sent", [signal.SIGSTOP, signal.SIGKILL])
def test_a_scheduler_that_is_gone_ends_the_job_soon_and_the_work_is_kept(
    job: Run,
    long_campaign: Path,
    expected: dict[str, bytes],
    cluster: DaskCluster,
    sent: signal.Signals,
) -> None:
    cluster.scheduler.send_signal(sent)
    begun = time.monotonic()
    code, stderr = job.finish()
    assert time.monotonic() - begun < 45, "on the busiest of machines"
    assert code == 1
    assert "the Dask scheduler" in stderr
    assert "is gone" in stderr
    assert stderr.endswith("finished work is kept: the same command resumes it\n")
    assert stderr.count("\n") == 1, stderr
    assert outputs(job.folder) == {}
    assert run_command(job.folder, *FLAGS, "--", long_campaign).returncode == 0
    assert outputs(job.folder) == expected


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGKILL])
def test_a_coordinator_that_ends_leaves_no_child_at_work(
    job: Run,
    long_campaign: Path,
    expected: dict[str, bytes],
    cluster: DaskCluster,
    sent: signal.Signals,
) -> None:
    job.process.send_signal(sent)
    code, stderr = job.finish()
    assert code == (143 if sent == signal.SIGTERM else -sent), stderr
    if sent == signal.SIGTERM:
        wait_until(lambda: not children(cluster.workers[0]), "the child to end", SECONDS)
    code, stderr = Run(job.folder, cluster, "--", long_campaign).finish()
    assert code == 0, stderr
    assert "resuming: " in stderr
    assert outputs(job.folder) == expected


def test_a_worker_that_lacks_something_is_named_before_the_work(
    campaign: Path, cluster: DaskCluster, tmp_path: Path
) -> None:
    hide = ["unshare", "--mount", "sh", "-c"]
    if os.geteuid() or run(*hide, "true").returncode:
        pytest.skip("mount namespaces cannot be made here")
    cluster.add_worker(before=[*hide, f'mount -t tmpfs none "{campaign}" && exec "$@"', "sh"])
    code, stderr = Run(tmp_path, cluster, "--", campaign).finish()
    assert code == 1
    assert "the Dask worker tcp://127.0.0.1:" in stderr
    assert f"does not see the sample {campaign}" in stderr
    assert stderr.count("\n") == 1, stderr
    assert os.listdir(tmp_path) == ["cluster"]


def test_without_workers_the_command_waits_and_then_says_so(
    campaign: Path, cluster: DaskCluster, tmp_path: Path
) -> None:
    code, stderr = Run(tmp_path, cluster, "--wait", "1", "--", campaign).finish()
    assert code == 1
    line = "no Dask worker for 1 seconds; start some, and run the same command again"
    assert stderr == f"limbo-compress: {line}\n"


def test_the_scheduler_file_is_waited_for(
    campaign: Path, cluster: DaskCluster, tmp_path: Path
) -> None:
    cluster.add_worker()
    written = cluster.file.read_text()
    cluster.file.unlink()
    job = Run(tmp_path, cluster, "--", campaign)
    waiting = "no Dask scheduler has written it yet: waiting up to 300 seconds (--wait)"
    job.wait_for_line(f"limbo-compress: {cluster.file}: {waiting}\n")
    cluster.file.write_text(written)
    code, stderr = job.finish()
    assert code == 0, stderr
    assert stderr.count("\n") == 2, stderr


SRUN = """#!/bin/sh
while case $1 in -*) ;; *) false ;; esac; do shift; done
exec "$@"
"""


def test_the_script_in_the_documentation_runs(campaign: Path, tmp_path: Path) -> None:
    """Here as well, where `srun` starts one task."""
    page = (ROOT / "docs" / "cluster.md").read_text()
    scripts = re.findall(r"^(?:    .*\n)+", page, re.MULTILINE)
    (script,) = (textwrap.dedent(script) for script in scripts if "dask scheduler" in script)
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "srun").write_text(SRUN)
    (programs / "srun").chmod(0o755)
    (tmp_path / "campaign17").symlink_to(campaign)
    path = (programs, Path(sys.executable).parent, os.environ["PATH"])
    slurm = {"SLURM_JOB_ID": "7", "SLURM_CPUS_PER_TASK": "2", "DATA_ROOT": str(tmp_path)}
    with tempfile.TemporaryFile("w+") as said:  # a pipe would stay open as long as the workers
        env = slurm | {"PATH": os.pathsep.join(map(str, path))}
        streams: Any = {"stdout": said, "stderr": said, "capture_output": False}
        done = run("bash", "-c", script, cwd=tmp_path, env=env, **streams)
        said.seek(0)
        assert done.returncode == 0, said.read()
    assert (tmp_path / "test-images.npy").exists()
    assert not (tmp_path / "dask-7.json").exists()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (None, "no Dask scheduler has written it for 1 seconds; start one, and run the same"),
        ("", "not the file of a Dask scheduler for 1 seconds; start one, and run the same"),
        ('{"address": "tc', "not the file of a Dask scheduler for 1 seconds; start one"),
        ("{}", "not the file of a Dask scheduler: 'address'"),
    ],
)
def test_a_scheduler_file_that_does_not_come_is_one_line(
    campaign: Path, tmp_path: Path, text: str | None, line: str
) -> None:
    file = tmp_path / "dask.json"
    if text is not None:
        file.write_text(text)
    flags = ("--scheduler-file", file, "--wait", 1, "--", campaign)
    said = error_line(run_command(tmp_path, *FLAGS, *flags))
    assert said.startswith(f"limbo-compress: {file}: {line}")


@pytest.mark.parametrize("name", ["no-such-folder/dask.json", "."])
def test_what_cannot_be_a_scheduler_file_is_refused(
    campaign: Path, tmp_path: Path, name: str
) -> None:
    done = run_command(tmp_path, *FLAGS, "--scheduler-file", name, "--", campaign)
    assert "--scheduler-file" in error_line(done, 2)


def test_an_address_from_the_environment_is_named_as_such(campaign: Path, tmp_path: Path) -> None:
    environ = {"DASK_SCHEDULER_ADDRESS": "tcp://127.0.0.1:9"}
    done = run_command(tmp_path, *FLAGS, "--", campaign, env=environ)
    where = "the Dask scheduler tcp://127.0.0.1:9 (from DASK_SCHEDULER_ADDRESS)"
    assert f"cannot reach {where}: " in error_line(done)
    local = run_command(tmp_path, *FLAGS, "--workers", 1, "--", campaign, env=environ)
    assert local.returncode == 0, local.stderr


def test_a_scheduler_that_is_not_there_is_one_line(campaign: Path, tmp_path: Path) -> None:
    done = run_command(tmp_path, *FLAGS, "--scheduler", "tcp://127.0.0.1:9", "--", campaign)
    assert "cannot reach the Dask scheduler tcp://127.0.0.1:9" in error_line(done)


def test_a_scheduler_that_is_frozen_is_one_line(
    campaign: Path, cluster: DaskCluster, tmp_path: Path
) -> None:
    cluster.scheduler.send_signal(signal.SIGSTOP)
    code, stderr = Run(tmp_path, cluster, "--", campaign).finish()
    assert code == 1
    where = f"cannot reach the Dask scheduler {cluster.address}"
    assert stderr == f"limbo-compress: {where}: no answer for 15 seconds\n"


def test_bad_samples_are_named_as_on_this_machine(
    data: Path, cluster: DaskCluster, tmp_path: Path
) -> None:
    cluster.add_worker()
    image = sorted(data.rglob("image_*.*g"))[5]
    image.write_bytes(b"")
    code, stderr = Run(tmp_path, cluster, "--on-error", "skip", "--", data).finish()
    assert code == 0, stderr
    local = tmp_path / "local"
    local.mkdir()
    assert run_command(local, *FLAGS, "--on-error", "skip", "--", data).returncode == 0
    assert outputs(tmp_path) == outputs(local)


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate that vouches for itself, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl, which makes certificates, is not installed")
    paths = (tmp_path / "certificate.pem", tmp_path / "key.pem")
    flags = ["-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    files = ("-out", paths[0], "-keyout", paths[1])
    run("openssl", "req", *flags, *files, check=True)
    return paths


def test_tls_needs_the_certificates_that_dask_is_configured_with(
    campaign: Path, tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    file, key = map(str, certificate)
    folder = tmp_path / "cluster"
    folder.mkdir()
    cluster = DaskCluster(folder, ["--tls-ca-file", file, "--tls-cert", file, "--tls-key", key])
    try:
        cluster.add_worker()
        code, stderr = Run(tmp_path, cluster, "--", campaign).finish()
        assert code == 1
        assert "cannot reach the Dask scheduler" in stderr
        assert stderr.count("\n") == 1, stderr
        tls = "DASK_DISTRIBUTED__COMM__TLS__"
        settings = {"CA_FILE": file, "CLIENT__CERT": file, "CLIENT__KEY": key}
        environ = {tls + name: value for name, value in settings.items()}
        code, stderr = Run(tmp_path, cluster, "--", campaign, **environ).finish()
        assert code == 0, stderr
        assert stderr.count("\n") == 1, stderr
    finally:
        cluster.close()
