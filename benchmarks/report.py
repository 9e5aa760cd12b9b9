"""Write measured figures to results.json, results.md, plots and the README.

``python -m benchmarks.report docs/bench`` rewrites the others from the folder's results.json.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Results = dict[str, Any]

LABELS = {
    "reference": "reference (limbo-ml 0.4.0), 1 process",
    "pool": "by hand: Pool, Pillow, scikit-image, 2 processes",
    "datasets": "Hugging Face datasets, 2 processes",
    "litdata": "litdata, 2 processes",
    "streaming": "MosaicML streaming, 2 processes",
    "ours-2-fast": "limbo-compress with [fast], 2 workers",
    "ours-2-cold": "limbo-compress, 2 workers, cold cache",
    "reference-masks": "reference, images and a mask, 1 process",
    "ours-1-masks": "limbo-compress with [fast,masks], images and a mask, 1 worker",
    "ours-2-slow": "limbo-compress, 2 workers, 5 ms added to each open",
    "ours-2-slow-10": "limbo-compress, 2 workers, 10 ms added to each open",
    "ours-2-slow-20": "limbo-compress, 2 workers, 20 ms added to each open",
    "floor-decode-parse": "floor: only OpenCV decoding and orjson parsing, 1 process",
}
BARS = {
    "stages": "limbo-compress",
    "stages-fast": "limbo-compress [fast]",
    "floor-decode-parse": "floor: decode, parse",
    "floor-inflate-parse": "floor: inflate, parse",
}
STAGES = {
    "read": "read",
    "parse": "parse JSON",
    "inflate": "inflate",
    "decode": "decode image",
    "resample": "color, resample, write",
    "pickle": "pickle",
}
# The README has the rates of these, between two comments.
_IN_README = ("reference", "datasets", "litdata", "ours-2", "ours-2-fast")
_BEGIN, _END = "<!-- figures of make bench-full: begin -->\n", "<!-- end -->\n"
_OURS, _OTHER = "#1b6ca8", "#b0b7bf"


def label(name: str) -> str:
    if name in LABELS:
        return LABELS[name]
    workers = name.removeprefix("ours-")
    return f"limbo-compress, {workers} worker{'s' if workers != '1' else ''}"


def rates(contender: Results) -> list[float]:
    return [contender["samples"] / seconds for seconds in contender["seconds"]]


def cpu(contender: Results) -> list[float]:
    """Return the CPU time of all processes, in milliseconds per sample."""
    return [1000 * seconds / contender["samples"] for seconds in contender["cpu_seconds"]]


def write(results: Results, folder: Path) -> None:
    """Write the figures, the tables and the plots into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(results, indent=2, ensure_ascii=False)
    (folder / "results.json").write_text(text + "\n", encoding="utf-8")
    (folder / "results.md").write_text(markdown(results), encoding="utf-8")
    plots = {"throughput": throughput, "stages": stages, "growth": growth}
    # No date and fixed ids, so that the same figures give the same files.
    matplotlib.rcParams |= {"svg.hashsalt": "limbo-compress", "font.size": 10}
    for name, plot in plots.items():
        figure = plot(results)
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
        plt.close(figure)


def write_readme(results: Results, path: Path) -> None:
    """Replace the figures in the README."""
    before, _, rest = path.read_text(encoding="utf-8").partition(_BEGIN)
    _, _, after = rest.partition(_END)
    figures = "\n".join(_readme(results))
    path.write_text(f"{before}{_BEGIN}{figures}\n{_END}{after}", encoding="utf-8")


