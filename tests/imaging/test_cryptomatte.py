from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import OpenEXR
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from benchmarks.campaign import Campaign, Scene, write_campaign, write_cryptomatte
from limbo_compress import Options, SampleError, UsageError, compress
from limbo_compress.imaging.cryptomatte import label_id, mattes, read_cryptomatte, resize_matte
from tests.jobs import Command

SIZE = (50, 40)


def scene(instances: int = 9, seed: int = 3) -> Scene:
    return Scene.random(np.random.default_rng(seed), SIZE, instances)


def read_all(path: Path, labels: list[str], *patterns: str) -> list[NDArray[np.float64]]:
    cryptomatte = read_cryptomatte(path.read_bytes(), str(path), 10**6)
    return list(mattes(cryptomatte, labels, patterns, str(path)))


def expected(scene: Scene, pattern: str) -> NDArray[np.float32]:
    """The mask by construction: what the scene covered where it was drawn."""
    return sum(
        (matte for instance, matte, _ in scene.mattes() if instance.category.startswith(pattern)),
        np.zeros(SIZE[::-1], np.float32),
    )


def labels(scene: Scene) -> list[str]:
    return [instance.label for instance in scene.instances]


def test_ids_are_those_of_real_files() -> None:
    """From the manifest of a real cryptomatte, where they are written in hexadecimal."""
    known = {"30B/0": "21e5352c", "/mat/30B": "47813fc0", "/mat/MatteShadow1": "2ce77444"}
    for label, bits in known.items():
        assert np.float32(label_id(label)).view(np.uint32) == int(bits, 16)


@given(st.text())
def test_ids_are_normal_numbers(label: str) -> None:
    assert np.float32(label_id(label)) == label_id(label)
    assert np.isfinite(label_id(label))
    assert abs(label_id(label)) >= np.finfo(np.float32).tiny


@pytest.mark.parametrize(
    "letters", ["RGBA", "rgba", ("red", "green", "blue", "alpha"), ("Red", "GREEN", "b", "A")]
)
@pytest.mark.parametrize("coverage", [np.float32, np.float16])
@pytest.mark.parametrize("tiled", [False, True])
def test_mattes_are_those_that_were_drawn(
    tmp_path: Path, letters: Any, coverage: type, tiled: bool
) -> None:
    drawn = scene()
    header: dict[str, Any] = {}
    if tiled:
        tiles = OpenEXR.TileDescription()
        tiles.xSize, tiles.ySize = 16, 16
        header = {"type": OpenEXR.tiledimage, "tiles": tiles}
    ids, covers = drawn.ranks()
    path = tmp_path / "x.exr"
    write_cryptomatte(path, ids, covers.astype(coverage), letters, header)
    found = read_all(path, labels(drawn), ".", "^48", "^30B", "nothing")
    tolerance = 1e-5 if coverage is np.float32 else 2e-3
    for matte, prefix in zip(found, ("", "48", "30B"), strict=False):
        np.testing.assert_allclose(matte, expected(drawn, prefix), atol=tolerance)
    assert found[0].max() == pytest.approx(1, abs=tolerance)
    assert not found[3].any()


@settings(max_examples=20)
@given(st.integers(1, 11), st.integers(0, 10**6))
def test_labels_add_up(instances: int, seed: int) -> None:
    drawn = scene(instances, seed)
    names = labels(drawn)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.exr"
        write_cryptomatte(path, *drawn.ranks())
        whole, *single = read_all(path, names, ".", *(f"^{name}$" for name in names))
    np.testing.assert_allclose(whole, sum(single), atol=1e-6)


def test_a_label_that_the_file_does_not_have_is_zero(tmp_path: Path) -> None:
    write_cryptomatte(tmp_path / "x.exr", *scene().ranks())
    assert not read_all(tmp_path / "x.exr", ["elsewhere/7"], ".")[0].any()
    assert not read_all(tmp_path / "x.exr", [], ".")[0].any()


