from __future__ import annotations

import errno
import logging
import os
import platform
import sys
from pathlib import Path

import pytest

from limbo_compress.run.sample_warnings import captured
from tests.jobs import run_command
from tests.run.refused import SYSTEM_CALLS


def test_lines_written_to_the_descriptor_are_captured(capfd: pytest.CaptureFixture[str]) -> None:
    with captured() as take:
        os.write(2, b"libpng warning: one\n\n")
        assert take() == ["libpng warning: one"]
        assert take() == []
        os.write(2, b"two\nthree\xff")
        assert take() == ["two", "three\N{REPLACEMENT CHARACTER}"]
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"


def test_what_we_log_is_captured_at_any_level(caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger("limbo_compress")
    caplog.set_level(logging.ERROR, log.name)
    with captured() as take:
        log.warning("odd: %s", "a sample")
        os.write(2, b"printed\n")
        assert take() == ["odd: a sample", "printed"]
        log.info("not odd")
        assert take() == []
    assert caplog.messages == []
    log.error("after")
    assert caplog.messages == ["after"]


def test_stderr_is_restored_after_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="x"), captured():
        raise ValueError("x")
    os.write(2, b"seen\n")
    assert capfd.readouterr().err == "seen\n"


@pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in SYSTEM_CALLS, reason="needs seccomp(2)"
)
@pytest.mark.parametrize("error", [errno.ENOSYS, errno.EPERM])
def test_where_memory_files_are_refused_others_are_used_or_none(tmp_path: Path, error: int) -> None:
    done = run_command(tmp_path, error, module="tests.run.refused")
    assert (done.returncode, done.stdout, done.stderr) == (0, "['inside']\n", "outside\n")
    done = run_command(tmp_path, error, "/no such folder", module="tests.run.refused")
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "inside\noutside\n")