def _readme(results: Results) -> list[str]:
    contenders = results["contenders"]
    timed = {name: contenders[name] for name in _IN_README if contenders[name]["seconds"]}
    lines = ["| | samples/s | times the reference |", "| --- | --: | --: |"]
    for name, contender in timed.items():
        rate = median(rates(contender))
        times = rate / median(rates(timed["reference"]))
        lines.append(f"| {label(name)} | {rate:.1f} | {times:.1f} |")
    machine, samples = results["machine"], timed["ours-2"]["samples"]
    return [
        *lines,
        "",
        f"Images and metadata of {samples} generated renders of 720 × 720 pixels"
        f" ({timed['reference']['samples']} for the reference), start-up included;",
        f"medians of {len(timed['ours-2']['seconds'])} rounds; {machine['cpu']},"
        f" {machine['cpus']} CPUs.",
    ]


def markdown(results: Results) -> str:
    data = results["data"]
    size = data["bytes"] / data["samples"] / 1e6
    kind = "generated samples" if data["generated"] else "samples"
    return "\n".join(
        [
            "# Benchmark",
            "",
            "Written by `make bench` or `make bench-full`; do not edit.",
            "",
            f"{data['samples']} {kind} of {size:.2f} MB each, including cryptomattes; images and"
            " metadata, 224 × 224. In each round, every contender ran once, on the number of"
            " samples in the table. `limbo-compress` is installed without extras, except where"
            " the table says [fast].",
            "",
            *_table(results),
            "",
            "Samples/s include start-up. The start-up column is the time of a job of one sample."
            " The page cache is warm, except where the table says cold. The three libraries call"
            " limbo-compress's own conversion and write their own formats.",
            "",
            "## Ratios",
            "",
            *_ratios(results),
            "",
            "Each ratio compares two runs of the same round.",
            "",
            "![samples per second](throughput.svg)",
            "",
            "## CPU time",
            "",
            *_stages(results),
            "",
            "Milliseconds per sample in one process, without start-up; medians of three runs. The"
            " floors do only the stages in their names.",
            "",
            "![CPU time by stage](stages.svg)",
            "",
            "## Memory, sizes, growth",
            "",
            *_figures(results),
            "",
            "![time by number of samples](growth.svg)",
            "",
            "## Checked against the reference",
            "",
            *(f"- `{name}`: {line}" for name, line in results["parity"].items()),
            "",
            "## Machine",
            "",
            *_machine(results["machine"]),
            "",
        ]
    )


