"""Time the command beside the reference and other tools: ``make bench``, ``make bench-full``.

All contenders run in turn, then all again: what slows the machine for a while slows them all.
What was timed is compared with the reference; the exit code is 1 if it is not the same.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import distributions, version
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from benchmarks import report
from benchmarks.contenders import NOT_INSTALLED
from benchmarks.parity import compare_file
from limbo_compress.imaging import color, png
from limbo_compress.run.launch import ONE_THREAD

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "build" / "bench"
OUT = BUILD / "out"
SCRIPT = str(Path(__file__).with_name("contenders.py"))
CONTENDERS = ROOT / ".venv-contenders"
PLAIN = CONTENDERS / "plain" / "bin"  # an install without extras
FAST = Path(sys.executable).parent  # one with [fast]
REFERENCE = ROOT / ".venv-reference" / "bin"

TOOLS = ("pool", "datasets", "litdata", "streaming")
FLOOR = "floor-decode-parse"
STAGES_FAST = "stages-fast"
BARS = ("stages", STAGES_FAST, FLOOR, "floor-inflate-parse")
SLOW_OPEN = str(Path(__file__).with_name("slow_open"))
REFERENCE_SAMPLES = 60
# Of the generated samples so many are distinct: a cold cache is cold for these.
DISTINCT = 200
EMPTY_SAMPLES = 100_000
_TIME_LOAD = """
import pickle, sys, time
with open(sys.argv[1], "rb") as stream:
    begun = time.perf_counter()
    pickle.load(stream)
