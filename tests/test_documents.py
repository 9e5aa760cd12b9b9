"""Every block of Python and bash in the documents runs, and the site has all public names."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from sybil import Document, Example, Sybil
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown import CodeBlockParser

import limbo_compress
from benchmarks.campaign import Campaign, write_campaign
from limbo_compress import Options, compress

ROOT = Path(__file__).parents[1]


def run_shell(example: Example) -> None:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    subprocess.run(
        ["bash", "-euc", example.parsed],
        check=True,
        env=os.environ | {"PATH": path, "PYTHONPATH": str(ROOT)},
    )


def blocks(path: Path) -> list[Example]:
    parsers = [CodeBlockParser("python", PythonEvaluator()), CodeBlockParser("bash", run_shell)]
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
    examples = blocks(ROOT / "docs" / "tutorial.md")
    assert examples
    for example in examples:
        example.evaluate()
    assert (folder / "batch.png").stat().st_size > 10_000


OTHERS = [
    pytest.param(block, id=f"{path.name} line {block.line}")
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    if path.name != "tutorial.md"
    for block in blocks(path)
]


@pytest.mark.parametrize("example", OTHERS)
def test_a_block_runs(example: Example, folder: Path) -> None:
    if "torch" in example.parsed:
        pytest.importorskip("torch", reason="this block needs PyTorch")
    data = folder / "campaign17" / "0049"
    write_campaign(data, Campaign(samples=8, photographs=0, size=(90, 70)))
    masks = (("big", "^48"),)
    compress(Options((str(data),), prefix="test", images=True, metadata=True, masks=masks))
    example.evaluate()


@pytest.mark.parametrize("name", limbo_compress.__all__)
def test_the_site_has_every_public_name(name: str) -> None:
    lines = (ROOT / "docs" / "api.rst").read_text(encoding="utf-8").splitlines()
    assert any(line.endswith(f":: {name}") for line in lines)
