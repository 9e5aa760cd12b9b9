"""`.ci/notes`: what a release says, and whether its files name it."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.jobs import ROOT, run

CHANGELOG = """# Changelog

## Unreleased

- Later.

## 0.2.0 – 2026-01-31

- New.
- Newer.

## 0.1.0 – 2025-12-31

- Old.
"""
CITATION = "version: 0.2.0\ndate-released: 2026-01-31\n"
SCRIPT = ROOT / ".ci" / "notes"


def notes(folder: Path, version: str, citation: str) -> subprocess.CompletedProcess[str]:
    script = folder / ".ci" / "notes"
    script.parent.mkdir()
    shutil.copy(SCRIPT, script)
    (folder / "CHANGELOG.md").write_text(CHANGELOG)
    (folder / "CITATION.cff").write_text(citation)
    return run(script, version)


@pytest.mark.parametrize("version", ["0.2.0", "v0.2.0"])
def test_notes_are_the_section_of_the_version(tmp_path: Path, version: str) -> None:
    done = notes(tmp_path, version, CITATION)
    assert (done.returncode, done.stdout.strip()) == (0, "- New.\n- Newer.")


@pytest.mark.parametrize(
    ("version", "citation", "problem"),
    [
        ("0.3.0", CITATION.replace("0.2.0", "0.3.0"), "CHANGELOG.md has nothing under '## 0.3.0'"),
        ("0.1.0", CITATION, "CITATION.cff has no line 'version: 0.1.0'"),
        ("0.2.0", "version: 0.2.0\n", "CITATION.cff has no line 'date-released: YYYY-MM-DD'"),
    ],
)
def test_a_release_that_its_files_do_not_name_is_refused(
    tmp_path: Path, version: str, citation: str, problem: str
) -> None:
    done = notes(tmp_path, version, citation)
    assert (done.returncode, done.stdout, done.stderr.strip()) == (1, "", problem)
