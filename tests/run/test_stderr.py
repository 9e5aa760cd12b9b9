from __future__ import annotations

import os

import pytest

from limbo_compress.run.stderr import captured


def test_lines_written_to_the_descriptor_are_captured(capfd: pytest.CaptureFixture[str]) -> None:
    with captured() as take:
        os.write(2, b"libpng warning: one\n\n")
        assert take() == ["libpng warning: one"]
        assert take() == []
        os.write(2, b"two\nthree\xff")
        assert take() == ["two", "three\N{REPLACEMENT CHARACTER}"]
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"


def test_stderr_is_restored_after_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="x"), captured():
        raise ValueError("x")
    os.write(2, b"seen\n")
    assert capfd.readouterr().err == "seen\n"
