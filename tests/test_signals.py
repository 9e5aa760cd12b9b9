"""Signals while outputs are published."""

from __future__ import annotations

import sys

from tests.jobs import run

_PROGRAM = """
import os, signal
from limbo_compress import Stopped, signals

def send(number):
    try:
        os.kill(os.getpid(), number)
    except Stopped as stopped:
        print(stopped)

signals.install()
try:
    with signals.finishing():
        send(signal.SIGTERM)
        raise OSError("a disk that is full")
except OSError as error:
    print(error)
SIGNALS
"""


def printed(*lines: str) -> list[str]:
    program = _PROGRAM.replace("SIGNALS", "\n".join(lines))
    done = run(sys.executable, "-c", program, check=True)
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_signals_count_again_when_publication_has_failed() -> None:
    assert printed("send(signal.SIGUSR1)", "send(signal.SIGTERM)") == [
        "a disk that is full",
        "stopped by SIGUSR1",
    ]


def test_signals_do_nothing_once_all_is_published() -> None:
    block = ("with signals.finishing():", "    with signals.finishing(): pass", "    send(2)")
    assert printed(*block, "send(signal.SIGTERM)") == ["a disk that is full"]


def test_a_second_job_of_a_process_heeds_signals() -> None:
    lines = ("with signals.finishing(): pass", "signals.install()", "send(signal.SIGUSR1)")
    assert printed(*lines) == ["a disk that is full", "stopped by SIGUSR1"]
