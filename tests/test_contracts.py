"""The import contracts allow what the table in docs/architecture.md allows, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import grimp
import pytest
from importlinter import Contract
from importlinter.api import read_configuration
from importlinter.contracts.forbidden import ForbiddenContract
from importlinter.contracts.layers import LayersContract
from importlinter.contracts.protected import ProtectedContract

ROOT = Path(__file__).parents[1]
PACKAGE = "limbo_compress"
TYPES: dict[str, Callable[..., Contract]] = {
    "forbidden": ForbiddenContract,
    "layers": LayersContract,
    "protected": ProtectedContract,
}


def table() -> dict[str, set[str]]:
    """Read which layers each layer may import."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    section = text.partition("| layer |")[2].partition("\n\n")[0]
    rows = [re.split(r" \| ", line) for line in section.splitlines()[2:]]
    names = [re.findall(r"`([\w.]+)`", row[0]) for row in rows]
    basics = next(found for found, row in zip(names, rows, strict=True) if "basics" in row[0])
    return {
        name: set(re.findall(r"`([\w.]+)`", row[2])) | {*(basics if "basics" in row[2] else ())}
        for found, row in zip(names, rows, strict=True)
        for name in found
    }


ALLOWED = table()


@cache
def graph() -> grimp.ImportGraph:
    return grimp.build_graph(
        *settings()["session_options"]["root_packages"],
        include_external_packages=True,
        exclude_type_checking_imports=True,
        cache_dir=None,
    )


@cache
def settings() -> dict[str, Any]:
    return read_configuration(str(ROOT / ".importlinter"))


def refused(*imports: tuple[str, str]) -> bool:
    """Whether a contract breaks if these are imported as well."""
    with_imports = deepcopy(graph())
    for importer, imported in imports:
        with_imports.add_import(importer=importer, imported=imported)
    return not all(
        TYPES[options["type"]](options["name"], settings()["session_options"], options)
        .check(deepcopy(with_imports), verbose=False)
        .kept
        for options in settings()["contracts_options"]
    )


def modules_of(layer: str) -> list[str]:
    """Return the modules that a row of the table is about."""
    name = f"{PACKAGE}.{layer}"
    rows = {f"{PACKAGE}.{other}" for other in ALLOWED}
    return sorted(graph().find_children(name) - rows) or [name]


def test_the_table_has_all_modules() -> None:
    modules = {name.removeprefix(f"{PACKAGE}.") for name in graph().find_children(PACKAGE)}
    assert modules - {"__main__"} == {name for name in ALLOWED if "." not in name}


@pytest.mark.parametrize("layer", ALLOWED)
def test_exactly_the_imports_in_the_table_are_allowed(layer: str) -> None:
    others = {name: modules_of(name)[0] for name in ALLOWED if name != layer}
    found = {
        name
        for name, imported in others.items()
        if not all(refused((importer, imported)) for importer in modules_of(layer))
    }
    assert found == ALLOWED[layer]


@pytest.mark.parametrize(
    ("importer", "imported"),
    [
        ("limbo_compress.export.coco", "tqdm"),
        ("limbo_compress.export.coco", "torch"),
        ("limbo_compress.dataset.dataset", "kornia"),
        ("limbo_compress.output.lock", "tests.jobs"),
        ("benchmarks.bench", "tests.jobs"),
    ],
)
def test_other_imports_that_are_refused(importer: str, imported: str) -> None:
    assert not refused()
    assert refused((importer, imported))
