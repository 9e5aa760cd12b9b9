"""Build what is published, and check it as users get it: ``make dist``.

``make wheel`` builds and checks, and needs no more than the tools for that. ``make test-dist``
installs both files into fresh environments without a compiler: the wheel on every supported Python
of this machine, the sdist on the oldest. The tests run there from an unpacked sdist without the
package, so that they use the installed one.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

from tests.pythons import ABSENT, ROOT, UV, exit_code, find, supported

BIN = Path(sys.executable).parent
DIST = ROOT / "dist"
BUILD = ROOT / "build" / "dist"


def run(*command: str | Path, cwd: Path = ROOT, **env: str) -> None:
    """Run a command that must succeed, with this environment's tools in the PATH."""
    env["PATH"] = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(command, cwd=cwd, env=os.environ | env, check=True)


def build() -> tuple[Path, Path]:
    """Build the sdist, and from it the wheel; return their paths."""
    for folder in (DIST, BUILD):
        shutil.rmtree(folder, ignore_errors=True)
    build = (sys.executable, "-m", "build", "--no-isolation", "--outdir", BUILD)
    run(*build, LIMBO_COMPRESS_MUST_COMPILE="1")
    (sdist,), (wheel,) = BUILD.glob("*.tar.gz"), BUILD.glob("*.whl")
    DIST.mkdir()
    sdist = sdist.rename(DIST / sdist.name)
    if sys.platform == "linux":  # fails if the wheel needs a later glibc than it says
        policy = f"manylinux_2_17_{platform.machine()}"
        run("auditwheel", "repair", "--plat", policy, "--wheel-dir", DIST, wheel)
    else:
        shutil.copy2(wheel, DIST)
    (wheel,) = DIST.glob("*.whl")
    return sdist, wheel


def check(sdist: Path, wheel: Path) -> None:
    """Check what can be seen without installing."""
    run("twine", "check", "--strict", sdist, wheel)
    run("check-wheel-contents", wheel)
    run("abi3audit", "--strict", "--summary", wheel)


def unpack_tests(sdist: Path) -> Path:
    """Unpack the sdist without the package, and return the folder."""
    with tarfile.open(sdist) as archive:
        archive.extractall(BUILD, filter="data")
    folder = BUILD / sdist.name.removesuffix(".tar.gz")
    shutil.rmtree(folder / "limbo_compress")
    return folder


def run_tests(file: Path, version: str, tests: Path) -> str:
    """Install a file on one Python where nothing can be compiled, and run all tests."""
    interpreter = find(version)
    if interpreter is None:
        return ABSENT
    environment = BUILD / f"python{version}-{'wheel' if file.suffix == '.whl' else 'sdist'}"
    python = environment / "bin" / "python"
    run(*UV, "venv", "--quiet", "--python", interpreter, environment)
    install = (*UV, "pip", "install", "--quiet", "--python", python, "--compile-bytecode")
    if os.environ.get("LOCKED"):
        run(*install, "--require-hashes", "--requirement", ROOT / "requirements" / "dev.txt")
        run(*install, "--no-index", "--no-build-isolation", f"{file}[dev]", CC="false")
    else:
        run(*install, f"{file}[dev]", CC="false")
    run(environment / "bin" / "limbo-compress", "--version")
    pytest = (python, "-m", "pytest", "-n", "2", "tests", "--pyargs", "limbo_compress")
    # The commands that tests start use modules of the tests as well.
    env = os.environ | {"CC": "false", "PYTHONPATH": str(tests)}
    passed = subprocess.run(pytest, cwd=tests, env=env, check=False).returncode == 0
    return "passed" if passed else "failed"


def build_and_check() -> int:
    """Build and check both files; return the exit code."""
    check(*build())
    return 0


def test() -> int:
    """Test both files; print a table of outcomes, and return the exit code."""
    (sdist,) = DIST.glob("*.tar.gz")
    # OpenCV has no wheels for musl.
    (wheel,) = (path for path in DIST.glob("*.whl") if "musllinux" not in path.name)
    shutil.rmtree(BUILD, ignore_errors=True)
    tests = unpack_tests(sdist)
    versions = supported()
    runs = [(wheel, version) for version in versions] + [(sdist, versions[0])]
    outcomes = [run_tests(file, version, tests) for file, version in runs]
    for (file, version), outcome in zip(runs, outcomes, strict=True):
        print(f"Python {version}  {outcome:20}{file.name}")
    return exit_code(outcomes)


if __name__ == "__main__":
    sys.exit({"build": build_and_check, "test": test}[sys.argv[1]]())
