"""Damage what an unfinished job and its commands read, and see what they say.

Run it with ``python -m tests.programs.workfuzz SECONDS``. Each round changes one file of a work
folder, or an existing output, and runs a command there. It must end within seconds with exit code
0, 1 or 2, say an error in one line, and publish nothing but the right bytes.
"""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn

from benchmarks.campaign import Campaign, write_campaign
from limbo_compress import compress
from limbo_compress.cli import compress as compress_command
from limbo_compress.cli import console, messages
from limbo_compress.cli import inspect as inspect_command
from limbo_compress.cli.start import main  # noqa: F401  # its signals are those of the command
from tests import jobs

_SECONDS_A_ROUND = 60
_MAX_LINE = 2100
_NASTY = (
    b"",
    b"{}",
    b"[]",
    b"null",
    b"[" * 100_000,
    b'{"a":' * 50_000,
    b"9" * 5000,
    b'{"pid": 1e999, "host": []}',
    b'{"pid": true, "host": "\\u202e\\u001b[31m", "claim": true}',
    b'{"pid": 1, "host": "x", "started": null}',
    b'{"runs": [[], {}], "partitions": 1e400, "number of samples": -1}',
    b'{"number of samples": ' + b"9" * 4000 + b', "partitions": 100000000}',
    b'{"number of samples": 1000000000000, "partitions": 100000000}',
    b'{"row": 1e999, "path": "x", "reason": "y"}',
    b'{"row": "0", "path": {}, "reason": []}\n',
    b"\xff\xfe\x00\xd8",
    b"\x80\x03]" + b"(" * 1000,
)
_TOKENS = (b"null", b"-1", b"1e999", b"true", b"[]", b"{}", b'""', b"9" * 5000, b'"../../x"', b"0")