print(time.perf_counter() - begun)
"""
WORKERS = 2
# What a library would fetch or report is not what is timed, and a worker is one thread, as the
# command sets it for itself: twice as many threads as CPUs would slow the others tenfold.
QUIET = ONE_THREAD | {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "LITDATA_DISABLE_VERSION_CHECK": "1",
}


@dataclass
class Contender:
    """What is timed, and what came of it.

    Attributes
    ----------
    command : list of str
        What runs it on all its samples, from an empty folder.
    samples : int
    one : list of str
        What runs it on one sample: that is its start-up.
    environment : dict of str to str
        Variables to set.
    cold : bool
        Whether the data is dropped from the page cache first.
    rounds : int
        How many times it runs at most.
    """

    command: list[str]
    samples: int
    one: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    cold: bool = False
    rounds: int = 1 << 30
    start_up: float | None = None
    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    bytes: int = 0
    problem: str = ""

    def result(self) -> dict[str, Any]:
        keys = ("samples", "start_up", "seconds", "cpu_seconds", "bytes", "problem")
        return {key: getattr(self, key) for key in keys}


def ours(data: Path, workers: int, end: int, install: Path = PLAIN) -> list[str]:
    return _command(install, data, end, "--quiet", "--workers", str(workers))


def reference(data: Path, end: int) -> list[str]:
    return _command(REFERENCE, data, end)


def _command(install: Path, data: Path, end: int, *more: str) -> list[str]:
    flags = ["--prefix", "out", "--images", "--metadata", "--end", str(end), *more]
    return [str(install / "limbo-compress"), *flags, "--", str(data)]


def tool(name: str, data: Path, end: int) -> list[str]:
    install = CONTENDERS / name / "bin" if name in TOOLS else PLAIN
    python = (FAST if name == STAGES_FAST else install) / "python"
    return [str(python), SCRIPT, name, str(data), str(OUT), str(WORKERS), str(end)]


def contenders(data: Path, samples: int, full: bool) -> dict[str, Contender]:
    some = min(REFERENCE_SAMPLES, samples)
    result = {
        "reference": Contender(
            reference(data, some), some, reference(data, 1), rounds=1 << 30 if full else 1
        )
    }
    for name in (*TOOLS, FLOOR):
        # What is written by hand takes as long as the reference on both CPUs.
        number = min(DISTINCT, samples) if name == "pool" else samples
        result[name] = Contender(tool(name, data, number), number, tool(name, data, 1))
    for workers in worker_counts():
        result[f"ours-{workers}"] = Contender(
            ours(data, workers, samples), samples, ours(data, workers, 1)
        )
    result["ours-2-fast"] = Contender(
        ours(data, WORKERS, samples, FAST), samples, ours(data, WORKERS, 1, FAST)
    )
    few = min(DISTINCT, samples)
    result["ours-2-cold"] = Contender(
        ours(data, WORKERS, few), few, ours(data, WORKERS, 1), cold=True
    )
    result["ours-2-slow"] = Contender(
        ours(data, WORKERS, samples),
        samples,
        ours(data, WORKERS, 1),
        environment={"PYTHONPATH": SLOW_OPEN},
    )
    return result


def worker_counts() -> list[int]:
    cpus = psutil.cpu_count() or 1
    return [1, 2, *(2**power for power in range(2, cpus.bit_length()) if 2**power <= cpus)]


def run(command: list[str], environment: dict[str, str] | None = None) -> tuple[float, float]:
    """Run a command in an empty folder; return its seconds, and those of all its CPUs."""
    _empty(OUT)
    variables = os.environ | QUIET | (environment or {})
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, cwd=OUT, check=True, capture_output=True, text=True, env=variables)
    seconds, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _files(data: Path) -> Iterator[Path]:
    return (path for path in data.rglob("*") if path.is_file())


def warm(data: Path) -> None:
    for path in _files(data):
        path.read_bytes()


def drop(data: Path) -> None:
    """Drop the data from the page cache, without being root. Files must not be dirty."""
    os.sync()
    for path in _files(data):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def take_turn(name: str, contender: Contender, data: Path) -> None:
    """Time a contender once more; one that fails is reported, and not tried again."""
    if contender.problem or len(contender.seconds) == contender.rounds:
        return
    try:
        if contender.start_up is None:
            contender.start_up, _ = run(contender.one, contender.environment)
        if contender.cold:
            drop(data)
        seconds, cpu_seconds = run(contender.command, contender.environment)
        if contender.cold:
            warm(data)
        contender.seconds.append(seconds)
        contender.cpu_seconds.append(cpu_seconds)
    except FileNotFoundError:
        contender.problem = "not installed"
    except subprocess.CalledProcessError as error:
        contender.problem = _problem(error)
    else:
        contender.bytes = _size(OUT)
        print(f"{name:14} {contender.samples / contender.seconds[-1]:8.1f} samples/s", flush=True)
        return
    print(f"{name:14} {contender.problem}", flush=True)


def _problem(error: subprocess.CalledProcessError) -> str:
    last = (error.stderr or "").strip().splitlines()[-1:] or [f"exit code {error.returncode}"]
    return f"{'not installed' if error.returncode == NOT_INSTALLED else 'fails'}: {last[0]}"


def growth(data: Path, ends: list[int], repeats: int) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {str(end): [] for end in ends}
    for _ in range(repeats):
        for end in ends:
            seconds[str(end)].append(run(ours(data, WORKERS, end))[0])
    return seconds


def figures_of(name: str, data: Path, end: int) -> dict[str, float]:
    """Run a contender that prints figures."""
    _empty(OUT)
    done = subprocess.run(
        tool(name, data, end), check=True, capture_output=True, text=True, env=os.environ | QUIET
    )
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def stages(data: Path, samples: int) -> dict[str, dict[str, float]]:
    """CPU time by stage, of all bars in turn: medians."""
    runs = [{name: figures_of(name, data, samples) for name in BARS} for _ in range(3)]
    return {
        name: {stage: median(run[name][stage] for run in runs) for stage in runs[0][name]}
        for name in BARS
    }


def coordinator_alone() -> dict[str, float]:
    """What the coordinator needs for a sample where the workers do almost nothing."""
    empty = BUILD / "empty"
    if not empty.exists():
        unfinished = empty.with_suffix(".partial")
        _empty(unfinished)
        for number in range(EMPTY_SAMPLES):
            folder = unfinished / f"{number // 1000:04d}"
            folder.mkdir(exist_ok=True)
            (folder / f"{number:06d}.json").touch()
        unfinished.rename(empty)
    return figures_of("coordinator", empty, EMPTY_SAMPLES)


def watch(data: Path, samples: int) -> dict[str, float]:
    """Memory and CPU of the processes of a run that is not timed, for looking slows it."""
    _empty(OUT)
    seen = {"coordinator_rss": 0.0, "worker_rss": 0.0, "coordinator_cpu_ms": 0.0}
    with subprocess.Popen(ours(data, WORKERS, samples), cwd=OUT) as process:
        root = psutil.Process(process.pid)
        while process.poll() is None:
            with suppress(psutil.NoSuchProcess):
                _look(root, samples, seen)
            time.sleep(0.01)
    return seen


def _look(root: psutil.Process, samples: int, seen: dict[str, float]) -> None:
    memory, used = root.memory_info().rss, root.cpu_times()
    if not memory:  # it has ended, and waits to be collected
        return
    seen["coordinator_rss"] = max(seen["coordinator_rss"], memory)
    seen["coordinator_cpu_ms"] = 1000 * (used.user + used.system) / samples
    # The largest of all others is a worker: their fork server has the same libraries and no data.
    others = [child.memory_info().rss for child in root.children(recursive=True)]
    seen["worker_rss"] = max(seen["worker_rss"], *others, 0)


def compare(data: Path, samples: int) -> tuple[bool, dict[str, Any]]:
    """Hold the command's outputs against the reference's, and time loading their metadata."""
    end = min(REFERENCE_SAMPLES, samples)
    run(reference(data, end))
    kept = BUILD / "reference"
    _empty(kept)
    for path in OUT.iterdir():
        shutil.move(path, kept)
    run(ours(data, WORKERS, end))
    names = ("out-images.npy", "out-metadata.pickle")
    said = [compare_file(OUT / name, kept / name) for name in names]
    parity = {name: line for name, (_, line) in zip(names, said, strict=True)}
    pickles = {"reference": kept / names[1], "ours": OUT / names[1]}
    return all(holds for holds, _ in said), {"parity": parity, "pickles": _load(pickles, end)}


def _load(pickles: dict[str, Path], samples: int) -> dict[str, dict[str, float]]:
    """Size of pickles and the time to load them, in turn, each in a process of its own.

    In one process it is mostly the same pickle that collections of garbage fall to.
    """
    seconds: dict[str, list[float]] = {who: [] for who in pickles}
    for _ in range(7):
        for who, path in pickles.items():
            command = [sys.executable, "-c", _TIME_LOAD, str(path)]
            seconds[who].append(float(subprocess.check_output(command)))
    return {
        who: {
            "bytes": path.stat().st_size / samples,
            "load_ms": 1000 * median(seconds[who]) / samples,
        }
        for who, path in pickles.items()
    }


def machine() -> dict[str, Any]:
    return {
        "cpu": _cpu_model(),
        "cpus": psutil.cpu_count(),
        "memory": psutil.virtual_memory().total,
        "system": platform.platform(),
        "load": os.getloadavg()[0],
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "python": platform.python_version(),
        "compiled": color.compiled is not None and png.compiled is not None,
        "libraries": {
            name: version(name)
            for name in ("limbo-compress", "numpy", "opencv-python-headless", "orjson", "isal")
        },
        "contenders": _contender_versions(),
    }


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _contender_versions() -> dict[str, str]:
    """What the tools' environments have installed, as far as it is of interest."""
    wanted = {
        "pool": ("pillow", "scikit-image", "imagecat"),
        "datasets": ("datasets", "pyarrow"),
        "litdata": ("litdata", "torch"),
        "streaming": ("mosaicml-streaming", "torch"),
    }
    versions = {}
    for name, packages in wanted.items():
        path = [str(folder) for folder in (CONTENDERS / name).glob("lib/python*/site-packages")]
        for package in packages:
            for found in distributions(name=package, path=path):
                versions[package] = found.version
    return versions


