"""The second profile: each of its irregularities is there, and jobs get over them."""

from __future__ import annotations

import json
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from benchmarks.mixed import MixedCampaign, write_mixed
from limbo_compress import SampleError, compress, load
from tests.jobs import files, job, run

SIZE = (64, 48)
Sample = dict[str, Any]


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Samples with an image, then a few without; read-only."""
    folder = tmp_path_factory.mktemp("mixed")
    write_mixed(folder, MixedCampaign(samples=48, imageless=3, size=SIZE))
    return folder


@pytest.fixture(scope="module")
def samples(mixed: Path) -> dict[Path, Sample]:
    return {path: json.loads(path.read_text()) for path in sorted(mixed.rglob("*.json"))}


def picture(path: Path) -> np.ndarray[Any, Any]:
    return np.asarray(cv2.imread(str(path.with_suffix(".png"))), np.float64)


def values(sample: Sample, key: str) -> list[Any]:
    return [each[key] for each in sample.get("annotations", []) if key in each]


def test_the_same_seed_gives_the_same_files(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_mixed(tmp_path / name, MixedCampaign(12, imageless=1, size=SIZE, seed=seed))
    assert files(tmp_path / "a") == files(tmp_path / "b") != files(tmp_path / "c")


def test_names_drift(samples: dict[Path, Sample]) -> None:
    names = {name for sample in samples.values() for name in values(sample, "category")}
    assert names > {"30", "30B", "30Boverpack", "48", "48Y", "background", "real", "barrel/55G"}
    assert any(name.startswith("barrel/55G/") for name in names)
    labels = {
        label
        for sample in samples.values()
        for label in sample.get("synthetic", {}).get("cryptomatte", {}).get("manifest", ())
    }
    assert labels > {"30/0", "30B/0", "48/0", "barrel/55G/2"}
    # Not each sample whose categories match ^30B shows a 30B.
    overpacks = [s for s in samples.values() if "30Boverpack" in values(s, "category")]
    assert overpacks
    assert not any("30B" in values(sample, "category") for sample in overpacks)


def test_each_background_is_the_backdrop_of_the_image_beside_it(mixed: Path) -> None:
    folder = mixed / "campaign05" / "0000"
    backgrounds = sorted(folder.glob("background_*.json"))
    assert len(backgrounds) == 4
    for path in backgrounds:
        metadata = json.loads(path.read_text())
        assert "cryptomatte" not in metadata["synthetic"]
        image = path.with_name(path.name.replace("background", "image"))
        # A container hides a part of it; the grain is another.
        assert np.median(np.abs(picture(path) - picture(image))) < 5
    first, second, _, fourth = map(picture, backgrounds)
    assert np.median(np.abs(first - fourth)) < 5 < np.median(np.abs(first - second))


def test_annotations_and_sizes_have_every_form(samples: dict[Path, Sample]) -> None:
    found = samples.values()
    modes = {key for s in found for each in s.get("annotations", []) for key in each}
    assert modes >= {"contour_mode", "contours_mode"}
    repeated = [max(Counter(map(repr, values(s, "contours"))).values(), default=0) for s in found]
    assert max(repeated) == 4
    sizes = [sample["image"]["res"] for sample in found if "image" in sample]
    assert {np.ndim(size) for size in sizes} == {1, 2}
    parameters = {frozenset(s["synthetic"]["parameters"]) for s in found if "synthetic" in s}
    assert len(parameters) >= 6


def test_boxes_are_empty_thin_negative_and_outside(samples: dict[Path, Sample]) -> None:
    found = [box for sample in samples.values() for box in values(sample, "bbox")]
    assert any(width == height == 0 for _, _, width, height in found)
    assert any(0 < width < 0.1 for _, _, width, _ in found)
    assert any(x < 0 < x + width for x, _, width, _ in found)
    assert any(x > SIZE[0] or x + width < 0 for x, _, width, _ in found)
    contours = [p for s in samples.values() for lines in values(s, "contours") for p in lines]
    assert min(np.min(points) for points in contours) < 0


def test_neighbors_are_near_copies(mixed: Path) -> None:
    for campaign in ("campaign15", "campaign20"):
        pictures = [picture(path) for path in sorted((mixed / campaign).rglob("*.json"))]
        for first, second in pairwise(pictures):
            assert 0 < np.abs(first - second).mean() < 10


def test_photographs_keep_their_licenses(mixed: Path, samples: dict[Path, Sample]) -> None:
    photographs = [sample for path, sample in samples.items() if mixed / "ref" in path.parents]
    assert len(photographs) == 12
    assert len({tuple(sample["image"]["res"]) for sample in photographs}) > 9
    assert not any("synthetic" in sample for sample in photographs)
    assert len({sample.get("provenance", {}).get("license") for sample in photographs}) == 4
    assert {bool(values(sample, "bbox")) for sample in photographs} == {True, False}
    assert any("annotations" not in sample for sample in photographs)


def test_samples_without_an_image_are_apart(mixed: Path, tmp_path: Path) -> None:
    """Jobs with images skip them, and jobs without images read them like others."""
    with pytest.raises(SampleError, match=r"campaign11/.* has no image\.filename"):
        compress(job(mixed, tmp_path))
    report = compress(job(mixed, tmp_path, on_error="skip"))
    assert (report.samples, len(report.failures)) == (48, 3)
    change = {"images": False, "masks": (("all", "."),), "prefix": str(tmp_path / "all")}
    assert compress(job(mixed, tmp_path, **change)).samples == 51
    dataset = load(tmp_path / "all")
    rows = [row for row, path in enumerate(dataset.paths) if "/campaign11/" in path]
    assert [bool(np.any(dataset.masks["all"][row])) for row in rows] == [True, False, False]
    assert [sorted(dataset.categories[row]) for row in rows] == [
        ["30B", "48G", "synthetic"],
        ["48G"],
        [],
    ]


def test_options_of_the_other_profile_are_refused(tmp_path: Path) -> None:
    command = (sys.executable, "-m", "benchmarks.campaign", tmp_path / "x", "--samples", "1")
    for arguments in (("--profile", "mixed", "--distinct", "1"), ("--imageless", "1")):
        done = run(*command, *arguments)
        assert done.returncode == 2
        assert "does not belong to the profile" in done.stderr
    assert not (tmp_path / "x").exists()
