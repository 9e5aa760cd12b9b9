from __future__ import annotations

import gc
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from subprocess import PIPE
from typing import Any

import pytest

from limbo_compress import UsageError
from limbo_compress.dataset.prefetch import prefetch

LONG = 60.0  # seconds that nothing takes, unless it has failed


class Source:
    """Batches 0, 1, 2 …, which know how many were read, and whether reading has ended."""

    def __init__(self, batches: int | None = None) -> None:
        self.batches = batches
        self.read = 0
        self.ended = threading.Event()

    def __iter__(self) -> Iterator[int]:
        try:
            while self.read != self.batches:
                self.read += 1
                yield self.read - 1
        finally:
            self.ended.set()


@pytest.mark.parametrize("ahead", [1, 2, 7])
def test_batches_come_in_their_order(ahead: int) -> None:
    assert list(prefetch(Source(5), ahead)) == [0, 1, 2, 3, 4]
    assert list(prefetch([], ahead)) == []


@pytest.mark.parametrize("ahead", [1, 3])
def test_as_many_as_asked_for_are_read_ahead(ahead: int) -> None:
    source = Source(50)
    is_ahead = threading.Event()

    def watched() -> Iterator[int]:
        for batch in source:
            if batch == ahead:  # while the first one is in use
                is_ahead.set()
            yield batch

    for batch in prefetch(watched(), ahead):
        assert is_ahead.wait(LONG)
        assert source.read <= batch + 1 + ahead


def test_a_loader_can_be_looped_over_again() -> None:
    batches = prefetch([1, 2, 3])
    assert [list(batches), list(batches)] == [[1, 2, 3], [1, 2, 3]]
    assert len(batches) == 3
    with pytest.raises(TypeError):
        len(prefetch(iter([1])))


@pytest.mark.parametrize("error", [KeyError("x"), SystemExit(3), KeyboardInterrupt()])
def test_an_exception_comes_after_the_batches_before_it(error: BaseException) -> None:
    def failing() -> Iterator[int]:
        yield from (1, 2)
        raise error

    batches = iter(prefetch(failing(), 2))
    assert [next(batches), next(batches)] == [1, 2]
    with pytest.raises(type(error)) as raised:
        next(batches)
    assert raised.value is error
    assert list(batches) == []


def test_what_cannot_be_looped_over_is_told_at_once() -> None:
    with pytest.raises(TypeError, match="not iterable"):
        iter(prefetch(3))  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [0, -1, 1.5, None])
def test_no_batch_ahead_is_refused(wrong: Any) -> None:
    with pytest.raises(UsageError, match="1 batch or more ahead"):
        prefetch([], wrong)


def leave(source: Source, how: str) -> None:
    batches = prefetch(source)
    if how == "garbage":
        cycle: list[Any] = [iter(batches)]
        cycle.append(cycle)
        next(cycle[0])
        del cycle
        gc.collect()
        return
    for batch in batches:
        if batch == 3 and how == "break":
            break
        if batch == 3 and how == "return":
            return
        if batch == 3:
            raise LookupError


@pytest.mark.parametrize("how", ["break", "return", "raise", "garbage"])
def test_reading_ends_with_the_loop(how: str) -> None:
    source = Source()
    if how == "raise":
        with pytest.raises(LookupError):
            leave(source, how)
    else:
        leave(source, how)
    assert source.ended.wait(LONG)
    assert source.read <= 6


# A shell lets what runs in its background ignore SIGINT.
HEAD = """
import signal
from limbo_compress.dataset.prefetch import prefetch
signal.signal(signal.SIGINT, signal.default_int_handler)
"""


def run(script: str, send: int | None = None) -> tuple[int, str]:
    """Run a script until it prints a line, then send it a signal or the end of its input."""
    program = f"{HEAD}\n{script}"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=PIPE, stdout=PIPE, stderr=PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        if send is not None:
            process.send_signal(send)
        try:
            _, error = process.communicate("", LONG)
        finally:
            process.kill()
        return process.returncode, error


BLOCKED = """
import threading
def source():
    yield 1
    print("ready", flush=True)
    threading.Event().wait()
"""


def test_a_signal_ends_a_loop_that_waits() -> None:
    code, error = run(f"{BLOCKED}\nfor batch in prefetch(source()): pass", signal.SIGINT)
    assert error.rstrip().endswith("KeyboardInterrupt")
    assert code == -signal.SIGINT


ENDLESS = """
def source():
    yield 1
    print("ready", flush=True)
    while True:
        yield 2
"""


@pytest.mark.parametrize("script", [BLOCKED, ENDLESS])
def test_python_exits_while_a_thread_reads(script: str) -> None:
    # The thread is reading when the first line of the script's output is there.
    end = "batches = iter(prefetch(source()))\nnext(batches)\nimport sys\nsys.stdin.readline()"
    assert run(f"{script}\n{end}") == (0, "")
