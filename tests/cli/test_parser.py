"""What the three commands have in common: their help, and flags that mean the same."""

from __future__ import annotations

import json
import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest

from limbo_compress import EXPORT_FORMATS
from limbo_compress.cli.parser import Parser
from tests.jobs import Command

COMMANDS = ("compress", "export", "inspect")
DOCS = Path(__file__).parents[2] / "docs"


def parser(command: str) -> Parser:
    made = import_module(f"limbo_compress.cli.{command}").parser()
    assert isinstance(made, Parser)
    return made


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_begins_with_examples_that_work(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = parser(command).format_help().splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0] == "examples:"
    examples = [shlex.split(line) for line in lines[1 : lines.index("")]]
    assert len(examples) == 2
    for program, *words in examples:
        assert program == f"limbo-{command}"
        parser(command).parse(words)
    assert "-- ends the options: what follows is a" in " ".join(lines)


def test_a_flag_of_several_commands_means_the_same_in_all() -> None:
    found: dict[str, list[tuple[object, ...]]] = {}
    for command in COMMANDS:
        for action in parser(command)._actions:
            for name in action.option_strings:
                meaning = (action.help, action.type, action.nargs, action.default, action.metavar)
                found.setdefault(name, []).append(meaning)
    shared = {name: meanings for name, meanings in found.items() if len(meanings) > 1}
    assert {"--workers", "--quiet", "--json", "--where", "--rows", "--sample", "--seed"} < set(
        shared
    )
    assert [name for name, meanings in shared.items() if len(set(map(str, meanings))) > 1] == []


def test_the_page_about_exports_has_every_format() -> None:
    page = (DOCS / "export.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w[a-z-]+)` \|", page, re.MULTILINE) == list(EXPORT_FORMATS)


def test_the_results_of_a_job_as_json(command: Command, campaign: Path, tmp_path: Path) -> None:
    done = command("--json", "--metadata", campaign)
    assert done.stdout.count("\n") == 1
    report = json.loads(done.stdout)
    assert report["samples"] == 12
    (file,) = report["written"]
    assert (file["path"], file["shape"]) == (f"{tmp_path}/compressed-metadata.pickle", [12])
    status = json.loads(command("--json", "--status", "--prefix", "x").stdout)
    assert (status["samples"], status["missing"]) == (None, [])
