"""Time exports of generated renders, and measure their memory: ``make bench-export``."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from benchmarks import bench
from benchmarks.load_contenders import pss
from limbo_compress import EXPORT_FORMATS
from limbo_compress.filenames import METADATA

BUILD = bench.ROOT / "build" / "export"
COMMANDS = Path(sys.executable).parent
# Memory is measured for this part of the rows, too: it should not be much less.
PART = 5


def prepare(samples: int) -> Path:
    """Compress generated renders, unless that has been done; return the prefix."""
    prefix = BUILD / f"rendered-{samples}"
    if not Path(f"{prefix}-{METADATA}").exists():
        campaign = bench.generate(samples)
        BUILD.mkdir(parents=True, exist_ok=True)
        flags = ["--prefix", str(prefix), "--images", "--metadata", "--quiet"]
        command = [str(COMMANDS / "limbo-compress"), *flags, "--", str(campaign)]
        subprocess.run(command, check=True)
    return prefix


def start(prefix: Path, to: str, *more: str) -> subprocess.Popen[bytes]:
    """Start an export to a folder that does not exist yet."""
    out = BUILD / "out"
    shutil.rmtree(out, ignore_errors=True)
    flags = ["--to", to, "-o", str(out), "--quiet", *more]
    return subprocess.Popen([str(COMMANDS / "limbo-export"), str(prefix), *flags])


def finish(process: subprocess.Popen[bytes]) -> None:
    if process.wait():
        raise subprocess.CalledProcessError(process.returncode, process.args)


def time_once(prefix: Path, to: str, *more: str) -> float:
    """Return how many seconds an export takes, until its files are on the disk."""
    begun = time.perf_counter()
    finish(start(prefix, to, *more))
    return time.perf_counter() - begun


def peak(prefix: Path, to: str) -> int:
    """Return how many bytes of memory an export and its workers have at most.

    Not in a timed run, which looking would slow.
    """
    process, most = start(prefix, to), 0
    while process.poll() is None:
        most = max(most, pss(process.pid))
        time.sleep(0.1)
    finish(process)
    return most


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=5000)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args(argv)
    whole, part = prepare(arguments.samples), prepare(arguments.samples // PART)
    rows = f"{arguments.samples // PART} / {arguments.samples}"
    print(f"| format | time | memory, {rows} rows |")
    print("| --- | --: | --: |")
    for to in EXPORT_FORMATS:
        seconds = median(time_once(whole, to) for _ in range(arguments.repeats))
        few, many = peak(part, to) / 1e6, peak(whole, to) / 1e6
        print(f"| {to} | {seconds:.1f} s | {few:.0f} / {many:.0f} MB |", flush=True)
    machine = bench.machine()
    print(
        f"\n{arguments.samples} generated renders of 720 × 720 pixels in rows of 224 × 224, medians"
        f" of {arguments.repeats} runs; memory is the PSS of all processes; {machine['cpu']},"
        f" {machine['cpus']} CPUs, load at the end {machine['load']:.1f}."
    )
    shutil.rmtree(BUILD / "out", ignore_errors=True)


if __name__ == "__main__":
    main()
