"""A million samples: what the coordinator needs, and how soon a job that was done resumes.

``make bench-million`` runs the real command on a million tiny metadata files in a thousand folders
(hard links to a few files), twice: at once, and as a partition that does everything and publishes
nothing, followed by the plain command, which resumes it. The coordinator's own CPU time and memory
are measured, without those of its workers.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks import bench

BUILD = bench.ROOT / "build" / "million"
RESULTS = bench.ROOT / "docs" / "bench" / "million.md"
_FOLDERS = 1000
# Filesystems limit the links to one file, ext4 to 65 000.
_MOST_LINKS = 50_000
JOBS: dict[str, dict[str, str]] = {
    "at once": {},
    "a partition that does everything": {"partition": "0/1"},
    "the job that publishes what the partition did": {},
}
_CATEGORIES = ("30B", "48X", "48Y", "48G")
_PROGRAM = """
import json, resource, sys
from limbo_compress import Options, compress
options = Options(sys.argv[1], prefix=sys.argv[2], metadata=True, **json.loads(sys.argv[3]))
report = compress(options)
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({
    "samples": report.samples,
    "resumed": report.resumed,
    "seconds": report.seconds,
    "cpu": used.ru_utime + used.ru_stime,
    "memory": used.ru_maxrss * 1024,
}))
"""


def generate(folder: Path, samples: int) -> None:
    """Make the samples, unless they are there."""
    if (folder / "complete").exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    original = folder / ".original"
    for number in range(samples):
        if number % _MOST_LINKS == 0:
            original.unlink(missing_ok=True)
            annotations = [{"category": _CATEGORIES[number // _MOST_LINKS % len(_CATEGORIES)]}]
            original.write_text(json.dumps({"annotations": annotations, "number": number}))
        parent = folder / f"{number * _FOLDERS // samples:04d}"
        if not parent.exists():
            parent.mkdir()
        os.link(original, parent / f"metadata_{number:07d}.json")
    original.unlink()
    (folder / "complete").touch()


def run(folder: Path, **options: Any) -> dict[str, float]:
    """Run a job in a process of its own."""
    command = [sys.executable, "-c", _PROGRAM, str(folder), str(BUILD / "out"), json.dumps(options)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def measure(samples: int) -> dict[str, Any]:
    folder = BUILD / f"campaign-{samples}"
    generate(folder, samples)
    results: dict[str, Any] = {"machine": bench.machine(), "samples": samples, "jobs": {}}
    for name, options in JOBS.items():
        results["jobs"][name] = run(folder, **options)
        print(_row(name, results["jobs"][name]), flush=True)
    results["bytes"] = (BUILD / "out-metadata.pickle").stat().st_size
    return results


def _row(name: str, figures: dict[str, float]) -> str:
    cells = (
        f"{figures['cpu']:.1f} s | {figures['memory'] / 1e6:.0f} MB | {figures['seconds']:.0f} s"
    )
    return f"| {name} | {cells} |"


def markdown(results: dict[str, Any]) -> str:
    machine = results["machine"]
    return "\n".join(
        [
            "# A million samples",
            "",
            "Written by `make bench-million`; do not edit.",
            "",
            "| job | CPU time of the coordinator | its memory | time in all |",
            "| --- | --: | --: | --: |",
            *(_row(name, figures) for name, figures in results["jobs"].items()),
            "",
            f"{results['samples']:,} tiny metadata files in {_FOLDERS:,} folders;"
            f" {machine['cpu']}, {machine['cpus']} CPUs; {machine['date']}; load before the"
            f" start: {machine['load']:.1f}.",
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=1_000_000)
    arguments = parser.parse_args()
    results = measure(arguments.samples)
    if arguments.samples == parser.get_default("samples"):
        RESULTS.write_text(markdown(results), encoding="utf-8")


if __name__ == "__main__":
    main()
