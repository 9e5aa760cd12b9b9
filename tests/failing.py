"""File calls that fail, or at which a process is killed or stopped: `failing.c`, made ready."""

from __future__ import annotations

import shutil
import struct
import sys
from pathlib import Path

import pytest

from tests.jobs import run

SOURCE = Path(__file__).with_suffix(".c")
# The counters that all processes share: see `failing.c`.
_STATE = struct.Struct("4i")


def build(folder: Path) -> Path:
    """Compile the library into a folder; the test is skipped where that cannot be done."""
    if sys.platform != "linux" or shutil.which("gcc") is None:
        pytest.skip("needs Linux and gcc")
    library = folder / "failing.so"
    run("gcc", "-shared", "-fPIC", "-O1", "-o", library, SOURCE, "-ldl", check=True)
    return library


def watch(library: Path, folder: Path, paths: str, **fault: object) -> dict[str, str]:
    """Return an environment in which calls are counted, and a fault happens at one of them.

    The counters and the log of the calls are in the folder. Only paths that match the pattern
    `paths` count. A fault is ``calls``, ``role``, ``at`` and ``do``, as in `failing.c`.
    """
    state, log = folder / "fault-state", folder / "fault-log"
    state.write_bytes(bytes(4096))
    log.write_bytes(b"")
    options = {"paths": paths, "state": state, "log": log} | fault
    return {"LD_PRELOAD": str(library)} | {
        f"FAULT_{name.upper()}": str(value) for name, value in options.items()
    }


def happened(env: dict[str, str]) -> int:
    """The process that met the fault; 0 if none did."""
    with open(env["FAULT_STATE"], "rb") as stream:
        return int(_STATE.unpack(stream.read(_STATE.size))[3])


def calls(env: dict[str, str]) -> list[str]:
    """The calls that counted: for each a letter of its role, its name and its path."""
    return Path(env["FAULT_LOG"]).read_text(errors="surrogateescape").splitlines()


def fail_once(
    folder: Path, path_end: str, number: int, call: str = "open", at: int = 1
) -> dict[str, str]:
    """Return an environment in which the first call on a path with this end fails.

    `call` is ``open``, ``list`` or ``stat``, `number` that of the error. `at` says which of the
    calls of each role fails; 0 is all of them. The library and its files go to the folder.
    """
    return watch(build(folder), folder, f"*{path_end}", calls=call, do=f"fail {number}", at=at)
