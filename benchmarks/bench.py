"""Time the command against the reference and other tools: ``make bench``, ``make bench-full``.

The contenders take turns in each round, so that whatever slows the machine for a while slows all
of them. The outputs are compared with the reference's; the exit code is 1 if they differ.
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
PLAIN = ROOT / "build" / "envs" / "contenders-plain" / "bin"  # an install without extras
FAST = Path(sys.executable).parent  # one with [fast]
REFERENCE = ROOT / ".venv-reference" / "bin"

TOOLS = ("pool", "datasets", "litdata", "streaming")
FLOOR = "floor-decode-parse"
STAGES_FAST = "stages-fast"
BARS = ("stages", STAGES_FAST, FLOOR, "floor-inflate-parse")
SLOW_OPEN = str(Path(__file__).with_name("slow_open"))
# Seconds that each open of a sample's file takes longer.
SLOW_OPENS = {"ours-2-slow": 0.005, "ours-2-slow-10": 0.01, "ours-2-slow-20": 0.02}
REFERENCE_SAMPLES = 60
# With masks, the reference takes seconds for a sample.
MASKED_SAMPLES = {"reference": 5, "ours": 100}
MASKS = ("--mask", "all", ".")
# How many of the generated samples are distinct: only these can be cold in the cache.
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
# Libraries must not use the network while they are timed. Each worker gets one thread, as the
# command does for itself: with twice as many threads as CPUs, the others would be ten times slower.
OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "LITDATA_DISABLE_VERSION_CHECK": "1",
}
QUIET = ONE_THREAD | OFFLINE


@dataclass
class Contender:
    """A command to time, and its results.

    Attributes
    ----------
    command : list of str
        Runs it on all its samples, in an empty folder.
    samples : int
    one_sample : list of str
        Runs it on one sample, which measures its start-up.
    environment : dict of str to str
        Variables to set.
    cold : bool
        Whether to drop the data from the page cache first.
    rounds : int
        The largest number of rounds.
    start_up : float or None
        Seconds for one sample.
    seconds, cpu_seconds : list of float
        Elapsed time and CPU time of each round.
    bytes : int
        Size of its outputs.
    problem : str
        Why it could not be timed.
    """

    command: list[str]
    samples: int
    one_sample: list[str]
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


def ours(data: Path, workers: int, end: int, install: Path = PLAIN, *more: str) -> list[str]:
    return _command(install, data, end, "--quiet", "--workers", str(workers), *more)


def reference(data: Path, end: int, *more: str) -> list[str]:
    return _command(REFERENCE, data, end, *more)


def _command(install: Path, data: Path, end: int, *more: str) -> list[str]:
    flags = ["--prefix", "out", "--images", "--metadata", "--end", str(end), *more]
    return [str(install / "limbo-compress"), *flags, "--", str(data)]


def python_of(name: str) -> Path:
    """Return the Python of a tool's environment, which ``make contenders`` creates."""
    return ROOT / "build" / "envs" / f"contenders-{name}" / "bin" / "python"


def tool(name: str, data: Path, end: int) -> list[str]:
    install = python_of(name).parent if name in TOOLS else PLAIN
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
        # The hand-written pool takes the reference's CPU time, so it gets fewer samples.
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
    for name, delay in SLOW_OPENS.items():
        result[name] = Contender(
            ours(data, WORKERS, samples),
            samples,
            ours(data, WORKERS, 1),
            environment={"PYTHONPATH": SLOW_OPEN, "SLOW_OPEN_SECONDS": str(delay)},
        )
    return result | masked_contenders(data, samples, full)


def masked_contenders(data: Path, samples: int, full: bool) -> dict[str, Contender]:
    few, more = (min(number, samples) for number in MASKED_SAMPLES.values())
    return {
        "reference-masks": Contender(
            reference(data, few, *MASKS),
            few,
            reference(data, 1, *MASKS),
            rounds=1 << 30 if full else 1,
        ),
        "ours-1-masks": Contender(
            ours(data, 1, more, FAST, *MASKS), more, ours(data, 1, 1, FAST, *MASKS)
        ),
    }


