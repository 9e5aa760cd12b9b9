"""Measured figures to results.json, results.md, plots, and the README.

``python -m benchmarks.report docs/bench`` makes the others anew from its results.json.
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
    "ours-2-slow": "limbo-compress, 2 workers, 5 ms more for each opening",
    "floor-decode-parse": "floor: OpenCV decoding and orjson parsing alone, 1 process",
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
    "resample": "colour, resample, write",
    "pickle": "pickle",
}
# Between these the README's figures stand.
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
    """All CPU time, milliseconds a sample."""
    return [1000 * seconds / contender["samples"] for seconds in contender["cpu_seconds"]]


def write(results: Results, folder: Path) -> None:
    """Write all of it into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(results, indent=2, ensure_ascii=False)
    (folder / "results.json").write_text(text + "\n", encoding="utf-8")
    (folder / "results.md").write_text(markdown(results), encoding="utf-8")
    plots = {"throughput": throughput, "stages": stages, "growth": growth}
    # Without a date and with fixed ids, the same figures make the same files.
    matplotlib.rcParams |= {"svg.hashsalt": "limbo-compress", "font.size": 10}
    for name, plot in plots.items():
        figure = plot(results)
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
        plt.close(figure)


def write_readme(results: Results, path: Path) -> None:
    """Put the most important figures into the README."""
    before, _, rest = path.read_text(encoding="utf-8").partition(_BEGIN)
    _, _, after = rest.partition(_END)
    figures = "\n".join(_readme(results))
    path.write_text(f"{before}{_BEGIN}{figures}\n{_END}{after}", encoding="utf-8")


def _readme(results: Results) -> list[str]:
    timed = {
        name: contender
        for name, contender in results["contenders"].items()
        if contender["seconds"] and not name.startswith("floor")
    }
    baseline = median(rates(timed["reference"]))
    lines = ["| | samples/s | times the reference |", "| --- | --: | --: |"]
    for name, contender in timed.items():
        rate = median(rates(contender))
        lines.append(f"| {label(name)} | {rate:.1f} | {rate / baseline:.1f} |")
    machine, samples = results["machine"], timed["ours-2"]["samples"]
    return [
        *lines,
        "",
        f"Images and metadata of {samples} generated renders of 720 × 720 pixels (slow ones and the"
        f" cold cache: fewer), start-up included; medians of {len(timed['ours-2']['seconds'])}"
        f" rounds; {machine['cpu']}, {machine['cpus']} CPUs.",
    ]


