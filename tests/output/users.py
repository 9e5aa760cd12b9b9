"""The real command, run by other users than the one of the tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.jobs import run

NOBODY, DAEMON = 65534, 1

needs_root = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None,
    reason="only root may run a command as another user, with setpriv",
)


def run_as(
    user: int, shared: Path, *arguments: str, group: int | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the real command as a user, over the samples of the fixture `shared`, in ``out``."""
    as_user = ("setpriv", f"--reuid={user}", f"--regid={group or user}", "--clear-groups")
    python = (*as_user, sys.executable)
    if run(*python, "-c", "import limbo_compress, cv2", cwd=shared / "out").returncode:
        pytest.skip("this Python is closed to other users")
    words = ("-m", "limbo_compress", "--metadata", "--workers", "1", "--prefix", "test")
    return run(*python, *words, *arguments, shared / "data", cwd=shared / "out")


def give(path: Path, user: int) -> None:
    """Give a file or folder, and all that is in it, to a user."""
    for each in (path, *path.rglob("*")):
        os.chown(each, user, user, follow_symlinks=False)
