"""Compare with recorded outputs of the reference (tests/reference/record.py)."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from benchmarks.parity import ulps
from limbo_compress import compress
from tests.jobs import job

REFERENCE = Path(__file__).parent / "reference"
SAMPLES = REFERENCE / "samples"
RECORDED = np.load(REFERENCE / "images.npz")


@pytest.mark.parametrize("size", sorted(RECORDED))
def test_images_match_the_reference(tmp_path: Path, size: str) -> None:
    width, height = map(int, size.split("x"))
    compress(job(SAMPLES, tmp_path, image_size=(width, height)))
    ours = np.load(tmp_path / "out-images.npy")
    assert ours.shape == (12, height, width, 3)
    apart = ulps(ours, RECORDED[size])
    assert apart.max() <= 1
    assert (apart == 0).mean() >= 0.999


def test_metadata_matches_the_reference(tmp_path: Path) -> None:
    compress(job(SAMPLES, tmp_path))
    ours = pickle.loads((tmp_path / "out-metadata.pickle").read_bytes())
    expected = pickle.loads((REFERENCE / "metadata.pickle").read_bytes())
    assert ours == expected
    assert repr(ours) == repr(expected)  # the order of keys, and 1 or 1.0


def test_stripped_metadata_matches_the_reference(tmp_path: Path) -> None:
    compress(job(SAMPLES, tmp_path, strip_regions=True))
    ours = pickle.loads((tmp_path / "out-metadata.pickle").read_bytes())
    expected = pickle.loads((REFERENCE / "stripped.pickle").read_bytes())
    assert len(ours) == len(expected) == 12
    for sample, reference in zip(ours, expected, strict=True):
        assert sample | {"annotations": []} == reference | {"annotations": []}
        assert list(sample) == list(reference)
        # The reference's order is that of a set; ours is that of the file.
        categories = [annotation["category"] for annotation in sample["annotations"]]
        assert categories == ["30B", None, sample["image"]["filename"]]
        assert {a["category"] for a in reference["annotations"]} == set(categories)
