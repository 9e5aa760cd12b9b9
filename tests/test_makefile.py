"""The Makefile creates the right environment, and installs no more than a target needs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

MAKEFILE = Path(__file__).parents[1] / "Makefile"
CONFIGURATION = Path(".venv", "pyvenv.cfg")
HERE = "{}.{}".format(*sys.version_info[:2])

pytestmark = pytest.mark.skipif(
    not MAKEFILE.exists() or not shutil.which("make"), reason="make or the Makefile is not here"
)


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("Makefile", "pyproject.toml", "setup.py"):
        shutil.copy(MAKEFILE.with_name(name), tmp_path)
    shutil.copytree(MAKEFILE.with_name("requirements"), tmp_path / "requirements")
    monkeypatch.chdir(tmp_path)
    for name in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "LOCKED"):  # of the make that runs the tests
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def make(*arguments: object, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", f"PYTHON={python}", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def installed(target: str) -> list[str]:
    """What a target would install, in an environment that is there."""
    done = make("--dry-run", "--assume-old", CONFIGURATION, target)
    assert done.returncode == 0, done.stderr
    return re.findall(r"pip install --quiet (--.*)", done.stdout)


def other_python(*versions: str) -> str:
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    folders = [*map(str, pyenv.glob("versions/3.*[0-9]/bin")), os.environ["PATH"]]
    for version in versions:
        if python := shutil.which(f"python{version}", path=os.pathsep.join(folders)):
            return python
    return pytest.skip(f"none of Python {', '.join(versions)} is on this machine")


def test_the_demo_installs_what_users_do_and_other_targets_add_to_it() -> None:
    everything = "--group dev --editable ."
    assert (installed("demo"), installed("test")) == (["--editable '.[fast,masks]'"], [everything])
    Path(".venv", "bin").mkdir(parents=True)
    Path(".venv", "bin", "installed-demo").touch()
    assert (installed("demo"), installed("test")) == ([], [everything])
    Path(".venv", "bin", "installed").touch()
    assert (installed("demo"), installed("test")) == ([], [])


def downloads(target: str, *arguments: str) -> list[str]:
    """The commands of a target in a fresh clone that install packages, except by their hashes."""
    done = make("--dry-run", *arguments, target)
    assert done.returncode == 0, done.stderr
    commands = [line for line in done.stdout.splitlines() if "pip install" in line]
    assert commands
    return [
        line for line in commands if "--require-hashes" not in line and "--no-index" not in line
    ]


@pytest.mark.parametrize("target", ["check", "docs", "parity", "test", "test-browser", "test-dist"])
def test_with_locked_versions_nothing_else_is_downloaded(target: str) -> None:
    assert downloads(target)
    assert not downloads(target, "LOCKED=1")


def test_what_is_published_is_built_by_tools_of_known_hashes_only() -> None:
    assert not downloads("wheel")
    assert "'.[" not in make("--dry-run", "wheel").stdout
    project = tomllib.loads(Path("pyproject.toml").read_text())
    assert project["dependency-groups"]["backend"] == project["build-system"]["requires"]
    assert not any(name.startswith("test-") for name in project["tool"]["cibuildwheel"])
    assert (
        "INDEX" not in MAKEFILE.with_name(".github").joinpath("workflows/release.yml").read_text()
    )


def test_help_shows_what_is_needed_every_day() -> None:
    lines = make("help").stdout.splitlines()
    assert {"demo", "test", "check", "docs"} < {line.split()[1] for line in lines}
    assert len(lines) <= 12
    assert set(lines) < set(make("help-all").stdout.splitlines())


def test_each_target_in_help_runs_something() -> None:
    for line in make("help-all").stdout.splitlines():
        done = make("--dry-run", line.split()[1])
        assert done.returncode == 0, done.stderr
        assert "\n" in done.stdout


def test_targets_that_install_packages_of_the_system_say_so() -> None:
    lines = make("help-all").stdout.splitlines()
    assert [line.split()[1] for line in lines if "apt-get" in line] == [
        "test-browser",
        "screenshot",
    ]


def check_refused(python: str, found: str) -> None:
    done = make("demo", python=python)
    assert done.returncode == 2
    line, *of_make = done.stderr.splitlines()
    assert line.startswith(f"{python}: found {found}; limbo-compress needs Python 3.11 or later")
    assert "make PYTHON=" in line
    assert len(of_make) == 1
    assert not Path(".venv").exists()


def test_a_python_that_is_too_old_is_refused_in_one_line() -> None:
    check_refused(other_python("3.10"), "Python 3.10")


def test_a_python_that_is_not_there_is_refused_in_one_line() -> None:
    check_refused("./no-python", "no Python")


def test_an_environment_whose_interpreter_is_gone_is_created_anew() -> None:
    assert make(CONFIGURATION).stdout == f"Creating .venv with Python {HERE}\n"
    marker = Path(".venv", "marker")
    marker.touch()
    assert make(CONFIGURATION).stdout == ""
    assert marker.exists()
    python = Path(".venv", "bin", "python")
    python.unlink()
    python.symlink_to("no-python")
    assert make(CONFIGURATION).stdout == f"Creating .venv with Python {HERE}\n"
    assert not marker.exists()


def test_an_environment_of_another_python_is_created_anew() -> None:
    other = other_python(*sorted({"3.11", "3.12", "3.13", "3.14"} - {HERE}))
    subprocess.run([other, "-m", "venv", "--without-pip", ".venv"], check=True)
    assert make(CONFIGURATION).stdout == f"Creating .venv with Python {HERE}\n"
    assert list(Path(".venv", "lib").glob("python3.*")) == [Path(".venv", "lib", f"python{HERE}")]
