"""What takes many steps, an environment of its own or other versions of Python: see the Makefile.

Sessions with the backend ``none`` run in .venv, the others in an environment of their own below
build/envs. Those that may need PyTorch are installed by pip, which can be told where to find it.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
import tarfile
from pathlib import Path

import nox
from nox.command import CommandFailed

nox.needs_version = ">=2026.10"
nox.options.envdir = "build/envs"
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = False

# With pyenv, also what is not chosen there, but no free-threaded Python, such as 3.14t.
PYENV = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
FOLDERS = [os.environ["PATH"], *map(str, PYENV.glob("versions/3.*[0-9]/bin"))]
os.environ["PATH"] = os.pathsep.join(FOLDERS)

PYTHONS = nox.project.python_versions(nox.project.load_toml("pyproject.toml"))
PYTEST = ("pytest", "-n", "2")
CONTENDERS = {
    "plain": [],
    "pool": ["pillow", "scikit-image", "imagecat"],
    "datasets": ["datasets", "torch"],
    "litdata": ["litdata"],
    "streaming": ["mosaicml-streaming"],
}


def run(session: nox.Session, program: str, *arguments: str | Path) -> None:
    """Run a program of .venv."""
    session.run(Path(sys.executable).with_name(program), *arguments, external=True)


@nox.session(venv_backend="none")
def check(session: nox.Session) -> None:
    """Check lint, formatting, types, import contracts, dead code and the files for GitHub."""
    run(session, "ruff", "check")
    run(session, "ruff", "format", "--check")
    run(session, "mypy")
    run(session, "lint-imports", "--no-logo")
    run(session, "vulture")
    run(session, "zizmor", "--offline", "--pedantic", "--quiet", ".github")
    for schema, pattern in {
        "github-workflows": ".github/workflows/*.yml",
        "github-issue-forms": ".github/ISSUE_TEMPLATE/*.yml",
        "dependabot": ".github/dependabot.yml",
        "citation-file-format": "CITATION.cff",
    }.items():
        files = sorted(Path().glob(pattern))
        run(session, "check-jsonschema", "--builtin-schema", f"vendor.{schema}", *files)


@nox.session(venv_backend="none")
def coverage(session: nox.Session) -> None:
    """Run all tests, and show which lines they reach, in build/coverage, too."""
    folder = Path("build", "coverage")
    folder.mkdir(parents=True, exist_ok=True)
    run(session, "coverage", "erase")
    try:
        run(session, "coverage", "run", "-m", *PYTEST)
    finally:  # a test that fails is no reason to show nothing
        run(session, "coverage", "combine", "--quiet")
        run(session, "coverage", "html", "--quiet", "--fail-under=0", "-d", folder / "html")
        with (folder / "report.md").open("w") as report:
            command = ("coverage", "report", "--format=markdown", "--fail-under=0")
            session.run(sys.executable, "-m", *command, stdout=report, external=True)
        run(session, "coverage", "report")


def install(session: nox.Session, *packages: str | Path) -> None:
    """Install with uv. Where Python may not write bytecode, every start would compile."""
    session.install("--compile-bytecode", *map(str, packages))


@nox.session(python=PYTHONS, venv_backend="uv")
def tests(session: nox.Session) -> None:
    """Run all tests on every supported Python of this machine, with the latest versions."""
    install(session, "--group", "dev", "--editable", ".")
    session.run(*PYTEST)


@nox.session(python=PYTHONS[0], venv_backend="uv")
def lowest(session: nox.Session) -> None:
    """Run all tests on the oldest Python with the lowest versions allowed."""
    install(session, "--resolution", "lowest-direct", "--group", "dev", "--editable", ".")
    session.run(*PYTEST)


@nox.session(python=PYTHONS, venv_backend="uv")
def wheel(session: nox.Session) -> None:
    """Run all tests on the wheel in dist, on every supported Python of this machine."""
    # OpenCV has no wheels for musl.
    (file,) = (path for path in Path("dist").glob("*.whl") if "musllinux" not in path.name)
    test_published(session, file)


@nox.session(python=PYTHONS[0], venv_backend="uv")
def sdist(session: nox.Session) -> None:
    """Run all tests on the sdist in dist, on the oldest Python."""
    (file,) = Path("dist").glob("*.tar.gz")
    test_published(session, file)


def test_published(session: nox.Session, file: Path) -> None:
    """Run all tests on a file where nothing can be compiled.

    They are those of an unpacked sdist without the package, so that they use the installed one.
    """
    session.env["CC"] = "false"
    if os.environ.get("LOCKED"):
        locked = ("--require-hashes", "--no-build-isolation", "--requirement")
        for name in ("backend", "dev"):  # the first builds what has no wheel in the second
            install(session, *locked, f"requirements/{name}.txt")
        install(session, "--no-index", "--no-build-isolation", "--group", "dev", file)
    else:
        install(session, "--group", "dev", file)
    session.run("limbo-compress", "--version")
    unpacked = Path("build", "dist", session.name)
    shutil.rmtree(unpacked, ignore_errors=True)
    (archive,) = Path("dist").glob("*.tar.gz")
    with tarfile.open(archive) as members:
        members.extractall(unpacked, filter="data")
    folder = (unpacked / archive.name.removesuffix(".tar.gz")).resolve()
    shutil.rmtree(folder / "limbo_compress")
    session.chdir(folder)
    # The commands that tests start use modules of the tests as well.
    session.env["PYTHONPATH"] = str(folder)
    session.run(*PYTEST, "tests", "--pyargs", "limbo_compress")


@nox.session(venv_backend="none")
def docs(session: nox.Session) -> None:
    """Build the documentation into build/docs, and check its links."""
    build = ("-W", "--keep-going", "-q", "-E")
    run(session, "sphinx-build", *build, "-d", "build/doctrees", "docs", "build/docs")
    # The links once more, as the code host sees them: in the README, from each file's own place.
    settings = (
        "extensions=myst_parser",
        "root_doc=README",
        "myst_heading_anchors=6",
        "suppress_warnings=toc,myst.directive_unknown",
        "include_patterns=**.md",
        "exclude_patterns=.*,build",
    )
    host = (*build, "-C", "-d", "build/doctrees-host", "-b", "dummy")
    run(session, "sphinx-build", *host, *(f"-D{line}" for line in settings), ".", "build/host")


@nox.session(venv_backend="none")
def links(session: nox.Session) -> None:
    """Check the links of the documentation to other sites."""
    build = ("-W", "--keep-going", "-q", "-E", "-d", "build/doctrees", "-b", "linkcheck")
    run(session, "sphinx-build", *build, "docs", "build/links")


@nox.session(venv_backend="none")
def lock(session: nox.Session) -> None:
    """Write requirements/ anew, for every Python and system of CI."""
    source = Path("build", "lock.in")
    source.parent.mkdir(exist_ok=True)
    for name, line, groups in (
        ("backend", "", ["backend"]),
        ("dist", "", ["dist"]),
        ("dev", ".", ["backend", "browser", "dev"]),  # dev names this package, with its extras
        ("reference", "limbo-ml==0.4.0", []),
    ):
        source.write_text(line)
        flags = ["--quiet", "--universal", "--python-version", PYTHONS[0], "--generate-hashes"]
        flags += ["--no-annotate", "--custom-compile-command", "make lock", "--upgrade"]
        flags += ["--no-emit-package", "limbo-compress", *(f"--group={group}" for group in groups)]
        run(session, "uv", "pip", "compile", *flags, source, "-o", f"requirements/{name}.txt")


@nox.session(venv_backend="venv", reuse_venv=True)
def clients(session: nox.Session) -> None:
    """Let other programs read exports. Some need other versions, such as OpenCV below 5."""
    session.install("torch", "torchvision", "ultralytics", "supervision", "datumaro", "pycocotools")
    run(session, "python", "-m", "tests.programs.clients.run", Path(session.bin, "python"))


@nox.session(venv_backend="venv", reuse_venv=True)
@nox.parametrize("packages", [nox.param(value, id=name) for name, value in CONTENDERS.items()])
def contenders(session: nox.Session, packages: list[str]) -> None:
    """Install the tools that the benchmarks compare with, which need conflicting versions."""
    try:
        constraint = ("--constraint", "benchmarks/constraints.txt")
        session.install(*constraint, "--editable", ".", *packages)
    except CommandFailed:
        session.skip("cannot be installed, and the benchmark will say so")


@nox.session(venv_backend="venv", reuse_venv=True)
def fuzz(session: nox.Session) -> None:
    """Fuzz the readers of foreign bytes. Atheris is not for every Python and system."""
    session.install("atheris", "--editable", ".[fast,inspect,masks]")
    session.run("python", "-m", "tests.programs.fuzz", *session.posargs)


@nox.session(venv_backend="none")
def sanitize(session: nox.Session) -> None:
    """Fuzz the compiled modules under AddressSanitizer for a minute."""
    compiler = os.environ.get("CC", "cc")
    flags = ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    flags += ["-ffp-contract=off", "-fPIC", "-shared", f"-I{sysconfig.get_path('include')}"]
    modules = []
    for source in sorted(Path("limbo_compress").glob("*/*.c")):
        module = Path("build", "sanitize", *source.with_suffix(".so").parts[1:])
        module.parent.mkdir(parents=True, exist_ok=True)
        session.run(compiler, *flags, source, "-o", module, external=True)
        modules.append(module)
    library = session.run(compiler, "-print-file-name=libasan.so", silent=True, external=True)
    session.env["LD_PRELOAD"] = str(library).strip()
    session.env["ASAN_OPTIONS"] = "detect_leaks=0"
    # Without its own allocator, Python takes every buffer from malloc, which the sanitizer guards.
    session.env["PYTHONMALLOC"] = "malloc"
    run(session, "python", "-m", "tests.programs.sanitize", *modules)


def last_release(session: nox.Session) -> str:
    """Return the tag of the last release before this commit."""
    command = "git describe --tags --abbrev=0 --match v* HEAD^"
    try:
        return str(session.run(*command.split(), silent=True, external=True)).strip()
    except CommandFailed:
        session.error("There is no release yet: name a commit with BASE=")


@nox.session(venv_backend="none")
def against(session: nox.Session) -> None:
    """Compare the speed with another version: the one that is named, or the last release."""
    version = session.posargs[0] if session.posargs else last_release(session)
    revision = ("git", "rev-parse", f"{version}^{{commit}}")
    commit = str(session.run(*revision, silent=True, external=True)).strip()
    folder = Path("build", "against")
    shutil.rmtree(folder, ignore_errors=True)
    source = folder / "source"
    session.run("git", "clone", "--quiet", "--no-checkout", ".", source, external=True)
    session.run("git", "-C", source, "checkout", "--quiet", "--detach", commit, external=True)
    # Both are installed as users do it: compiled for themselves, and not editable.
    for name, path in (("base", source.absolute()), ("checkout", Path.cwd())):
        run(session, "python", "-m", "venv", folder / name)
        python = folder / name / "bin" / "python"
        session.run(python, "-m", "pip", "install", "-q", f"{path}[fast,masks]", external=True)
    run(session, "python", "-m", "benchmarks.against", version)
