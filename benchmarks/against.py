"""Time this checkout against another version of it: ``make bench-against BASE=v0.1.0``.

Both take turns on the same data, so that whatever slows the machine slows both. What is left of it
shows in the range of the ratios; CPU time is the steadier figure.
"""

from __future__ import annotations

import argparse
import subprocess
from pathlib import Path
from statistics import median

from benchmarks import bench
from benchmarks.bench import Contender

BUILD = bench.ROOT / "build" / "against"
BASE, CHECKOUT = VERSIONS = ("base", "checkout")
SAMPLES = 200
_READ = """
import sys
from limbo_compress import load
dataset = load(sys.argv[1])
dataset.labels({"30B"})
list(dataset.metadata)
"""


def compress_once(version: str, data: Path) -> Path:
    """Let a version write the outputs that it reads when it is timed; return their prefix."""
    prefix = BUILD / f"{version}-out"
    flags = ["--images", "--metadata", "--quiet", "--prefix", str(prefix)]
    command = [str(BUILD / version / "bin" / "limbo-compress"), *flags, "--", str(data)]
    subprocess.run(command, check=True)
    return prefix


def jobs(version: str, data: Path) -> dict[str, Contender]:
    install = BUILD / version / "bin"
    prefix = str(compress_once(version, data))
    command, *arguments = bench.ours(data, 2, SAMPLES, install)
    commands = {
        "1 sample": (1, bench.ours(data, 1, 1, install)),
        f"{SAMPLES} samples, 1 worker": (SAMPLES, bench.ours(data, 1, SAMPLES, install)),
        f"{SAMPLES} samples, 2 workers": (SAMPLES, [command, *arguments]),
        "the same, and a mask": (SAMPLES, [command, "--mask", "big", "^48", *arguments]),
        "load labels and all metadata": (SAMPLES, [str(install / "python"), "-c", _READ, prefix]),
        "limbo-inspect": (SAMPLES, [str(install / "limbo-inspect"), prefix]),
    }
    # Each runs once before it is timed.
    return {
        name: Contender(line, samples, one_sample=line)
        for name, (samples, line) in commands.items()
    }


def measure(data: Path, rounds: int) -> dict[str, dict[str, Contender]]:
    bench.warm_cache(data)
    running = {version: jobs(version, data) for version in VERSIONS}
    for turn in range(rounds):
        print(f"round {turn + 1} of {rounds}", flush=True)
        for name in running[CHECKOUT]:
            for version in VERSIONS:
                bench.time_once(f"{version}: {name}", running[version][name], data)
    return running


def ratio(base: list[float], checkout: list[float]) -> str:
    """Return the median and the range of the rounds' ratios."""
    ratios = sorted(new / old for old, new in zip(base, checkout, strict=True))
    return f"{median(ratios):.2f} ({ratios[0]:.2f}–{ratios[-1]:.2f})"


def row(name: str, base: Contender, checkout: Contender) -> str:
    if base.problem or checkout.problem:
        return f"| {name} | {base.problem} | {checkout.problem} | | |"
    seconds = ratio(base.seconds, checkout.seconds)
    cpu_seconds = ratio(base.cpu_seconds, checkout.cpu_seconds)
    return (
        f"| {name} | {median(base.seconds):.2f} s | {median(checkout.seconds):.2f} s"
        f" | {seconds} | {cpu_seconds} |"
    )


def table(base: str, running: dict[str, dict[str, Contender]]) -> str:
    rows = [row(name, running[BASE][name], job) for name, job in running[CHECKOUT].items()]
    machine = bench.machine()
    rounds = max(len(job.seconds) for job in running[CHECKOUT].values())
    return "\n".join(
        [
            f"| | {base} | this checkout | ratio | ratio of CPU time |",
            "| --- | --: | --: | --: | --: |",
            *rows,
            "",
            f"Medians of {rounds} rounds on generated renders of 720 × 720 pixels. Below 1, this"
            f" checkout is faster. {machine['cpu']}, {machine['cpus']} CPUs, load at the end"
            f" {machine['load']:.1f}.\n",
        ]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("base", help="what the other version is called")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    running = measure(bench.generate(SAMPLES), arguments.rounds)
    text = table(arguments.base, running)
    (BUILD / "results.md").write_text(text)
    print(text)
    return int(any(job.problem for job in running[CHECKOUT].values()))


if __name__ == "__main__":
    raise SystemExit(main())
