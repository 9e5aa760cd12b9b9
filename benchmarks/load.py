"""Time opening a dataset and epochs over it, compared with other ways: ``make bench-load``.

All contenders run in turn, then all again: what slows the machine for a while slows them all.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import bench
from benchmarks.load_contenders import NOT_INSTALLED
from limbo_compress.filenames import IMAGES, METADATA, array_file

BUILD = bench.ROOT / "build" / "load"
DOCUMENTS = bench.ROOT / "docs" / "bench"
SCRIPT = str(Path(__file__).with_name("load_contenders.py"))
PYTHON = Path(sys.executable)
# Each tool, and the folder in which it writes its format, below the one that it gets.
TOOLS = {"datasets": "dataset", "litdata": "chunks", "streaming": ""}
LABELS = {
    "ours": "limbo-compress, `load(prefix).torch()`",
    "ahead": "the same, with `prefetch`",
    "stored": "the same, float16 and `channels_last`",
    "step": "the same as the first, and 20 ms of work for each batch",
    "step-ahead": "the same, with `prefetch`",
    "tutorial": "reference's tutorial: `pickle.load`, memory map, a class",
    "datasets": "Hugging Face datasets",
    "litdata": "litdata",
    "streaming": "MosaicML streaming",
    "copy": "ceiling: numpy copies the rows as stored, float16 (H, W, 3)",
    "copy-planes": "numpy copies the rows to float32 (3, H, W)",
}
# These have no workers.
ALONE = ("copy", "copy-planes", "ahead", "step-ahead", "stored")
# What reads batches that are not in memory, and how many.
COLD = {"copy": 5, "ours": 25, "ahead": 25}
EPOCHS = 3

Results = dict[str, Any]


def prepare(samples: int) -> dict[str, Path]:
    """Write what is read: the outputs of the command, and the formats of the tools."""
    campaign = bench.generate(samples)
    data = {"ours": BUILD / f"ours-{samples}"}
    files = [Path(f"{data['ours']}-{name}") for name in (array_file(IMAGES), METADATA)]
    if not all(path.exists() for path in files):
        BUILD.mkdir(parents=True, exist_ok=True)
        flags = ["--prefix", str(data["ours"]), "--images", "--metadata", "--quiet"]
        command = [str(PYTHON.with_name("limbo-compress")), *flags, "--", str(campaign)]
        subprocess.run(command, check=True)
    for tool, folder in TOOLS.items():
        written = BUILD / f"{tool}-{samples}"
        if not written.exists():
            bench.write_with(tool, campaign, written)
        data[tool] = written / folder
    return data


def python_of(name: str) -> Path:
    return bench.python_of(name) if name in TOOLS else PYTHON


def run(name: str, data: Path, *arguments: object) -> Results:
    """Run one; what fails is reported, and not tried again."""
    command = [str(python_of(name)), SCRIPT, name, str(data), *map(str, arguments)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env=os.environ | bench.OFFLINE
        )
    except FileNotFoundError:
        return {"problem": "not installed"}
    if done.returncode == NOT_INSTALLED:
        return {"problem": "not installed"}
    if done.returncode:
        return {"problem": (done.stderr.strip().splitlines() or ["it failed"])[-1]}
    figures: Results = json.loads(done.stdout)
    return figures


def measure(samples: int, repeats: int) -> Results:
    data = prepare(samples)
    results: Results = {
        "machine": bench.machine(),
        "samples": samples,
        "epochs": {},
        "open": {},
        "cold": {},
    }
    for turn in range(repeats):
        print(f"round {turn + 1} of {repeats}", flush=True)
        for name in ("open", "open-by-hand"):
            results["open"].setdefault(name, []).append(run(name, data["ours"]))
        for workers in (0, 2, 4):
            for name in LABELS:
                if workers and name in ALONE:
                    continue
                figures = run(name, data.get(name, data["ours"]), workers, EPOCHS)
                results["epochs"].setdefault(f"{name}-{workers}", []).append(figures)
                print(f"{name:12} {workers} workers: {shown(figures)}", flush=True)
        for name, batches in COLD.items():
            figures = run("cold", data["ours"], name, batches)
            results["cold"].setdefault(name, []).append(figures)
            print(f"{name:12} cold: {figures}", flush=True)
    return results


def shown(figures: Results) -> str:
    return figures.get("problem") or f"{rate([figures]):.0f} rows/s"


def rate(runs: list[Results]) -> float | None:
    """Rows per second, the median of all epochs."""
    seconds = [lap for run in runs for lap in run.get("seconds", ())]
    return runs[0]["rows"] / median(seconds) if seconds else None


def table(results: Results) -> list[str]:
    epochs = results["epochs"]
    lines = [
        "| an epoch in random order, batches of 64 | 0 workers | 2 workers | 4 workers"
        " | PSS, 0 / 2 / 4 workers |",
        "| --- | --: | --: | --: | --: |",
    ]
    for name, label in LABELS.items():
        runs = [epochs.get(f"{name}-{workers}", []) for workers in (0, 2, 4)]
        rates = [rate(found) if found else None for found in runs]
        peaks = [max((max(r["pss"]) for r in found if "pss" in r), default=None) for found in runs]
        cells = [f"{value:.0f} rows/s" if value else "" for value in rates]
        memory = " / ".join("–" if peak is None else f"{peak / 1e9:.2f}" for peak in peaks)
        lines.append(f"| {label} | {' | '.join(cells)} | {memory} GB |")
    return lines


def reading(results: Results) -> list[str]:
    """Table of what reading takes where the file does not fit in memory."""
    lines = [
        "| in memory of 768 MB, nothing of the file is cached | | bytes read for each needed |",
        "| --- | --: | --: |",
    ]
    for name, runs in results["cold"].items():
        done = [run for run in runs if "seconds" in run]
        if done:
            speed = median(run["rows"] / run["seconds"] for run in done)
            amplification = median(run["amplification"] for run in done)
            lines.append(f"| {LABELS[name]} | {speed:.0f} rows/s | {amplification:.2f} |")
    return lines


def opening(results: Results) -> list[str]:
    """Table of what happens before training."""
    ours, by_hand = (
        {key: median(run[key] for run in runs) for key in runs[0]}
        for runs in (results["open"]["open"], results["open"]["open-by-hand"])
    )
    start = [figures["open"] + figures["labels"] for figures in (ours, by_hand)]
    return [
        "| | limbo-compress | reference's tutorial |",
        "| --- | --: | --: |",
        f"| open and make labels | {1000 * start[0]:.1f} ms | {start[1]:.2f} s |",
        f"| memory for that | {ours['bytes'] / 1e6:.0f} MB | {by_hand['bytes'] / 1e6:.0f} MB |",
        f"| metadata of one sample | {1000 * ours['one']:.2f} ms | |",
        f"| metadata of all | {ours['list']:.2f} s | {by_hand['list']:.2f} s |",
    ]


def figures(results: Results) -> list[str]:
    machine = results["machine"]
    return [
        *opening(results),
        "",
        *table(results),
        "",
        *reading(results),
        "",
        f"{results['samples']} generated renders, rows of 224 × 224; medians of"
        f" {len(results['open']['open'])} rounds of {EPOCHS} epochs; {machine['cpu']},"
        f" {machine['cpus']} CPUs.",
    ]


def markdown(results: Results) -> str:
    problems = {
        f"{name}: {run['problem']}"
        for name, runs in [*results["epochs"].items(), *results["cold"].items()]
        for run in runs
        if "problem" in run
    }
    machine = results["machine"]
    return "\n".join(
        [
            "# Loading",
            "",
            "Written by `make bench-load`; do not edit.",
            "",
            *figures(results),
            "",
            "Opening includes importing limbo_compress, with numpy loaded already. Three epochs of"
            " each run are timed, after one that is not, so the files are cached. PSS is of"
            " the process and its workers, and includes what they have mapped of the page cache.",
            "",
            "PSS of limbo-compress without workers in three epochs, one after the other: "
            + _growth(results),
            "",
            *(f"- {problem}" for problem in sorted(problems)),
            f"- {machine['date']}; load before the start: {machine['load']:.1f};"
            f" {machine['system']}",
            "",
        ]
    )


def _growth(results: Results) -> str:
    runs = [run["pss"] for run in results["epochs"]["ours-0"] if "pss" in run]
    epochs = [median(peaks) / 1e6 for peaks in zip(*runs, strict=True)]
    return ", ".join(f"{peak:.0f} MB" for peak in epochs)


def write(results: Results, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(results, indent=2, ensure_ascii=False)
    (folder / "load.json").write_text(text + "\n", encoding="utf-8")
    (folder / "load.md").write_text(markdown(results), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=5000)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    results = measure(arguments.samples, arguments.repeats)
    folder = DOCUMENTS if arguments.samples >= 5000 else BUILD / "report"
    write(results, folder)
    print((folder / "load.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
