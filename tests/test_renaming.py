"""Filesystems that cannot rename folders, such as gcsfuse.

A library that is loaded first refuses what such a filesystem refuses, with the same error.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from limbo_compress import compress
from tests.jobs import error_line, job, run, run_command

LIBRARY = """
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
int rename(const char *source, const char *target) {
    struct stat status;
    if (!stat(source, &status) && S_ISDIR(status.st_mode)) {
        errno = %s;
        return -1;
    }
    return renameat(AT_FDCWD, source, AT_FDCWD, target);
}
"""

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or not shutil.which("cc"), reason="needs Linux and a C compiler"
)


@pytest.fixture(params=["EMFILE", "ENOSYS"])
def env(tmp_path: Path, request: pytest.FixtureRequest) -> dict[str, str]:
    source, library = tmp_path / "library" / "rename.c", tmp_path / "library" / "rename.so"
    source.parent.mkdir()
    source.write_text(LIBRARY % request.param)
    run("cc", "-shared", "-fPIC", source, "-o", library, check=True)
    return {"LD_PRELOAD": str(library)}


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("main", ("--metadata", "--", "../data")),
        ("export", ("../out", "--to", "imagefolder", "--out", "new")),
        ("inspect", ("../out", "--html", "new")),
    ],
)
def test_each_command_that_needs_it_says_so_at_once(
    data: Path, tmp_path: Path, env: dict[str, str], command: str, arguments: tuple[str, ...]
) -> None:
    compress(job(data, tmp_path))
    folder = tmp_path / "folder"
    folder.mkdir()
    flags = ("no_library", command, "--quiet", *arguments)
    done = run_command(folder, *flags, env=env, module="tests.programs.without")
    line = error_line(done)
    assert ": this filesystem cannot rename a folder: " in line
    assert line.endswith("; write to another one, and copy the outputs\n")
    assert os.listdir(folder) == []