def markdown(results: Results) -> str:
    data = results["data"]
    size = data["bytes"] / data["samples"] / 1e6
    kind = "generated samples" if data["generated"] else "samples"
    return "\n".join(
        [
            "# Benchmark",
            "",
            "Written by `make bench` or `make bench-full`; not to be edited.",
            "",
            f"{data['samples']} {kind}, {size:.2f} MB each with their cryptomattes; images and"
            " metadata, 224 × 224. All contenders ran in turn, once in each round, each on so"
            " many of the samples as the table says. `limbo-compress` is installed without extras"
            " but where it says [fast].",
            "",
            *_table(results),
            "",
            "Start-up is included, and told by the time of a job of one sample. The cache"
            " is warm but where it says cold. The three libraries call limbo-compress's own"
            " conversion function and write their own formats.",
            "",
            "## Ratios",
            "",
            *_ratios(results),
            "",
            "Of pairs that ran in the same round.",
            "",
            "![samples a second](throughput.svg)",
            "",
            "## CPU time",
            "",
            *_stages(results),
            "",
            "One process, milliseconds a sample, without start-up; medians of three runs in turn."
            " The floors do nothing but what they name.",
            "",
            "![CPU time by stage](stages.svg)",
            "",
            "## Memory, sizes, growth",
            "",
            *_figures(results),
            "",
            "![time against samples](growth.svg)",
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
        "| | samples | samples/s, median | min – max | CPU, ms a sample | start-up, s"
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
            # What ran in the first round only is compared with all rounds of the other.
            mine, others = figures(timed[of]), figures(timed[to])
            others = others if len(others) == len(mine) else [median(others)] * len(mine)
            quotients = [a / b for a, b in zip(mine, others, strict=True)]
            spread = f"{min(quotients):.2f} – {max(quotients):.2f}"
            lines.append(f"| {text} | **{median(quotients):.2f}** | {spread} |")

    add("samples/s of 2 workers, to the reference", "ours-2", "reference", rates)
    add("samples/s of 2 workers with [fast], to the reference", "ours-2-fast", "reference", rates)
    add("samples/s of 2 workers, to 1", "ours-2", "ours-1", rates)
    for name in ("pool", "datasets", "litdata", "streaming"):
        add(f"samples/s of 2 workers, to {label(name)}", "ours-2", name, rates)
    add("samples/s with 5 ms more for each opening, to none", "ours-2-slow", "ours-2", rates)
    add("CPU time of 1 worker, to decoding and parsing alone", "ours-1", "floor-decode-parse", cpu)
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
    return [*lines, f"| all | {' | '.join(totals)} |"]


def _figures(results: Results) -> list[str]:
    alone, pickles = results["coordinator"], results["pickles"]
    return [
        "| figure | |",
        "| --- | --: |",
        *(
            f"| {samples} samples, 2 workers: peak memory of the coordinator, of a worker"
            f" | {seen['coordinator_rss'] / 1e6:.1f} MB, {seen['worker_rss'] / 1e6:.1f} MB |\n"
            f"| {samples} samples, 2 workers: CPU time of the coordinator"
            f" | {seen['coordinator_cpu_ms']:.3f} ms a sample |"
            for samples, seen in results["resources"].items()
        ),
        f"| {alone['samples']:,} samples, 2 workers that do almost nothing: CPU time of the"
        f" coordinator | {alone['cpu_ms']:.3f} ms a sample |",
        *(
            f"| metadata of {who}: size, time of `pickle.load` | {figures['bytes'] / 1e3:.1f} kB,"
            f" {figures['load_ms']:.2f} ms a sample |"
            for who, figures in pickles.items()
        ),
        *(
            f"| {samples} samples, 2 workers | {median(seconds):.2f} s,"
            f" {int(samples) / median(seconds):.1f} samples/s |"
            for samples, seconds in results["growth"].items()
        ),
    ]


def _machine(machine: Results) -> list[str]:
    def versions(of: dict[str, str]) -> str:
        return ", ".join(f"{name} {number}" for name, number in of.items()) or "none"

    return [
        f"- {machine['date']}; load before the start: {machine['load']:.1f}",
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
    """Bars of all contenders beside the command's samples/s against workers."""
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
        if c["seconds"] and not name.startswith("floor")
    }
    middles = [median(rates(c)) for c in timed.values()]
    low = [m - min(rates(c)) for m, c in zip(middles, timed.values(), strict=True)]
    high = [max(rates(c)) - m for m, c in zip(middles, timed.values(), strict=True)]
    colours = [_OURS if name.startswith("ours") else _OTHER for name in timed]
    names = [label(name) for name in timed]
    axes.barh(names, middles, xerr=(low, high), color=colours, ecolor="#333333", capsize=3)
    for row, (middle, above) in enumerate(zip(middles, high, strict=True)):
        axes.annotate(
            f"{middle:.3g}", (middle + above, row), (6, 0), textcoords="offset points", va="center"
        )
    axes.margins(x=0.12)
    axes.invert_yaxis()
    axes.set_xlabel("samples/s with start-up (median, min – max)")


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
    axes.set_ylabel("samples/s with start-up")
    axes.legend(loc="lower right", frameon=False)


def stages(results: Results) -> Figure:
    """Stacked bars of CPU time by stage."""
    figure, axes = _axes(9, 3.2)
    bars = {text: results["stages"][name] for name, text in BARS.items()}
    begun = dict.fromkeys(bars, 0.0)
    colours = plt.get_cmap("tab10")
    for index, (stage, text) in enumerate(STAGES.items()):
        widths = [bar.get(stage, 0.0) for bar in bars.values()]
        if any(widths):
            left = list(begun.values())
            axes.barh(list(bars), widths, left=left, color=colours(index), label=text)
        begun = {name: begun[name] + bar.get(stage, 0.0) for name, bar in bars.items()}
    for row, total in enumerate(begun.values()):
        axes.annotate(f"{total:.1f}", (total, row), (6, 0), textcoords="offset points", va="center")
    axes.margins(x=0.08)
    axes.invert_yaxis()
    axes.set_xlabel("CPU time in one process, ms a sample")
    figure.legend(loc="outside upper center", ncols=4, frameon=False)
    return figure


def growth(results: Results) -> Figure:
    """Time against the number of samples."""
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