class WorkFuzzer:
    """A folder with an unfinished job, and another with published outputs, to be damaged.

    `counts` says what became of the rounds.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self._random = random.Random(seed)
        self._folder = folder
        self._data = folder / "data"
        write_campaign(self._data, Campaign(samples=6, size=(40, 30)))
        (self._data / "0000" / "bad.json").write_text("[]")
        self._flags = ("--on-error", "skip", "--image-size", "8", "6", "--workers", "1")
        self._expected = self._publish(folder / "outputs")
        self._templates = {"work": self._leave_work(folder / "work"), "outputs": folder / "outputs"}
        self.counts: Counter[str] = Counter()

    def round(self) -> None:
        """Damage one file, and run a command, which may fail only as it should."""
        kind = self._random.choice(("work", "work", "work", "outputs"))
        folder = self._folder / "round"
        shutil.copytree(self._templates[kind], folder, symlinks=True)
        try:
            files = sorted(path for path in folder.rglob("*") if path.is_file())
            path = self._random.choice(files)
            how = self._random.choice(_DAMAGES)
            what = f"{how.__name__} {path.relative_to(folder)}"
            how(self._random, path)
            for command in self._commands(kind):
                self._check(folder, command, what)
        finally:
            shutil.rmtree(folder)

    def _commands(self, kind: str) -> list[tuple[str, ...]]:
        job = ("--prefix", "out", "--metadata", *self._flags, str(self._data))
        if kind == "outputs":
            return [("inspect", "out"), job]
        fresh = ("--fresh",) * (self._random.random() < 0.1)
        return [("--status", *job), ("--images", *fresh, *job)]

    def _check(self, folder: Path, command: tuple[str, ...], what: str) -> None:
        code, said = self._run(folder, command)
        what = f"{command[0]} after {what}: exit code {code}: {said[:3000]}"
        assert code in (0, 1, 2), what
        assert "Traceback" not in said, what
        assert all(len(line) <= _MAX_LINE for line in said.splitlines()), what
        assert not set(said) & {"\x1b", "\u202e", "\x9b"}, what
        if code == 0 and command[0] not in ("inspect", "--status"):
            published = jobs.outputs(folder)
            expected = self._expected
            if "--images" not in command:  # the index says that it was another command
                published, expected = (
                    {
                        "metadata.pickle": pickle.loads(found["metadata.pickle"]),
                        "failures.jsonl": found["failures.jsonl"],
                    }
                    for found in (published, expected)
                )
            for name in ("images.npy", "metadata.pickle", "failures.jsonl"):
                assert published.get(name) == expected.get(name), f"wrong {name}: {what}"
        self.counts[f"{command[0].strip('-')}: exit code {code}"] += 1

    def _run(self, folder: Path, command: tuple[str, ...]) -> tuple[int, str]:
        """Run a command in this process, which is faster than in one of its own."""
        said = io.StringIO()
        is_inspect = command[0] == "inspect"
        words = command[1:] if is_inspect else command
        console.name_command("limbo-inspect" if is_inspect else "limbo-compress")
        here = Path.cwd()
        os.chdir(folder)
        try:
            with _deadline(), contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
                module = inspect_command if is_inspect else compress_command
                return messages.run(module, words), said.getvalue()
        finally:
            os.chdir(here)

    def _publish(self, folder: Path) -> dict[str, bytes]:
        folder.mkdir()
        compress(jobs.job(self._data, folder, image_size=(8, 6), on_error="skip"))
        return jobs.outputs(folder)

    def _leave_work(self, folder: Path) -> Path:
        """Leave a work folder with several parts, and the lock of a dead run."""
        folder.mkdir()
        options = jobs.job(self._data, folder, image_size=(8, 6), on_error="skip", workers=2)
        jobs.stop_after(3, options)
        lock = folder / ".out.partial" / "lock"
        lock.mkdir()
        (lock / "0123456789abcdef").write_text('{"pid": 1, "host": "x", "claim": false}')
        os.utime(lock / "0123456789abcdef", (0, 0))
        return folder


@contextlib.contextmanager
def _deadline() -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> NoReturn:
        where = "".join(traceback.format_stack(frame)[-3:])
        raise AssertionError(f"it hangs for {_SECONDS_A_ROUND} seconds: {where}")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(_SECONDS_A_ROUND)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _change_bytes(random: random.Random, path: Path) -> None:
    data = bytearray(path.read_bytes()) or bytearray(1)
    for _ in range(random.choice((1, 1, 3, 20))):
        data[random.randrange(len(data))] = random.randrange(256)
    _write(path, bytes(data))


def _change_bits_of_the_first_line(random: random.Random, path: Path) -> None:
    data = bytearray(path.read_bytes()) or bytearray(1)
    at = random.randrange(min(len(data), 1 + (data.find(b"\n") if b"\n" in data else 400)))
    data[at] ^= 1 << random.randrange(7)
    _write(path, bytes(data))


def _truncate(random: random.Random, path: Path) -> None:
    data = path.read_bytes()
    _write(path, data[: random.randrange(len(data) + 1)])


def _append(random: random.Random, path: Path) -> None:
    _write(path, path.read_bytes() + random.choice((b"\n", b"\0" * 100, path.read_bytes())))


def _replace_token(random: random.Random, path: Path) -> None:
    """Put a JSON value where another one is."""
    data = path.read_bytes()
    places = [at for at, byte in enumerate(data[:5000]) if byte in b":[,"] or [0]
    at = random.choice(places) + 1
    end = next((i for i in range(at, len(data)) if data[i] in b",]}"), at)
    _write(path, data[:at] + random.choice(_TOKENS) + data[end:])


def _replace_all(random: random.Random, path: Path) -> None:
    _write(path, random.choice(_NASTY))


def _make_pipe(random: random.Random, path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _make_folder(random: random.Random, path: Path) -> None:
    path.unlink()
    path.mkdir()


def _make_link(random: random.Random, path: Path) -> None:
    path.unlink()
    path.symlink_to(random.choice((path, Path("/dev/zero"), Path("/nowhere/x"), path.parent)))


def _write(path: Path, data: bytes) -> None:
    """Replace the content, and keep the time, by which an old lock is known."""
    before = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


_DAMAGES: tuple[Callable[[random.Random, Path], None], ...] = (
    _change_bytes,
    _change_bits_of_the_first_line,
    _truncate,
    _append,
    _replace_token,
    _replace_all,
    _make_pipe,
    _make_folder,
    _make_link,
)


def _main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(1 << 32)
    print(f"seed {seed}")
    found: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        fuzzer = WorkFuzzer(Path(folder), seed)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                fuzzer.round()
            except Exception as error:
                text = "".join(traceback.format_exception(error)[-4:])
                found[text] += 1
                print(text)
    for outcome, number in sorted(fuzzer.counts.items()):
        print(f"{number:6} {outcome}")
    sys.exit(f"{found.total()} faults were found" if found else 0)


if __name__ == "__main__":
    _main()
