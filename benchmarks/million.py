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
RESULTS = bench.ROOT / "docs" / "bench" / "million.json"
_FOLDERS = 1000
# Filesystems limit the links to one file, ext4 to 65 000.
_MOST_LINKS = 50_000
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
    results: dict[str, Any] = {"machine": bench.machine(), "samples": samples}
    for name, options in (
        ("at once", {}),
        ("a partition that does everything", {"partition": "0/1"}),
        ("the job that publishes it", {}),
    ):
        results[name] = figures = run(folder, **options)
        print(
            f"{name}: {figures['seconds']:.1f} s, coordinator {figures['cpu']:.1f} s of CPU time,"
            f" {figures['memory'] / 1e6:.0f} MB",
            flush=True,
        )
    results["bytes"] = (BUILD / "out-metadata.pickle").stat().st_size
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=1_000_000)
    arguments = parser.parse_args()
    results = measure(arguments.samples)
    if arguments.samples == parser.get_default("samples"):
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
