from __future__ import annotations

from pathlib import Path

from tests.jobs import Command, outputs


def test_without_isal_the_bytes_are_the_same(
    command: Command, campaign: Path, tmp_path: Path
) -> None:
    flags = ("--images", "--image-size", 32, 24, "--metadata", "--workers", 2, campaign)
    assert command("--prefix", "fast", *flags).returncode == 0
    plain = ("isal", "main", "--prefix", "plain", *flags)
    assert command(*plain, module="tests.programs.without").returncode == 0
    assert outputs(tmp_path, "plain") == outputs(tmp_path, "fast")
    assert command("--prefix", "grown", *flags, "--end", 7).returncode == 0
    grown = ("isal", "main", "--prefix", "grown", *flags)
    assert "copied 7, made 5" in command(*grown, module="tests.programs.without").stdout
    assert outputs(tmp_path, "grown") == outputs(tmp_path, "fast")
