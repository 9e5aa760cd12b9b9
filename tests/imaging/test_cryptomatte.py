from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import OpenEXR
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from benchmarks.scenes import Scene, write_cryptomatte
from limbo_compress import SampleError
from limbo_compress.imaging.cryptomatte import label_id, mattes, open_cryptomatte, resize_matte

SIZE = (50, 40)


def scene(instances: int = 9, seed: int = 3) -> Scene:
    return Scene.random(np.random.default_rng(seed), SIZE, instances)


def read_all(path: Path, labels: list[str], *patterns: str) -> list[NDArray[np.float64]]:
    cryptomatte = open_cryptomatte(path.read_bytes(), str(path), 10**6)
    return list(mattes(cryptomatte, labels, patterns))


def expected(scene: Scene, pattern: str) -> NDArray[np.float32]:
    """The mask by construction: the coverage with which the scene was drawn."""
    return sum(
        (matte for instance, matte, _ in scene.mattes() if instance.category.startswith(pattern)),
        np.zeros(SIZE[::-1], np.float32),
    )


def labels(scene: Scene) -> list[str]:
    return [instance.label for instance in scene.instances]


def test_ids_equal_those_of_real_files() -> None:
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
def test_mattes_equal_the_drawn_scene(
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


def test_a_label_that_is_not_in_the_file_covers_nothing(tmp_path: Path) -> None:
    write_cryptomatte(tmp_path / "x.exr", *scene().ranks())
    assert not read_all(tmp_path / "x.exr", ["elsewhere/7"], ".")[0].any()
    assert not read_all(tmp_path / "x.exr", [], ".")[0].any()


@pytest.mark.parametrize("corner", [(0, 0), (7, 5), (-6, -4)])
def test_the_data_window_is_placed_in_the_display_window(
    tmp_path: Path, corner: tuple[int, int]
) -> None:
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


def test_a_second_cryptomatte_is_a_bad_sample(tmp_path: Path) -> None:
    header = {"cryptomatte/1234567/name": "CryptoObject"}
    write_cryptomatte(tmp_path / "x.exr", *scene().ranks(), "RGBA", header)
    with pytest.raises(SampleError, match="found: CryptoMaterial, CryptoObject"):
        read_all(tmp_path / "x.exr", ["a"], ".")


def test_a_large_cryptomatte_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    write_cryptomatte(tmp_path / "x.exr", *scene().ranks())
    with pytest.raises(SampleError, match="has 50 x 40 pixels"):
        open_cryptomatte((tmp_path / "x.exr").read_bytes(), "x.exr", 1999)


def test_coverage_that_is_not_a_number_is_a_bad_sample(tmp_path: Path) -> None:
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


def test_a_label_that_is_there_twice_counts_once(tmp_path: Path) -> None:
    drawn = scene()
    write_cryptomatte(tmp_path / "x.exr", *drawn.ranks())
    (once,) = read_all(tmp_path / "x.exr", labels(drawn), ".")
    (twice,) = read_all(tmp_path / "x.exr", labels(drawn) * 2, ".")
    np.testing.assert_array_equal(once, twice)


def test_many_labels_are_found_as_few_are(tmp_path: Path) -> None:
    drawn = scene()
    write_cryptomatte(tmp_path / "x.exr", *drawn.ranks())
    names = labels(drawn)
    few = read_all(tmp_path / "x.exr", names, ".", "^48")
    others = [f"elsewhere/{number}" for number in range(100)]
    many = read_all(tmp_path / "x.exr", names + others, ".", "^48")
    for one, other in zip(few, many, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("corner", [(0, 0), (-6, 4)])
def test_large_files_are_decoded_in_strips(tmp_path: Path, corner: tuple[int, int]) -> None:
    """72 MB of pixels, of which the last lines show the label."""
    x, y = corner
    ids = np.zeros((2, 3000, 1500), np.float32)
    ids[:, 2400:] = label_id("box")
    covers = np.zeros_like(ids)
    covers[0, 2300:2900, 3:] = 0.25
    covers[1, 2500:] = 0.5
    window = (np.array([-x, -y], np.int32), np.array([1499, 2999], np.int32))
    data = (np.array([0, 0], np.int32), np.array([1499, 2999], np.int32))
    write_cryptomatte(
        tmp_path / "x.exr", ids, covers, "RGBA", {"displayWindow": window, "dataWindow": data}
    )
    cryptomatte = open_cryptomatte((tmp_path / "x.exr").read_bytes(), "", 10**7)
    assert cryptomatte.strip_lines < 3000
    (matte,) = mattes(cryptomatte, ["box"], ["."])
    whole = np.zeros((3000, 1500))
    whole[2400:2900, 3:] = 0.25
    whole[2500:] += 0.5
    inside = matte[max(y, 0) :, max(x, 0) :]
    np.testing.assert_array_equal(inside, whole[max(-y, 0) :, max(-x, 0) :])
