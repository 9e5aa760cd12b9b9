"""The generator of the campaigns that the demo, the tests and the benchmarks use."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import OpenEXR

from benchmarks.campaign import Campaign, write_campaign
from tests.jobs import files


def test_the_same_seed_gives_the_same_campaign(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_campaign(tmp_path / name, Campaign(4, photographs=2, size=(64, 48), seed=seed))
    assert files(tmp_path / "a") == files(tmp_path / "b") != files(tmp_path / "c")


def test_renders_have_the_sizes_and_fields_of_real_ones(tmp_path: Path) -> None:
    write_campaign(tmp_path, Campaign(samples=6, photographs=0))
    for path in sorted(tmp_path.rglob("*.json")):
        assert 100_000 < path.stat().st_size < 950_000
        metadata = json.loads(path.read_text())
        assert metadata["image"]["res"] == [720, 720]
        assert {"bbox", "contours"} < {key for a in metadata["annotations"] for key in a}
        assert "parameters" in metadata["synthetic"]
        image = path.with_name(metadata["image"]["filename"])
        assert 450_000 < image.stat().st_size < 1_150_000


def test_repeated_samples_have_files_of_their_own(tmp_path: Path) -> None:
    write_campaign(tmp_path, Campaign(samples=7, distinct=2, photographs=2, size=(64, 48)))
    paths = sorted(tmp_path.rglob("*.json"))
    assert len(paths) == 7
    names = [json.loads(path.read_text())["image"]["filename"] for path in paths]
    assert len(set(names)) == 7
    assert all(path.with_name(name).exists() for path, name in zip(paths, names, strict=True))


def test_ranks_are_ordered_as_by_renderers(tmp_path: Path) -> None:
    write_campaign(tmp_path, Campaign(1, photographs=0, size=(50, 40), instances=40))
    (path,) = tmp_path.rglob("*.exr")
    with OpenEXR.File(str(path), separate_channels=True) as file:
        channels = file.channels()
        coverage = np.stack(
            [
                channels[f"CryptoMaterial{layer:02d}.{letter}"].pixels
                for layer in range(6)
                for letter in "GA"
            ]
        )
    assert coverage.shape == (12, 40, 50)
    assert (np.diff(coverage, axis=0) <= 0).all()
    np.testing.assert_allclose(coverage.sum(axis=0), 1, atol=1e-3)
    assert ((coverage > 0) & (coverage < 1)).any(axis=0).mean() > 0.1