def worker_counts() -> list[int]:
    cpus = psutil.cpu_count() or 1
    return [1, 2, *(2**power for power in range(2, cpus.bit_length()) if 2**power <= cpus)]


def run(command: list[str], environment: dict[str, str] | None = None) -> tuple[float, float]:
    """Run a command in an empty folder; return its elapsed seconds and its CPU seconds."""
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


def warm_cache(data: Path) -> None:
    for path in _files(data):
        path.read_bytes()


def drop_from_cache(data: Path) -> None:
    """Drop the data from the page cache. This needs no root, but clean pages."""
    os.sync()
    for path in _files(data):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def time_once(name: str, contender: Contender, data: Path) -> None:
    """Time a contender once more. One that has failed is reported once and not run again."""
    if contender.problem or len(contender.seconds) == contender.rounds:
        return
    try:
        if contender.start_up is None:
            contender.start_up, _ = run(contender.one_sample, contender.environment)
        if contender.cold:
            drop_from_cache(data)
        seconds, cpu_seconds = run(contender.command, contender.environment)
        if contender.cold:
            warm_cache(data)
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


def write_with(name: str, data: Path, out: Path) -> None:
    """Let a tool write all samples in its own format, if it is installed."""
    unfinished = out.with_suffix(".partial")
    _empty(unfinished)
    command = [str(python_of(name)), SCRIPT, name, str(data), str(unfinished), str(WORKERS)]
    try:
        subprocess.run(command, check=True, capture_output=True, env=os.environ | QUIET)
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        print(f"{name} cannot write its format: {error}", flush=True)
    unfinished.rename(out)


def read_figures(name: str, data: Path, end: int) -> dict[str, float]:
    """Run a contender that prints its figures as JSON."""
    _empty(OUT)
    done = subprocess.run(
        tool(name, data, end), check=True, capture_output=True, text=True, env=os.environ | QUIET
    )
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def stages(data: Path, samples: int) -> dict[str, dict[str, float]]:
    """Return the median CPU time of each stage; the bars take turns."""
    runs = [{name: read_figures(name, data, samples) for name in BARS} for _ in range(3)]
    return {
        name: {stage: median(run[name][stage] for run in runs) for stage in runs[0][name]}
        for name in BARS
    }


def coordinator_alone() -> dict[str, float]:
    """Measure what a sample costs the coordinator, with workers that do almost nothing."""
    empty = BUILD / "empty"
    if not empty.exists():
        unfinished = empty.with_suffix(".partial")
        _empty(unfinished)
        for number in range(EMPTY_SAMPLES):
            folder = unfinished / f"{number // 1000:04d}"
            folder.mkdir(exist_ok=True)
            (folder / f"{number:06d}.json").touch()
        unfinished.rename(empty)
    return read_figures("coordinator", empty, EMPTY_SAMPLES)


def measure_resources(data: Path, samples: int) -> dict[str, float]:
    """Measure memory and CPU of a job's processes; not in a timed run, which this would slow."""
    _empty(OUT)
    seen = {"coordinator_rss": 0.0, "worker_rss": 0.0, "coordinator_cpu_ms": 0.0}
    with subprocess.Popen(ours(data, WORKERS, samples), cwd=OUT) as process:
        root = psutil.Process(process.pid)
        while process.poll() is None:
            with suppress(psutil.NoSuchProcess):
                _record_usage(root, samples, seen)
            time.sleep(0.01)
    return seen


def _record_usage(root: psutil.Process, samples: int, seen: dict[str, float]) -> None:
    memory, used = root.memory_info().rss, root.cpu_times()
    if not memory:  # it has ended, but has not been waited for
        return
    seen["coordinator_rss"] = max(seen["coordinator_rss"], memory)
    seen["coordinator_cpu_ms"] = 1000 * (used.user + used.system) / samples
    # The largest child is a worker.
    others = [child.memory_info().rss for child in root.children(recursive=True)]
    seen["worker_rss"] = max(seen["worker_rss"], *others, 0)


