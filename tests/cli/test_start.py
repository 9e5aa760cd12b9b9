"""How the command starts and ends: what it loads, and signals at either end."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import limbo_compress
from limbo_compress import compress
from tests.jobs import job, outputs, run, run_command, shadow_modules

HEAVY = {"numpy", "cv2", "orjson", "OpenEXR", "mmh3"}
SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")
ALL_OUTPUTS = ("--images", "--metadata", "--mask", "m", ".", "--")


# A command that prints which modules its own process has loaded when it ends.
PROGRAM = """
import sys
from limbo_compress.cli.start import {command} as command
{before}
code = command(sys.argv[1:])
print("loaded:", *sys.modules)
sys.exit(code)
"""


def loaded_modules(
    folder: Path, *arguments: object, command: str = "main", exit_code: int = 0
) -> set[str]:
    program = PROGRAM.format(command=command, before="")
    done = run(sys.executable, "-c", program, *arguments, cwd=folder)
    assert done.returncode == exit_code, done.stderr
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("loaded: "))
    return set(line.split()[1:])


def test_a_folder_without_samples_loads_nothing_heavy(tmp_path: Path) -> None:
    loaded = loaded_modules(tmp_path, *ALL_OUTPUTS, tmp_path, exit_code=1)
    assert "limbo_compress.coordinator" in loaded
    assert not loaded & HEAVY


@pytest.mark.parametrize("workers", [1, 2])
def test_a_job_loads_nothing_heavy_in_the_coordinator(
    campaign: Path, tmp_path: Path, workers: int
) -> None:
    loaded = loaded_modules(tmp_path, "--workers", workers, *ALL_OUTPUTS, campaign)
    assert "limbo_compress.coordinator" in loaded
    assert not loaded & HEAVY


def test_a_summary_loads_neither_pillow_nor_torch_nor_opencv(
    campaign: Path, tmp_path: Path
) -> None:
    compress(job(campaign, tmp_path))
    loaded = loaded_modules(tmp_path, "out", command="inspect")
    assert "numpy" in loaded
    assert not {"PIL", "torch", "cv2", "OpenEXR"} & loaded


def run_signalled(
    folder: Path, moment: str, command: str, *arguments: object
) -> subprocess.CompletedProcess[str]:
    return run_command(folder, moment, command, *arguments, module="tests.cli.signalled")


@pytest.mark.parametrize("moment", ["imports", "callback"])
@pytest.mark.parametrize("name", SIGNALS)
def test_a_signal_during_the_imports_ends_in_one_line(
    campaign: Path, tmp_path: Path, name: str, moment: str
) -> None:
    done = run_signalled(tmp_path, moment, "main", name, "--metadata", campaign)
    assert done.returncode == 128 + signal.Signals[name]
    assert done.stderr == f"limbo-compress: stopped by {name}\n"
    assert os.listdir(tmp_path) == []


def test_a_signal_at_the_exit_changes_nothing(campaign: Path, tmp_path: Path) -> None:
    done = run_signalled(tmp_path, "exit", "main", "SIGTERM", "--quiet", "--metadata", campaign)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(os.listdir(tmp_path)) == [".compressed.state", "compressed-metadata.pickle"]


@pytest.mark.parametrize("name", SIGNALS)
def test_signals_from_publication_on_change_nothing(
    campaign: Path, tmp_path: Path, name: str
) -> None:
    """Whichever thread takes them, while outputs of another job are replaced."""
    flags = ("--quiet", "--images", "--metadata", "--image-size")
    assert run_command(tmp_path, *flags, 8, 6, campaign).returncode == 0
    done = run_signalled(tmp_path, "publication", "main", name, *flags, 16, 12, campaign)
    assert (done.returncode, done.stderr) == (0, "")
    names = [".compressed.state", "compressed-images.npy", "compressed-metadata.pickle"]
    assert sorted(os.listdir(tmp_path)) == names
    undisturbed = tmp_path / "undisturbed"
    undisturbed.mkdir()
    assert run_command(undisturbed, *flags, 16, 12, campaign).returncode == 0
    assert outputs(tmp_path, "compressed") == outputs(undisturbed, "compressed")


def test_signals_from_the_renaming_of_an_export_on_change_nothing(
    campaign: Path, tmp_path: Path
) -> None:
    assert run_command(tmp_path, "--quiet", "--images", campaign).returncode == 0
    export = (tmp_path / "compressed", "--to", "imagefolder", "--out", tmp_path / "compressed-new")
    done = run_signalled(tmp_path, "publication", "export", "SIGTERM", "--quiet", *export)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(os.listdir(tmp_path)) == ["compressed-images.npy", "compressed-new"]


def run_under_shadows(
    folder: Path, program: str, *arguments: object
) -> subprocess.CompletedProcess[str]:
    """Run a program as an installed command runs: without the current folder on its path."""
    shadow_modules(folder, HEAVY | sys.stdlib_module_names)
    return run(sys.executable, "-P", "-c", program, *arguments, cwd=folder)


def test_modules_in_the_current_folder_hide_no_others(campaign: Path, tmp_path: Path) -> None:
    # Before this package, -m itself imports a few: no package can guard these.
    list_modules = "import runpy, sys; print(*sys.modules)"
    done = run(sys.executable, "-I", "-c", list_modules, check=True)
    shadow_modules(tmp_path, (HEAVY | sys.stdlib_module_names) - set(done.stdout.split()))
    for arguments in (["--version"], ["--quiet", "--workers", "2", *ALL_OUTPUTS, campaign]):
        done = run_command(tmp_path, *arguments)
        assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "compressed-metadata.pickle").exists()


@pytest.mark.parametrize(
    ("entry", "arguments"),
    [
        ("main", ("--prefix", "new", *ALL_OUTPUTS, "../data")),
        ("inspect", ("../out", "--verify", "12")),
        ("inspect", ("../out", "--html", "gallery")),
        ("export", ("../out", "--to", "imagefolder", "--out", "new", "--workers", "2")),
    ],
)
def test_no_command_runs_modules_of_the_current_folder(
    data: Path, tmp_path: Path, entry: str, arguments: tuple[str, ...]
) -> None:
    compress(job(data, tmp_path))
    here = tmp_path / "here"
    here.mkdir()
    program = f"import sys; from limbo_compress.cli.start import {entry} as run; sys.exit(run())"
    done = run_under_shadows(here, program, *arguments)
    assert done.returncode == 0, done.stderr
    assert "another module" not in done.stderr


def test_a_worker_that_replaces_another_runs_no_module_of_the_current_folder(
    campaign: Path, tmp_path: Path
) -> None:
    module = "tests.programs.crashing"
    program = f"import runpy; runpy.run_module('{module}', run_name='__main__', alter_sys=True)"
    (sample, *_) = sorted(path.name for path in campaign.rglob("*.json"))
    flags = ("--metadata", "--on-error", "skip", "--workers", "2", "--")
    done = run_under_shadows(tmp_path, program, sample, *flags, campaign)
    assert done.returncode == 0, done.stderr
    assert "killed by SIGSEGV" in done.stderr
    assert "(11,)" in done.stdout


def test_a_source_tree_stays_on_the_path(tmp_path: Path) -> None:
    """If it is not installed, workers that do not fork would not find it."""
    shutil.copytree(Path(limbo_compress.__file__).parent, tmp_path / "limbo_compress")
    (tmp_path / "isal.py").write_text('__version__ = "of this folder"')
    assert "isal of this folder" in run_command(tmp_path, "--version").stdout


def test_without_a_current_folder_the_path_stays(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    root = Path(limbo_compress.__file__).parents[1]
    script = f"rmdir ../gone && PYTHONPATH={root} exec {sys.executable} -m limbo_compress --version"
    done = run("sh", "-c", script, cwd=tmp_path / "gone")
    assert (done.returncode, done.stderr) == (0, "")


def test_free_threaded_python_is_refused_in_one_line(campaign: Path, tmp_path: Path) -> None:
    program = PROGRAM.format(command="main", before='sys.abiflags += "t"')
    done = run(sys.executable, "-c", program, "--metadata", campaign, cwd=tmp_path)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("limbo-compress: cannot start: ")
    assert "does not run on free-threaded Python" in line
    assert os.listdir(tmp_path) == []