def generated(samples: int) -> Path:
    """A campaign of renders."""
    folder = BUILD / f"campaign-{samples}"
    if not folder.exists():
        unfinished = folder.with_suffix(".partial")
        _empty(unfinished)
        print(f"generating {samples} samples in {folder.relative_to(ROOT)}", flush=True)
        command = [sys.executable, "-m", "benchmarks.campaign", str(unfinished)]
        command += ["--photographs", "0", "--samples", str(samples), "--distinct", str(DISTINCT)]
        subprocess.run(command, cwd=ROOT, check=True)
        unfinished.rename(folder)
    return folder


def measure(data: Path, full: bool) -> tuple[bool, dict[str, Any]]:
    """Measure all there is; also tell whether the outputs are the reference's."""
    available = sum(1 for _ in data.rglob("*.json"))
    samples = min(available, 1000 if full else 200)
    repeats = 5 if full else 3
    results: dict[str, Any] = {"machine": machine()}
    warm(data)
    good, compared = compare(data, samples)
    running = contenders(data, samples, full)
    for turn in range(repeats):
        print(f"round {turn + 1} of {repeats}", flush=True)
        for name, contender in running.items():
            take_turn(name, contender, data)
    ends = [end for end in (50, 100, 200, 1000, 3000) if end < available]
    results |= {
        "data": {"samples": available, "bytes": _size(data), "generated": BUILD in data.parents},
        "contenders": {name: contender.result() for name, contender in running.items()},
        "growth": growth(data, [*ends, available], 2),
        "stages": stages(data, samples),
        "resources": {str(end): watch(data, end) for end in sorted({samples, available})},
        "coordinator": coordinator_alone(),
    }
    return good, results | compared


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="measure on these samples; default: generated")
    parser.add_argument("--full", action="store_true", help="1000 samples, 5 times, and 10 000")
    arguments = parser.parse_args()
    data = arguments.data or generated(10_000 if arguments.full else 200)
    good, results = measure(data.absolute(), arguments.full)
    published = arguments.full and not arguments.data
    out = ROOT / "docs" / "bench" if published else BUILD / "report"
    report.write(results, out)
    if published:
        report.write_readme(results, ROOT / "README.md")
    print((out / "results.md").read_text())
    if not good:
        print(f"NOT THE SAME as the reference: {results['parity']}", file=sys.stderr)
    broken = [n for n, c in results["contenders"].items() if c["problem"] and n.startswith("ours")]
    if broken:
        print(f"the command itself fails: {', '.join(broken)}", file=sys.stderr)
    return 0 if good and not broken else 1


if __name__ == "__main__":
    sys.exit(main())