def _table(results: Results) -> list[str]:
    lines = [
        "| | samples | samples/s, median | min – max | CPU, ms per sample | start-up, s"
        " | MB written |",
        "| --- | --: | --: | --: | --: | --: | --: |",
    ]
    for name, contender in results["contenders"].items():
        if contender["problem"]:
            lines.append(f"| {label(name)} | {contender['problem']} | | | | | |")
            continue
        measured = rates(contender)
        cells = [
            label(name),
            f"{contender['samples']}",
            f"**{median(measured):.1f}**",
            f"{min(measured):.1f} – {max(measured):.1f}",
            f"{median(cpu(contender)):.1f}",
            f"{contender['start_up']:.2f}",
            f"{contender['bytes'] / 1e6:.1f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _ratios(results: Results) -> list[str]:
    timed = {name: c for name, c in results["contenders"].items() if c["seconds"]}
    lines = ["| | median | min – max |", "| --- | --: | --: |"]

    def add(text: str, of: str, to: str, figures: Callable[[Results], list[float]]) -> None:
        if of in timed and to in timed:
            # A contender that ran in the first round only is compared with all rounds of the other.
            mine, others = figures(timed[of]), figures(timed[to])
            others = others if len(others) == len(mine) else [median(others)] * len(mine)
            quotients = [a / b for a, b in zip(mine, others, strict=True)]
            spread = f"{min(quotients):.2f} – {max(quotients):.2f}"
            lines.append(f"| {text} | **{median(quotients):.2f}** | {spread} |")

    add("samples/s: 2 workers / the reference", "ours-2", "reference", rates)
    add("samples/s: 2 workers with [fast] / the reference", "ours-2-fast", "reference", rates)
    add("samples/s: 2 workers / 1 worker", "ours-2", "ours-1", rates)
    add("samples/s with a mask: 1 worker / the reference", "ours-1-masks", "reference-masks", rates)
    for name in ("pool", "datasets", "litdata", "streaming"):
        add(f"samples/s: 2 workers / {label(name)}", "ours-2", name, rates)
    for delay, name in ((5, "ours-2-slow"), (10, "ours-2-slow-10"), (20, "ours-2-slow-20")):
        add(f"samples/s: {delay} ms added to each open / nothing added", name, "ours-2", rates)
    add("CPU time: 1 worker / decoding and parsing only", "ours-1", "floor-decode-parse", cpu)
    return lines


def _stages(results: Results) -> list[str]:
    bars = {text: results["stages"][name] for name, text in BARS.items()}
    lines = [
        f"| stage | {' | '.join(bars)} |",
        "| --- |" + " --: |" * len(bars),
    ]
    for stage, text in STAGES.items():
        cells = [f"{bar[stage]:.2f}" if stage in bar else "" for bar in bars.values()]
        lines.append(f"| {text} | {' | '.join(cells)} |")
    totals = [f"**{sum(bar.values()):.2f}**" for bar in bars.values()]
    return [*lines, f"| total | {' | '.join(totals)} |"]


def _figures(results: Results) -> list[str]:
    alone, pickles = results["coordinator"], results["pickles"]
    writers = {"reference": "the reference", "ours": "limbo-compress"}
    return [
        "| figure | |",
        "| --- | --: |",
        *(
            f"| {samples} samples, 2 workers: peak memory of the coordinator and of a worker"
            f" | {seen['coordinator_rss'] / 1e6:.1f} MB, {seen['worker_rss'] / 1e6:.1f} MB |\n"
            f"| {samples} samples, 2 workers: CPU time of the coordinator"
            f" | {seen['coordinator_cpu_ms']:.3f} ms per sample |"
            for samples, seen in results["resources"].items()
        ),
        f"| {alone['samples']:,} samples, 2 workers that do almost nothing: CPU time of the"
        f" coordinator | {alone['cpu_ms']:.3f} ms per sample |",
        *(
            f"| metadata of {writers[who]}: size, and time of `pickle.load`"
            f" | {figures['bytes'] / 1e3:.1f} kB, {figures['load_ms']:.2f} ms per sample |"
            for who, figures in pickles.items()
        ),
        *(
            f"| {samples} samples, 2 workers | {median(seconds):.2f} s,"
            f" {int(samples) / median(seconds):.1f} samples/s |"
            for samples, seconds in results["growth"].items()
        ),
    ]


def _machine(machine: Results) -> list[str]:
    def versions(packages: dict[str, str]) -> str:
        return ", ".join(f"{name} {number}" for name, number in packages.items()) or "none"

    return [
        f"- {machine['date']}; load average before the start: {machine['load']:.1f}",
        f"- {machine['cpu']}, {machine['cpus']} CPUs, {machine['memory'] / 1e9:.0f} GB",
        f"- {machine['system']}",
        f"- Python {machine['python']}, {versions(machine['libraries'])}",
        f"- resampling and PNG filters: {'compiled' if machine['compiled'] else 'not compiled'}",
        f"- contenders: {versions(machine['contenders'])}",
    ]


def _axes(width: float, height: float) -> tuple[Figure, Axes]:
    figure, axes = plt.subplots(figsize=(width, height), layout="constrained")
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def throughput(results: Results) -> Figure:
    """Plot the samples/s of all contenders, and of the command by number of workers."""
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(11, 4), layout="constrained", width_ratios=(3, 2)
    )
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    _contender_bars(left, results)
    _scaling(right, results)
    return figure


