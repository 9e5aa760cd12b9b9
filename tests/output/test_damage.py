"""Damaged and hostile work folders and outputs: pipes, and a short `tests.programs.workfuzz`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.jobs import Command, run, script
from tests.programs.workfuzz import WorkFuzzer


def test_damage_is_survived_or_named(tmp_path: Path) -> None:
    fuzzer = WorkFuzzer(tmp_path, seed=3)
    for _ in range(8):
        fuzzer.round()
    assert fuzzer.counts.total() >= 16


@pytest.mark.parametrize("name", ["images.npy", "metadata.pickle"])
def test_a_pipe_under_an_output_s_name_is_named(
    command: Command, campaign: Path, tmp_path: Path, name: str
) -> None:
    os.mkfifo(tmp_path / f"out-{name}")
    other = "--metadata" if name == "images.npy" else "--images"
    done = command("--prefix", "out", other, campaign)
    assert done.returncode == 1
    assert "it is not a regular file" in done.stderr
    inspected = run(script("limbo-inspect"), "out", cwd=tmp_path)
    assert inspected.returncode == 1
    assert "it is not a regular file" in inspected.stderr


def test_many_partitions_are_not_all_printed(
    command: Command, campaign: Path, tmp_path: Path
) -> None:
    folder = tmp_path / ".out.partial"
    folder.mkdir()
    (folder / "job-1.json").write_text('{"number of samples": 7, "partitions": 100000000}')
    done = command("--prefix", "out", "--metadata", "--status", campaign)
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) < 100
