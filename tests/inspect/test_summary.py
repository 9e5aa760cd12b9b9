"""The summary, compared with what is computed here from the files themselves."""

from __future__ import annotations

import json
import os
import pickle
import re
import sys
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from limbo_compress import Summary, choose_rows, compress, load, summarize
from limbo_compress.inspect.pixels import duplicates
from tests.inspect.sets import write_set
from tests.jobs import REAL_SAMPLES, Command, job, run


def summary_of(*prefixes: Path, **chosen: Any) -> Summary:
    return summarize(choose_rows(load(prefixes), **chosen))


@pytest.fixture(scope="module")
def summary(prefix: Path) -> Summary:
    return summary_of(prefix)


@pytest.fixture(scope="module")
def samples(prefix: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pickle.loads(Path(f"{prefix}-metadata.pickle").read_bytes())
    return found


def test_files(summary: Summary, prefix: Path) -> None:
    assert [(file.kind, file.shape, file.dtype) for file in summary.files] == [
        ("images", (12, 24, 32, 3), "float16"),
        ("masks-all", (12, 24, 32, 1), "float32"),
        ("masks-big", (12, 24, 32, 1), "float32"),
        ("metadata", (12,), "dict"),
    ]
    assert [file.bytes for file in summary.files] == [
        os.path.getsize(file.path) for file in summary.files
    ]
    assert (summary.total, summary.rows, summary.has_metadata, summary.has_paths) == (
        *(12, 12, True, True),
    )
    assert summary.damaged == {}


def test_categories(summary: Summary, samples: list[dict[str, Any]]) -> None:
    counts: dict[str, Counter[str]] = {}
    together: Counter[tuple[str, str]] = Counter()
    for sample in samples:
        distinct = {json.dumps(each): each for each in sample["annotations"]}.values()
        for each in distinct:
            count = counts.setdefault(each["category"], Counter())
            count["annotations"] += 1
            count["boxes"] += "bbox" in each
            count["contours"] += "contours" in each
        names = sorted({each["category"] for each in distinct})
        for name in names:
            counts[name]["samples"] += 1
        together.update(combinations(names, 2))
    found = {name: Counter(each._asdict()) for name, each in summary.categories.items()}
    assert found == counts
    assert list(found) == sorted(found)
    assert {(first, second): rows for first, second, rows in summary.together} == together
    total = sum(len(sample["annotations"]) for sample in samples)
    assert summary.repeated == total - sum(count["annotations"] for count in counts.values())


def test_parts(summary: Summary, samples: list[dict[str, Any]], campaign: Path) -> None:
    assert summary.campaigns == Counter(str(path.parent) for path in campaign.rglob("*.json"))
    renders = sum("synthetic" in sample for sample in samples)
    assert 0 < renders < 12

    def having(key: str) -> int:
        return sum(any(key in each for each in sample["annotations"]) for sample in samples)

    assert summary.parts == {
        "image": 12,
        "synthetic": renders,
        "cryptomatte": sum("cryptomatte" in sample.get("synthetic", {}) for sample in samples),
        "provenance": 12 - renders,
        "boxes": having("bbox"),
        "empty boxes": sum(
            any(0 in each.get("bbox", [])[2:] for each in sample["annotations"])
            for sample in samples
        ),
        "contours": having("contours"),
        "tags": 12,
    }
    provenances = [sample["provenance"] for sample in samples if "provenance" in sample]
    assert summary.licenses == Counter(each["license"] for each in provenances)
    assert summary.copyrights == Counter(each.get("copyright", "") for each in provenances)
    sizes = Counter(tuple(np.ravel(sample["image"]["res"]).tolist()) for sample in samples)
    assert {(width, height): rows for width, height, rows in summary.sizes} == sizes


def test_pixels(summary: Summary, prefix: Path) -> None:
    light = np.load(f"{prefix}-images.npy").astype(np.float64)
    srgb = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    channels = summary.channels
    assert channels is not None
    np.testing.assert_allclose(channels.linear_mean, light.mean(axis=(0, 1, 2)), rtol=1e-9)
    np.testing.assert_allclose(channels.linear_std, light.std(axis=(0, 1, 2)), rtol=1e-9)
    np.testing.assert_allclose(channels.srgb_mean, srgb.mean(axis=(0, 1, 2)), atol=1e-4)
    np.testing.assert_allclose(channels.srgb_std, srgb.std(axis=(0, 1, 2)), atol=1e-4)
    assert [sum(curve) for curve in channels.histogram] == [12 * 24 * 32] * 3
    for name in ("all", "big"):
        masks = np.load(f"{prefix}-masks-{name}.npy")
        assert summary.masks[name] == np.count_nonzero(masks.any(axis=(1, 2, 3)))
        assert summary.unknown_masks[name] == 12 - summary.parts["cryptomatte"] > 0
    assert summary.odd == {"black": [], "constant": [], "not finite": []}
    assert summary.duplicates == []


def test_odd_rows(tmp_path: Path) -> None:
    images = np.random.default_rng(0).random((40, 5, 4, 3))
    images[3] = 0
    images[4, ...] = -0.0
    images[7] = [0.25, 0.5, 1]
    images[8, 2, 2, 1] = np.nan
    images[9, 0, 0, 0] = -np.inf
    images[[30, 12, 35]] = images[11]
    images[20] = images[2]
    summary = summary_of(write_set(tmp_path / "x", images))
    assert summary.odd == {"black": [3, 4], "constant": [7], "not finite": [8, 9]}
    assert summary.duplicates == [[2, 20], [11, 12, 30, 35]]
    assert summary.channels is not None
    finite = np.where(np.isfinite(images), images, np.nan).astype(np.float16).astype(np.float64)
    np.testing.assert_allclose(summary.channels.linear_mean, np.nanmean(finite, axis=(0, 1, 2)))
    chosen = summary_of(tmp_path / "x", rows="4:12")
    assert chosen.odd == {"black": [4], "constant": [7], "not finite": [8, 9]}
    assert (chosen.total, chosen.rows, chosen.duplicates) == (40, 8, [])


def test_no_finite_value_has_no_mean(tmp_path: Path) -> None:
    summary = summary_of(write_set(tmp_path / "x", np.full((2, 3, 4, 3), np.nan)))
    assert summary.channels is None
    assert summary.odd["not finite"] == [0, 1]


def test_many_rows_are_counted_in_several_processes(tmp_path: Path) -> None:
    images = np.random.default_rng(1).random((700, 6, 5, 3)).astype(np.float16)
    images[650] = images[20]
    summary = summary_of(write_set(tmp_path / "x", images))
    assert summary.duplicates == [[20, 650]]
    assert summary.channels is not None
    exact = images.astype(np.float64).mean(axis=(0, 1, 2))
    np.testing.assert_allclose(summary.channels.linear_mean, exact)


def test_duplicates_of_nothing() -> None:
    assert duplicates(np.array([], np.uint64)) == []


@pytest.mark.parametrize(
    "what",
    [{"images": False}, {"metadata": False}, {"strip_regions": True}, {"masks": (("m", "."),)}],
)
def test_what_is_missing_is_left_out(
    campaign: Path, tmp_path: Path, inspect: Command, what: dict[str, Any]
) -> None:
    compress(job(campaign, tmp_path, **what))
    summary = summary_of(tmp_path / "out")
    assert (summary.channels is None) == (what.get("images") is False)
    assert summary.has_metadata == what.get("metadata", True)
    done = inspect("out")
    assert (done.returncode, done.stderr) == (0, "")


def test_masks_alone(campaign: Path, tmp_path: Path, inspect: Command) -> None:
    compress(job(campaign, tmp_path, images=False, metadata=False, masks=(("m", "."),)))
    summary = summary_of(tmp_path / "out")
    assert [file.kind for file in summary.files] == ["masks-m"]
    assert 0 < summary.masks["m"] < 12
    assert summary.unknown_masks["m"] == 12 - summary.masks["m"]  # nothing says that they are empty
    assert "mask m" in inspect("out").stdout


def test_metadata_without_an_index(prefix: Path, tmp_path: Path, inspect: Command) -> None:
    samples = pickle.loads(Path(f"{prefix}-metadata.pickle").read_bytes())
    (tmp_path / "old-metadata.pickle").write_bytes(pickle.dumps(samples, 4))
    old, new = summary_of(tmp_path / "old"), summary_of(prefix)
    assert (old.categories, old.together, old.parts) == (new.categories, new.together, new.parts)
    assert (old.has_paths, old.campaigns) == (False, {})
    assert "no index" in inspect("old").stdout


def test_several_prefixes_count_together(prefix: Path, summary: Summary) -> None:
    both = summary_of(prefix, prefix)
    assert len(both.files) == 2 * len(summary.files)
    assert (both.total, both.rows) == (24, 24)
    assert both.parts == {part: 2 * count for part, count in summary.parts.items()}
    assert both.duplicates == [[row, row + 12] for row in range(12)]


@pytest.mark.skipif(not REAL_SAMPLES.exists(), reason="the real samples are not here")
def test_annotations_of_the_real_samples_count_once(tmp_path: Path) -> None:
    compress(job(REAL_SAMPLES, tmp_path))
    summary = summary_of(tmp_path / "out")
    # Their files repeat each contour and box three or four times.
    assert summary.categories["30B"] == (3, 5, 3, 2)
    assert summary.repeated > 0
    assert list(summary.copyrights) == ["Katy Laffan / IAEA, 2019"]


def test_the_screen(prefix: Path, inspect: Command) -> None:
    done = inspect(prefix)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert len(lines) <= 65
    for line in lines:  # but that with the command
        assert len(line) <= (200 if "made by" in line else 100) + len(str(prefix))
    for part in ("(12, 24, 32, 3)", "checksums of the metadata hold", "CC0", "synthetic", "sRGB"):
        assert part in done.stdout


def test_unknown_masks_are_not_empty_ones(prefix: Path, inspect: Command) -> None:
    known = ["cryptomatte" in sample.get("synthetic", {}) for sample in load(prefix).metadata or []]
    covers = np.load(f"{prefix}-masks-big.npy").any(axis=(1, 2, 3))
    empty = np.count_nonzero(known) - np.count_nonzero(covers)
    counts = np.count_nonzero(covers), empty, known.count(False)
    assert known.count(False) > 0
    done = inspect(prefix)
    assert re.findall(r"mask big +(\d+) +(\d+) +(\d+)\n", done.stdout) == [tuple(map(str, counts))]
    assert "a mask is all zeros and says nothing" in done.stdout
    chosen = inspect(prefix, "--where", "48", "--where", "synthetic")
    assert "unknown where" not in chosen.stdout


def test_json_is_the_same_for_machines(prefix: Path, summary: Summary, inspect: Command) -> None:
    done = inspect(prefix, "--json", "--rows", ":")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)["summary"]
    assert found == json.loads(json.dumps(summary.as_json()))


PEAK = """
import re, sys
from pathlib import Path
from limbo_compress import load, summarize
summarize(load(sys.argv[1:]))
print(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="this reads /proc")
def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    peaks = []
    for rows in (256, 4096):
        shape = (rows, 128, 128, 3)
        images = np.lib.format.open_memmap(
            tmp_path / f"x{rows}-images.npy", "w+", np.float16, shape
        )
        images[:] = np.linspace(0, 1, 128, dtype=np.float16)[:, None]
        del images
        env = {"SLURM_CPUS_PER_TASK": "1"}  # so that it starts no workers
        done = run(sys.executable, "-c", PEAK, tmp_path / f"x{rows}", env=env, check=True)
        peaks.append(int(done.stdout) / 1000)
    assert peaks[1] - peaks[0] < 40, peaks  # the files have 25 MB and 400 MB