def _contender_bars(axes: Axes, results: Results) -> None:
    timed = {
        name: c
        for name, c in results["contenders"].items()
        if c["seconds"] and not name.startswith("floor") and not name.endswith("-masks")
    }
    middles = [median(rates(c)) for c in timed.values()]
    low = [m - min(rates(c)) for m, c in zip(middles, timed.values(), strict=True)]
    high = [max(rates(c)) - m for m, c in zip(middles, timed.values(), strict=True)]
    bar_colors = [_OURS if name.startswith("ours") else _OTHER for name in timed]
    names = [label(name) for name in timed]
    axes.barh(names, middles, xerr=(low, high), color=bar_colors, ecolor="#333333", capsize=3)
    for row, (middle, above) in enumerate(zip(middles, high, strict=True)):
        axes.annotate(
            f"{middle:.3g}", (middle + above, row), (6, 0), textcoords="offset points", va="center"
        )
    axes.margins(x=0.12)
    axes.invert_yaxis()
    axes.set_xlabel("samples/s, including start-up (median, min – max)")


def _scaling(axes: Axes, results: Results) -> None:
    timed = {
        int(name.removeprefix("ours-")): rates(c)
        for name, c in results["contenders"].items()
        if name.removeprefix("ours-").isdigit() and c["seconds"]
    }
    workers = sorted(timed)
    middles = [median(timed[n]) for n in workers]
    low = [m - min(timed[n]) for n, m in zip(workers, middles, strict=True)]
    high = [max(timed[n]) - m for n, m in zip(workers, middles, strict=True)]
    ideal = [n * middles[0] / workers[0] for n in workers]
    axes.plot(workers, ideal, "--", color="#777777", label="ideal")
    axes.errorbar(
        workers, middles, (low, high), fmt="o-", color=_OURS, capsize=3, label="limbo-compress"
    )
    axes.set_xticks(workers)
    axes.set_xlim(workers[0] - 0.25, workers[-1] + 0.25)
    axes.set_ylim(0)
    axes.set_xlabel("workers")
    axes.set_ylabel("samples/s, including start-up")
    axes.legend(loc="lower right", frameon=False)


def stages(results: Results) -> Figure:
    """Plot the CPU time of each stage as stacked bars."""
    figure, axes = _axes(9, 3.2)
    bars = {text: results["stages"][name] for name, text in BARS.items()}
    begun = dict.fromkeys(bars, 0.0)
    bar_colors = plt.get_cmap("tab10")
    for index, (stage, text) in enumerate(STAGES.items()):
        widths = [bar.get(stage, 0.0) for bar in bars.values()]
        if any(widths):
            left = list(begun.values())
            axes.barh(list(bars), widths, left=left, color=bar_colors(index), label=text)
        begun = {name: begun[name] + bar.get(stage, 0.0) for name, bar in bars.items()}
    for row, total in enumerate(begun.values()):
        axes.annotate(f"{total:.1f}", (total, row), (6, 0), textcoords="offset points", va="center")
    axes.margins(x=0.08)
    axes.invert_yaxis()
    axes.set_xlabel("CPU time in one process, ms per sample")
    figure.legend(loc="outside upper center", ncols=4, frameon=False)
    return figure


def growth(results: Results) -> Figure:
    """Plot the time by number of samples."""
    figure, axes = _axes(6, 4)
    samples = [int(count) for count in results["growth"]]
    times = list(results["growth"].values())
    middles = [median(t) for t in times]
    spread = (
        [m - min(t) for m, t in zip(middles, times, strict=True)],
        [max(t) - m for m, t in zip(middles, times, strict=True)],
    )
    axes.errorbar(samples, middles, spread, fmt="o-", color=_OURS, capsize=3)
    axes.set_xlim(0)
    axes.set_ylim(0)
    axes.set_xlabel("samples")
    axes.set_ylabel("seconds, 2 workers (median, min – max)")
    return figure


if __name__ == "__main__":
    measured = json.loads(Path(sys.argv[1], "results.json").read_text(encoding="utf-8"))
    write(measured, Path(sys.argv[1]))
    write_readme(measured, Path(__file__).parents[1] / "README.md")