@pytest.mark.parametrize("corner", [(0, 0), (7, 5), (-6, -4)])
def test_a_data_window_is_brought_to_the_image(tmp_path: Path, corner: tuple[int, int]) -> None:
    drawn = scene()
    x, y = corner
    window = (np.array([-x, -y], np.int32), np.array([SIZE[0] - 1, SIZE[1] - 1], np.int32))
    data = (np.array([0, 0], np.int32), np.array([SIZE[0] - 1, SIZE[1] - 1], np.int32))
    ids, covers = drawn.ranks()
    write_cryptomatte(
        tmp_path / "x.exr", ids, covers, "RGBA", {"displayWindow": window, "dataWindow": data}
    )
    found = read_all(tmp_path / "x.exr", labels(drawn), ".")[0]
    whole = expected(drawn, "")
    assert found.shape == (SIZE[1] + y, SIZE[0] + x)
    inside = found[max(y, 0) :, max(x, 0) :]
    np.testing.assert_allclose(inside, whole[max(-y, 0) :, max(-x, 0) :], atol=1e-5)
    assert not found[: max(y, 0)].any()


def test_two_cryptomattes_are_one_clear_error(tmp_path: Path) -> None:
    header = {"cryptomatte/1234567/name": "CryptoObject"}
    write_cryptomatte(tmp_path / "x.exr", *scene().ranks(), "RGBA", header)
    with pytest.raises(SampleError, match="found: CryptoMaterial, CryptoObject"):
        read_all(tmp_path / "x.exr", ["a"], ".")


@pytest.mark.parametrize("part", [0, 4, 100, 0.5, 0.99])
def test_a_damaged_file_is_a_bad_sample(tmp_path: Path, part: float) -> None:
    write_cryptomatte(tmp_path / "x.exr", *scene().ranks())
    data = (tmp_path / "x.exr").read_bytes()
    end = int(part * len(data)) if isinstance(part, float) else part
    with pytest.raises(SampleError, match=r"x\.exr: OpenEXR cannot read"):
        read_cryptomatte(data[:end], "x.exr", 10**6)


def test_a_large_cryptomatte_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    write_cryptomatte(tmp_path / "x.exr", *scene().ranks())
    with pytest.raises(SampleError, match="has 50 x 40 pixels"):
        read_cryptomatte((tmp_path / "x.exr").read_bytes(), "x.exr", 1999)


def test_coverage_that_is_no_number_is_a_bad_sample(tmp_path: Path) -> None:
    drawn = scene()
    ids, covers = drawn.ranks()
    ids[0, 3, 3], covers[0, 3, 3] = label_id(labels(drawn)[0]), np.nan
    write_cryptomatte(tmp_path / "x.exr", ids, covers)
    with pytest.raises(SampleError, match="not a number"):
        read_all(tmp_path / "x.exr", labels(drawn), ".")


def test_a_matte_of_ones_stays_one() -> None:
    out = np.full((30, 20, 1), np.nan, np.float32)
    resize_matte(np.ones((71, 90)), (20, 30), out)
    assert (out == 1).all()


def masks_of(folder: Path, prefix: str) -> dict[str, NDArray[np.float32]]:
    found = {path.stem: np.load(path) for path in sorted(folder.glob(f"{prefix}-masks-*.npy"))}
    assert all(array.dtype == np.float32 for array in found.values())
    return found


def test_renders_and_photographs_in_one_run(
    command: Command, campaign: Path, tmp_path: Path
) -> None:
    flags = ["--images", "--metadata", "--image-size", 30, 20]
    masks = ["--mask", "all", ".", "big", "^48", "none", "^$"]
    done = command("--prefix", "one", *flags, *masks, "--", campaign, "--workers", 2)
    assert done.returncode == 2, "after -- all are directories, as in the reference"
    done = command("--prefix", "one", *flags, "--workers", 2, *masks, "--", campaign)
    assert done.returncode == 0, done.stderr
    found = masks_of(tmp_path, "one")
    assert list(found) == ["one-masks-all", "one-masks-big", "one-masks-none"]
    paths = sorted(campaign.rglob("*.json"))
    renders = ["synthetic" in json.loads(path.read_text()) for path in paths]
    assert {True, False} == set(renders)
    for array in found.values():
        assert array.shape == (12, 20, 30, 1)
    assert [bool(row.any()) for row in found["one-masks-all"]] == renders
    assert not found["one-masks-none"].any()
    command(
        "--prefix", "two", "--image-size", 30, 20, "--start", 5, "--end", 7, *masks, "--", campaign
    )
    for name, array in masks_of(tmp_path, "two").items():
        np.testing.assert_array_equal(array, found[name.replace("two", "one")][5:7])
    assert not (tmp_path / "two-images.npy").exists()


