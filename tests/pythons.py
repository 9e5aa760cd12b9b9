"""Run all tests on every supported Python of this machine: ``make test-all``.

Each gets an environment of its own in ``build/envs``, with the latest versions of what
pyproject.toml asks for. The oldest Python gets a second one, with the lowest versions that are
allowed; ``make test-lowest`` runs only that one.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
ABSENT = "not on this machine"
UV = (sys.executable, "-m", "uv")


def supported() -> list[str]:
    """Return the versions of Python in the classifiers, oldest first."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    classifiers = "\n".join(project["classifiers"])
    return re.findall(r"^Programming Language :: Python :: (3\.\d+)$", classifiers, re.MULTILINE)


def find(version: str) -> str | None:
    """Return the path of an interpreter in ``PATH`` or of pyenv, or None."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    folders = [os.environ["PATH"], *map(str, pyenv.glob("versions/3.*/bin"))]
    found = subprocess.run(
        [*UV, "python", "find", "--system", "--no-python-downloads", f"{version}+gil"],
        env=os.environ | {"PATH": os.pathsep.join(folders)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=False,
    )
    return found.stdout.strip() or None


def run_tests(version: str, resolution: str) -> str:
    """Run all tests on one Python, and return the outcome."""
    interpreter = find(version)
    if interpreter is None:
        return ABSENT
    environment = ROOT / "build" / "envs" / f"python{version}-{resolution}"
    python = str(environment / "bin" / "python")
    install = ("--python", python, "--resolution", resolution, "--compile-bytecode")
    steps = {
        "uv venv": (*UV, "venv", "--quiet", "--clear", "--python", interpreter, str(environment)),
        "uv pip install": (*UV, "pip", "install", "--quiet", *install, "--editable", ".[dev]"),
        "pytest": (python, "-m", "pytest", "-n", "2"),
    }
    for name, command in steps.items():
        print(f"Python {version}, {resolution}: {name}", flush=True)
        if subprocess.run(command, cwd=ROOT, check=False).returncode:
            return f"{name} failed"
    return "passed"


def exit_code(outcomes: list[str]) -> int:
    """Return 0 if some tests passed, and none failed."""
    return 0 if {"passed"} <= set(outcomes) <= {"passed", ABSENT} else 1


def main(only_lowest: bool) -> int:
    """Run all tests on every Python, print a table of outcomes, and return the exit code."""
    versions = supported()
    runs = [] if only_lowest else [(version, "highest") for version in versions]
    runs.append((versions[0], "lowest-direct"))
    outcomes = [run_tests(*run) for run in runs]
    print(f"\n{'Python':8}{'resolution':16}outcome")
    for (version, resolution), outcome in zip(runs, outcomes, strict=True):
        print(f"{version:8}{resolution:16}{outcome}")
    return exit_code(outcomes)


if __name__ == "__main__":
    sys.exit(main(only_lowest="--lowest" in sys.argv))
