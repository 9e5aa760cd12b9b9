"""Fuzz the readers of foreign bytes, guided by the lines they reach: ``make fuzz``.

Run it with ``python -m tests.programs.fuzz SECONDS``. Two targets run at a time, each in a process
of its own, for SECONDS. It prints a line for each. A finding is a result that is wrong, an
exception that the reader does not document, a crash, 20 seconds, or more than a gigabyte. Its input
stays in ``build/fuzz``, with a traceback if there is one.
"""

from __future__ import annotations

import mmap
import os
import random
import re
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import traceback
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

_ROOT = Path(__file__).parents[2]
_BUILD = _ROOT / "build" / "fuzz"
# For the files that are read: a disk takes longer to replace one than a reader to read it.
_MEMORY = Path("/dev/shm")
_NAMES = ("png", "jpeg", "exr", "json", "index", "pickle", "shard record", "record", "npy")
_AT_ONCE = 2
_LONGEST_INPUT = 1 << 16
# A crash ends the process of a target. After this many, others are not worth the wait.
_MOST_CRASHES = 10
# libFuzzer looks at the memory once a second, and may name a later input than the one that took it.
_MOST_BYTES = 1 << 30
_LIMITS = ("-timeout=20", "-rss_limit_mb=4096")
# How often a change begins with one of the latest inputs that could be read.
_AGAIN = 0.4
_REMEMBERED = 500
_COUNTS = struct.Struct("<2Q")


class _Counts:
    """How many inputs ran, and how many could be read; in a file, which survives a crash."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(_COUNTS.size))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), _COUNTS.size)

    def add(self, is_read: bool) -> None:
        ran, read = self.both
        _COUNTS.pack_into(self._map, 0, ran + 1, read + is_read)

    @property
    def both(self) -> tuple[int, int]:
        ran, read = _COUNTS.unpack(self._map)
        return ran, read


def fuzz(name: str, seconds: str) -> None:
    """Fuzz a target in this process, which a crash ends."""
    import atheris  # here because only the environment of make fuzz has it

    with atheris.instrument_imports(include=["limbo_compress"]):
        from tests.programs.fuzz_targets import TARGETS

    target = TARGETS[name]()
    folder = _BUILD / name
    for number, seed in enumerate(target.seeds):
        (folder / "seeds" / str(number)).write_bytes(seed)
    counts = _Counts(folder / "counts")
    readable = deque(target.seeds, _REMEMBERED)
    limit = _MOST_BYTES

    def run(data: bytes) -> None:
        nonlocal limit
        is_read = False
        try:
            is_read = target.read(data)
        except target.errors:
            pass
        except Exception as error:
            _keep(folder / "findings", data, error)
        peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        if peak > limit:
            (folder / "findings" / f"memory-{peak}").write_bytes(data)
            limit = peak + _MOST_BYTES
        if is_read:
            readable.append(data)
        counts.add(is_read)

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        choice = random.Random(seed)
        # Most inputs that reach a new line are damaged, and what follows from them is, too.
        start = choice.choice(readable) if choice.random() < _AGAIN else bytes(data)
        return target.mutate(choice, start, atheris.Mutate)[:max_size]

    arguments = [
        sys.argv[0],
        *_LIMITS,
        f"-max_total_time={seconds}",
        f"-max_len={_LONGEST_INPUT}",
        f"-artifact_prefix={folder}/findings/",
        "-close_fd_mask=3",  # decoders print about each input
        str(folder / "corpus"),
        str(folder / "seeds"),
    ]
    atheris.Setup(arguments, run, custom_mutator=mutate)
    atheris.Fuzz()


def _keep(folder: Path, data: bytes, error: Exception) -> None:
    """Keep the first input that raises an exception at a line."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    name = f"{type(error).__name__}-{Path(frame.filename).stem}-{frame.lineno}"
    path = folder / name
    if not path.exists():
        path.write_bytes(data)
        path.with_suffix(".txt").write_text("".join(traceback.format_exception(error)))


def watch(name: str, seconds: float) -> tuple[str, int]:
    """Fuzz a target in processes, one after each crash; return the report and its findings."""
    folder = _BUILD / name
    shutil.rmtree(folder, ignore_errors=True)
    for part in ("seeds", "corpus", "findings"):
        (folder / part).mkdir(parents=True)
    begun = time.monotonic()
    log = folder / "log"
    for _ in range(_MOST_CRASHES):
        left = round(begun + seconds - time.monotonic())
        before = len(_findings(folder))
        # libFuzzer takes 0 for no limit.
        command = [sys.executable, "-m", "tests.programs.fuzz", name, str(max(1, left))]
        place = _MEMORY if _MEMORY.is_dir() else None
        with log.open("ab") as file, tempfile.TemporaryDirectory(dir=place) as here:
            env = os.environ | {"PYTHONPATH": str(_ROOT)}
            done = subprocess.run(command, stdout=file, stderr=file, cwd=here, env=env, check=False)
        if done.returncode == 0 or left <= 1:
            break
        if len(_findings(folder)) == before:
            raise RuntimeError(
                f"{name}: the fuzzer ended with exit code {done.returncode}: see {log}"
            )
    took = time.monotonic() - begun
    ran, read = _Counts(folder / "counts").both
    edges = re.findall(rb"cov: (\d+)", log.read_bytes())
    found = _findings(folder)
    columns = (
        f"{name:9} {ran:11,} {ran / took:9,.0f} {int(edges[-1]) if edges else 0:6,}"
        f" {read / max(1, ran):7.1%} {len(found):9}"
    )
    return "\n".join([columns, *(f"    {path}" for path in found)]), len(found)


def _findings(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / "findings").iterdir() if path.suffix != ".txt")


def main() -> None:
    if len(sys.argv) == 3:
        fuzz(*sys.argv[1:])
        return
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 120
    print("target     executions  a second  edges decoded  findings")
    total = 0
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        for report, findings in threads.map(partial(watch, seconds=seconds), _NAMES):
            print(report, flush=True)
            total += findings
    sys.exit(f"{total} findings" if total else 0)


if __name__ == "__main__":
    main()