def test_masks_alone_decode_no_image(campaign: Path, tmp_path: Path) -> None:
    shutil.copytree(campaign, tmp_path / "data")
    for image in (tmp_path / "data").rglob("image_*.png"):
        image.unlink()
    options = Options(
        (str(tmp_path / "data"),), str(tmp_path / "x"), masks=(("m", "."),), workers=1
    )
    assert compress(options).samples == 12


@pytest.mark.parametrize(
    ("section", "reason"),
    [
        ({"filename": "gone.exr", "manifest": []}, "gone.exr: cannot read it"),
        ({"filename": "../x.exr", "manifest": []}, "not a plain file name"),
        ({"filename": "x.exr"}, "manifest is not a list of labels"),
        ({"filename": "x.exr", "manifest": [1]}, "manifest is not a list of labels"),
        ([], "manifest is not a list of labels"),
        ({"manifest": []}, r"no synthetic\.cryptomatte\.filename"),
    ],
)
def test_a_bad_cryptomatte_is_a_bad_sample(tmp_path: Path, section: Any, reason: str) -> None:
    (tmp_path / "x.json").write_text(json.dumps({"synthetic": {"cryptomatte": section}}))
    options = Options((str(tmp_path),), str(tmp_path / "out"), masks=(("m", "."),), workers=1)
    with pytest.raises(SampleError, match=reason):
        compress(options)
    assert os.listdir(tmp_path) == ["x.json"]


@pytest.mark.parametrize("synthetic", [{}, {"synthetic": {}}, {"synthetic": {"cryptomatte": None}}])
def test_a_sample_without_cryptomatte_is_zero(tmp_path: Path, synthetic: Any) -> None:
    (tmp_path / "x.json").write_text(json.dumps(synthetic))
    options = Options(
        (str(tmp_path),), str(tmp_path / "out"), masks=(("m", "."),), image_size=(7, 3), workers=1
    )
    compress(options)
    np.testing.assert_array_equal(np.load(tmp_path / "out-masks-m.npy"), np.zeros((1, 3, 7, 1)))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["all"], "in pairs"),
        (["a", ".", "b"], "in pairs"),
        (["a", ".", "a", "x"], "given twice"),
        (["", "."], "file's name"),
        (["a/b", "."], "file's name"),
        (["a", "("], "not a regular expression"),
    ],
)
def test_mask_arguments_that_make_no_sense(
    command: Command, campaign: Path, tmp_path: Path, words: list[str], message: str
) -> None:
    done = command("--mask", *words, "--", campaign)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert os.listdir(tmp_path) == []


def test_a_null_byte_in_a_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="file's name"):
        Options((str(tmp_path),), masks=(("a\0", "."),))


def test_without_the_extra_it_says_what_to_install(campaign: Path, tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['OpenEXR'] = None;"
        "from limbo_compress.cli.start import main; sys.exit(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "--mask", "all", ".", "--", str(campaign)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == (
        "limbo-compress: --mask needs OpenEXR and mmh3; pip install 'limbo-compress[masks]'\n"
    )
    assert os.listdir(tmp_path) == []


def test_the_campaign_has_ranks_as_renderers_write_them(tmp_path: Path) -> None:
    write_campaign(tmp_path, Campaign(1, photographs=0, size=SIZE, instances=40))
    (path,) = tmp_path.rglob("*.exr")
    cryptomatte = read_cryptomatte(path.read_bytes(), str(path), 10**6)
    coverage = np.stack([amount for _, amount in cryptomatte.ranks])
    assert coverage.shape == (12, *SIZE[::-1])
    assert (np.diff(coverage, axis=0) <= 0).all()
    np.testing.assert_allclose(coverage.sum(axis=0), 1, atol=1e-3)
    assert ((coverage > 0) & (coverage < 1)).any(axis=0).mean() > 0.1
