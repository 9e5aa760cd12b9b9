"""Time ``limbo-inspect`` on generated renders: ``make bench-inspect``.

The outputs are made once and kept in ``build/inspect``. Each figure is the best of a few runs of
the real command: what else the machine does only ever adds to it.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.campaign import Campaign, write_campaign

BUILD = Path(__file__).parents[1] / "build" / "inspect"
BIN = Path(sys.executable).parent
_DISTINCT = 50


def prepare(samples: int) -> Path:
    """Write the outputs of renders as the command makes them by default, and one mask."""
    prefix = BUILD / f"renders-{samples}"
    if not Path(f"{prefix}-metadata.pickle").exists():
        folder = BUILD / f"campaign-{samples}"
        write_campaign(folder, Campaign(samples, distinct=_DISTINCT, photographs=0))
        flags = ["--prefix", str(prefix), "--images", "--metadata", "--mask", "all", ".", "--"]
        subprocess.run([str(BIN / "limbo-compress"), *flags, str(folder)], check=True)
    return prefix


def measure(repeats: int, prefix: Path, *flags: str) -> tuple[float, float]:
    """Return the seconds of the fastest run, and the CPU time that one of them took at least."""
    seconds, cpu_seconds = [], []
    for _ in range(repeats):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        shutil.rmtree(BUILD / "views", ignore_errors=True)
        (BUILD / "views").mkdir()
        begun = time.monotonic()
        command = [str(BIN / "limbo-inspect"), str(prefix), *flags]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=BUILD / "views")
        seconds.append(time.monotonic() - begun)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        user, system = after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime
        cpu_seconds.append(user + system)
    return min(seconds), min(cpu_seconds)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=5000)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args(argv)
    prefix = prepare(arguments.samples)
    print(f"{arguments.samples} renders, {os.cpu_count()} CPUs ({platform.machine()})", flush=True)
    for what, flags in {
        "summary": [],
        "contact sheet of 100": ["--rows", "0:100", "--sheet", "sheet.png"],
        "verify 100": ["--verify", "100"],
        "gallery": ["--html", "gallery"],
    }.items():
        seconds, cpu_seconds = measure(arguments.repeats, prefix, *flags)
        print(f"{what:22}{seconds:7.1f} s, of CPUs {cpu_seconds:6.1f} s", flush=True)
    used = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1000
    print(f"most memory of a process: {used:.0f} MB")


if __name__ == "__main__":
    main()
