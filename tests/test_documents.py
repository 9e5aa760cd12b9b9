"""Every block of Python and bash in the documents runs, and prints what the documents show."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from doctest import ELLIPSIS, OutputChecker
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from sybil import Document, Example, Sybil
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown import CodeBlockParser

import limbo_compress
from benchmarks.campaign import Campaign, write_campaign
from limbo_compress import Options, compress
from setup import pypi_readme
from tests.jobs import ROOT, run

README = ROOT / "README.md"
TUTORIAL = ROOT / "docs" / "tutorial.md"


def run_shell(example: Example) -> None:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    streams: Any = {"capture_output": False, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    done = run("bash", "-euc", example.parsed, env={"PATH": path}, **streams, timeout=600)
    assert done.returncode == 0, done.stdout
    example.namespace["printed"] = done.stdout


def compare_output(example: Example) -> str | None:
    """Compare a block of text with what the block of bash before it printed."""
    printed = example.namespace["printed"]
    if OutputChecker().check_output(example.parsed, printed, ELLIPSIS):
        return None
    return f"printed:\n{printed}"


def blocks(path: Path) -> list[Example]:
    parsers = [
        CodeBlockParser("python", PythonEvaluator()),
        CodeBlockParser("bash", run_shell),
        CodeBlockParser("text", compare_output),
    ]
    document: Document = Sybil(parsers=parsers).parse(path)
    # As in a script.
    document.namespace["__name__"] = "__main__"
    return list(document.examples())


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    return tmp_path


def test_the_tutorial_runs(folder: Path) -> None:
    torch = pytest.importorskip("torch", reason="the tutorial needs PyTorch")
    pytest.importorskip("kornia", reason="the tutorial needs kornia")
    pytest.importorskip("matplotlib", reason="the tutorial needs matplotlib")
    # More threads than free CPUs wait for each other, ten times as long as they work.
    torch.set_num_threads(1)
    examples = blocks(TUTORIAL)
    assert examples
    for example in examples:
        example.evaluate()
    assert (folder / "batch.png").stat().st_size > 10_000


@pytest.fixture(scope="module")
def limbo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the Limbo data, with the campaign that the documents compress; read-only."""
    folder = tmp_path_factory.mktemp("limbo")
    campaign = Campaign(samples=24, distinct=8, photographs=6, size=(90, 70))
    write_campaign(folder / "campaign17" / "0049", campaign)
    with tarfile.open(folder / "campaign17-0049.tar.gz", "w:gz") as archive:
        archive.add(folder / "campaign17", "campaign17")
    return folder


@pytest.fixture
def data(limbo: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DATA_ROOT", str(limbo))
    return limbo / "campaign17" / "0049"


def run_in_order(path: Path) -> None:
    """Run the blocks of a page as a reader types them, as far as the extras are installed."""
    has_torch = find_spec("torch") is not None
    for example in blocks(path):
        if has_torch or "torch" not in example.parsed:
            example.evaluate()
    if not has_torch and any("torch" in example.parsed for example in blocks(path)):
        pytest.skip("all blocks ran but those that need PyTorch")


def test_the_readme_runs_from_an_empty_folder(data: Path, folder: Path) -> None:
    assert os.listdir(folder) == []
    run_in_order(README)
    made = {path.name for path in folder.iterdir()}
    assert {"test-images.npy", "test-masks-big.npy", "gallery", "test-coco"} <= made


PAGES = [path for path in sorted((ROOT / "docs").glob("*.md")) if path != TUTORIAL and blocks(path)]


@pytest.fixture
def _only_rank(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Set what torchrun sets for one process, and end its process group."""
    for name, value in {"RANK": 0, "WORLD_SIZE": 1, "MASTER_PORT": 0}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    yield
    torch = sys.modules.get("torch")
    if torch and torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("_only_rank")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_blocks_of_a_page_run_in_order(page: Path, data: Path) -> None:
    if page.name != "compress.md":  # which makes its own outputs
        masks = {"big": "^48"}
        compress(Options((str(data),), prefix="test", images=True, metadata=True, masks=masks))
    run_in_order(page)


@pytest.mark.parametrize("page", [README, *PAGES], ids=lambda page: page.name)
def test_all_our_commands_on_a_page_are_in_blocks_that_run(page: Path) -> None:
    elsewhere = r"^(?: {4}|```(?!bash|python).*\n)(limbo-[a-z]+ .*)"
    assert re.findall(elsewhere, page.read_text(encoding="utf-8"), re.MULTILINE) == []


def test_all_links_and_pictures_of_the_readme_resolve_on_pypi() -> None:
    markdown = pytest.importorskip("readme_renderer.markdown", reason="PyPI's renderer is missing")
    html = markdown.render(pypi_readme())
    repository = "https://github.com/limbo-compress/limbo-compress"
    links = re.findall(r'(?:href|src)="([^"]*)"', html)
    assert f"{repository}/raw/main/docs/gallery.webp" in links
    own = re.compile(rf"{repository}/(?:raw|blob)/main/([^#]*)")
    files = [match[1] for link in links if (match := own.match(link))]
    assert [name for name in files if not (ROOT / name).is_file()] == []
    assert [link for link in links if not link.startswith(("https://", "#"))] == []


@pytest.mark.parametrize("name", ["compress", "inspect", "export"])
def test_the_guides_name_every_option(name: str) -> None:
    command = Path(sys.executable).with_name(f"limbo-{name}")
    help_text = subprocess.run([command, "--help"], capture_output=True, text=True, check=True)
    options = set(re.findall(r"^  (?:-\w.*, )?(--[a-z-]+)", help_text.stdout, re.MULTILINE))
    assert len(options) > 5
    guides = [(ROOT / "docs" / f"{page}.md").read_text("utf-8") for page in (name, "cluster")]
    missing = {option for option in options if not re.search(rf"{option}\b", "".join(guides))}
    assert missing <= {"--help", "--version"}


def test_the_site_has_the_public_names_and_no_others() -> None:
    page = (ROOT / "docs" / "api.rst").read_text(encoding="utf-8")
    names = re.findall(r"^\.\. auto(?!module)\w+:: (\S+)$", page, re.MULTILINE)
    assert sorted(names) == sorted(limbo_compress.__all__)


def test_promises_of_security_name_tests_that_exist() -> None:
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    files = re.findall(r"`(tests/\S+\.py)`", text)
    assert files
    assert [path for path in files if not (ROOT / path).is_file()] == []
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    names = re.findall(r"`([a-z]+(?:_[a-z]+){3,})`", text)
    assert [name for name in names if f"def test_{name}(" not in code] == []