def compare(data: Path, samples: int) -> tuple[bool, dict[str, Any]]:
    """Compare the command's outputs with the reference's, and time loading their metadata."""
    end = min(REFERENCE_SAMPLES, samples)
    run(reference(data, end))
    kept = BUILD / "reference"
    _empty(kept)
    for path in OUT.iterdir():
        shutil.move(path, kept)
    run(ours(data, WORKERS, end))
    names = ("out-images.npy", "out-metadata.pickle")
    compared = [compare_file(OUT / name, kept / name) for name in names]
    parity = {name: line for name, (_, line) in zip(names, compared, strict=True)}
    pickles = {"reference": kept / names[1], "ours": OUT / names[1]}
    return all(holds for holds, _ in compared), {
        "parity": parity,
        "pickles": _time_loading(pickles, end),
    }


def _time_loading(pickles: dict[str, Path], samples: int) -> dict[str, dict[str, float]]:
    """Measure the size of pickles and the time to load them.

    They take turns, each in a process of its own: in one process, garbage collection would mostly
    hit the same one of them.
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
    """Return the versions that matter in the tools' environments."""
    wanted = {
        "pool": ("pillow", "scikit-image", "imagecat"),
        "datasets": ("datasets", "pyarrow"),
        "litdata": ("litdata", "torch"),
        "streaming": ("mosaicml-streaming", "torch"),
    }
    versions = {}
    for name, packages in wanted.items():
        path = [
            str(folder) for folder in python_of(name).parents[1].glob("lib/python*/site-packages")
        ]
        for package in packages:
            for found in distributions(name=package, path=path):
                versions[package] = found.version
    return versions


def generate(samples: int) -> Path:
    """Return the folder of a campaign of renders, generating it if needed."""
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
    """Measure everything; also return whether the outputs match the reference's."""
    available = sum(1 for _ in data.rglob("*.json"))
    samples = min(available, 1000 if full else 200)
    repeats = 5 if full else 3
    results: dict[str, Any] = {"machine": machine()}
    warm_cache(data)
    good, compared = compare(data, samples)
    running = contenders(data, samples, full)
    for turn in range(repeats):
        print(f"round {turn + 1} of {repeats}", flush=True)
        for name, contender in running.items():
            time_once(name, contender, data)
    ends = [end for end in (50, 100, 200, 1000, 3000) if end < available]
    results |= {
        "data": {"samples": available, "bytes": _size(data), "generated": BUILD in data.parents},
        "contenders": {name: contender.result() for name, contender in running.items()},
        "growth": growth(data, [*ends, available], 2),
        "stages": stages(data, samples),
        "resources": {
            str(end): measure_resources(data, end) for end in sorted({samples, available})
        },
        "coordinator": coordinator_alone(),
    }
    return good, results | compared


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", type=Path, help="measure on these samples (default: generated ones)"
    )
    parser.add_argument("--full", action="store_true", help="more samples and rounds")
    arguments = parser.parse_args()
    data = arguments.data or generate(10_000 if arguments.full else 200)
    good, results = measure(data.absolute(), arguments.full)
    published = arguments.full and not arguments.data
    out = ROOT / "docs" / "bench" if published else BUILD / "report"
    report.write(results, out)
    if published:
        report.write_readme(results, ROOT / "README.md")
    print((out / "results.md").read_text())
    if not good:
        print(f"outputs DIFFER from the reference: {results['parity']}", file=sys.stderr)
    broken = [n for n, c in results["contenders"].items() if c["problem"] and n.startswith("ours")]
    if broken:
        print(f"limbo-compress itself fails: {', '.join(broken)}", file=sys.stderr)
    return 0 if good and not broken else 1


if __name__ == "__main__":
    sys.exit(main())
