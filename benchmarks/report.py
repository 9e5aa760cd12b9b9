"""Measured figures to results.json, results.md and plots."""

from __future__ import annotations

import json
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
}
STAGES = {
    "read": "read",
    "parse": "parse JSON",
    "inflate": "inflate",
    "decode": "decode image",
    "convert": "colour, resample, write row",
    "pickle": "pickle",
    "rest": "all else, with start-up",
}
_OURS, _OTHER = "#1b6ca8", "#b0b7bf"


def label(name: str) -> str:
    if name in LABELS:
        return LABELS[name]
    workers = name.removeprefix("ours-")
    return f"limbo-compress, {workers} worker{'s' if workers != '1' else ''}"


def rates(contender: Results) -> list[float]:
    return [contender["samples"] / seconds for seconds in contender["seconds"]]


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
            " metadata, 224 × 224. All contenders ran in turn, once in each round.",
            "",
            *_table(results),
            "",
            "Ratios are of medians, start-up included. The start-up is the time of a job of one"
            " sample. The cache is warm but where it says cold. The last three tools"
            " that are not ours call limbo-compress's own conversion function and write their own"
            " formats.",
            "",
            "![samples a second](throughput.svg)",
            "",
            "## CPU time",
            "",
            *_stages(results),
            "",
            "One process, milliseconds a sample. The floors do nothing but what they name.",
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
        "| | samples | samples/s, median | min – max | ratio | start-up, s"
        " | samples/s without start-up | MB written |",
        "| --- | --: | --: | --: | --: | --: | --: | --: |",
    ]
    baseline = results["contenders"]["reference"]
    for name, contender in results["contenders"].items():
        if contender["problem"]:
            lines.append(f"| {label(name)} | {contender['problem']} | | | | | | |")
            continue
        measured = rates(contender)
        cells = [
            label(name),
            f"{contender['samples']}",
            f"**{median(measured):.1f}**",
            f"{min(measured):.1f} – {max(measured):.1f}",
            _ratio(median(measured), baseline),
            f"{contender['start_up']:.2f}",
            _steady(contender),
            f"{contender['bytes'] / 1e6:.1f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _ratio(rate: float, baseline: Results) -> str:
    return f"{rate / median(rates(baseline)):.1f}" if baseline["seconds"] else "–"


def _steady(contender: Results) -> str:
    """Samples a second after the start-up, where there is enough after it to tell."""
    seconds = median(contender["seconds"]) - contender["start_up"]
    if seconds < 0.1 * contender["start_up"]:
        return "–"
    return f"{(contender['samples'] - 1) / seconds:.1f}"


def _bars(results: Results) -> dict[str, dict[str, float]]:
    """CPU milliseconds by stage, of the command and of the floors."""
    own = results["stages"]
    rest = results["whole_cpu_ms"] - sum(own.values())
    # Two runs are subtracted: where the rest is small, noise can take it below nothing.
    bars = {"limbo-compress": own | {"rest": max(rest, 0.0)}}
    return bars | {name.replace("floor-", "floor: "): f for name, f in results["floors"].items()}


def _stages(results: Results) -> list[str]:
    bars = _bars(results)
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
    seen, pickles = results["resources"], results["pickles"]
    return [
        "| figure | |",
        "| --- | --: |",
        f"| peak memory of the coordinator, 2 workers | {seen['coordinator_rss'] / 1e6:.0f} MB |",
        f"| peak memory of a worker | {seen['worker_rss'] / 1e6:.0f} MB |",
        f"| CPU of the coordinator | {seen['coordinator_cpu_ms']:.2f} ms a sample |",
        *(
            f"| metadata of {who}: size, time of `pickle.load` | {figures['bytes'] / 1e3:.1f} kB,"
            f" {figures['load_ms']:.2f} ms a sample |"
            for who, figures in pickles.items()
        ),
        *(
            f"| {samples} samples, 2 workers | {median(seconds):.2f} s |"
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
    timed = {name: c for name, c in results["contenders"].items() if c["seconds"]}
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
    bars = _bars(results)
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
