"""What two sets both have: planted copies are found, and what only looks alike is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.scenes import Scene
from limbo_compress import Dataset, InputError, UsageError, leaks, load
from limbo_compress.dataset.srgb import srgb8
from tests.inspect.sets import write_set
from tests.jobs import Command

COUNT, SIDE = 200, 224
Pixels = NDArray[np.uint8]


def render(seed: int) -> Pixels:
    """A scene with a backdrop and grain of its own, as those of `benchmarks.mixed`."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0.1, 0.9, (6, 8, 3)).astype(np.float32)
    backdrop = cv2.resize(coarse, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC).clip(0, 1)
    scene = Scene.random(rng, (SIDE, SIDE), int(rng.integers(1, 4)))
    return scene.render(rng, backdrop.astype(np.float32))


def brightened(pixels: Pixels, by: float) -> Pixels:
    return (pixels * by + 0.5).clip(0, 255).astype(np.uint8)


def compressed(pixels: Pixels) -> Pixels:
    _, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 80])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)


def shifted(pixels: Pixels, x: int, y: int) -> Pixels:
    move = np.array([[1, 0, x], [0, 1, y]], np.float32)
    return cv2.warpAffine(pixels, move, (SIDE, SIDE), borderMode=cv2.BORDER_REPLICATE).astype(
        np.uint8
    )


COPIES = (
    lambda pixels: brightened(pixels, 1.05),
    lambda pixels: brightened(pixels, 0.95),
    compressed,
    lambda pixels: shifted(pixels, 2, 0),
    lambda pixels: shifted(pixels, 0, -2),
)


def write(prefix: Path, images: list[Pixels]) -> Dataset:
    light = np.stack(images) / np.float32(255)
    light = np.where(light <= 0.04045, light / 12.92, ((light + 0.055) / 1.055) ** 2.4)
    found = load(write_set(prefix, light))
    assert found.images is not None
    np.testing.assert_array_equal(srgb8(found.images[:1]), images[:1])
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("leaks")


@pytest.fixture(scope="module")
def originals(folder: Path) -> Dataset:
    return write(folder / "train", [render(seed) for seed in range(COUNT)])


def test_all_planted_copies_are_found(folder: Path, originals: Dataset) -> None:
    copies = [COPIES[seed % len(COPIES)](render(seed)) for seed in range(COUNT)]
    report = leaks(originals, write(folder / "copies", copies))
    assert [
        (pair.train, pair.test) for pair in sorted(report.pairs, key=lambda pair: pair.test)
    ] == [(row, row) for row in range(COUNT)]
    assert report.equal == 0


def test_nothing_is_found_where_scene_and_backdrop_differ(folder: Path, originals: Dataset) -> None:
    others = write(folder / "others", [render(COUNT + seed) for seed in range(COUNT)])
    assert leaks(originals, others).pairs == ()


def test_equal_rows_come_first_with_their_numbers(folder: Path, originals: Dataset) -> None:
    train, test = originals[[7, 5, 9]], originals[[100, 5, 7]]
    report = leaks(train, test)
    assert [(pair.train, pair.test, pair.is_equal) for pair in report.pairs] == [
        (5, 5, True),
        (7, 7, True),
    ]
    assert (report.train, report.test, report.equal, report.groups) == (3, 3, 2, {})
    assert report.select(train, test).row_numbers.tolist() == [5, 205, 7, 207]
    for nothing in (leaks(train, test[[]]), leaks(train[[]], test), leaks(train, originals[50:99])):
        assert nothing.pairs == ()
        assert len(nothing.select(train, test)) == 0


def test_images_of_other_sizes_are_compared(folder: Path, originals: Dataset) -> None:
    small = [cv2.resize(render(n), (96, 96), interpolation=cv2.INTER_AREA) for n in range(5)]
    report = leaks(originals, write(folder / "small", [image.astype(np.uint8) for image in small]))
    assert sorted((pair.train, pair.test) for pair in report.pairs) == [(n, n) for n in range(5)]


@pytest.fixture
def flights(tmp_path: Path) -> tuple[Dataset, Dataset]:
    """Two sets of two folders, with a pair that is divided."""
    found = []
    for name, files in (
        ("a", ["0/image_1", "0/image_2", "1/image_3"]),
        ("b", ["0/background_1", "2/image_3"]),
    ):
        images = np.random.default_rng(len(files)).random((len(files), 16, 16, 3))
        paths = [f"/d/campaign05/{file}.json" for file in files]
        samples: list[dict[str, Any]] = [{"annotations": []} for _ in files]
        found.append(load(write_set(tmp_path / name, images, samples, paths)))
    return found[0], found[1]


def test_groups_of_both(flights: tuple[Dataset, Dataset]) -> None:
    assert leaks(*flights).groups == {"folder": (1, 1), "pair": (1, 1)}
    assert leaks(*flights, by="campaign").groups == {"campaign": (1, 2)}
    assert leaks(*flights, by=["block:1"]).groups == {"block:1": (0, 0)}
    with pytest.raises(UsageError, match="no column foldr; the nearest: folder"):
        leaks(*flights, by="foldr")


def test_rows_without_images_cannot_leak(tmp_path: Path, flights: tuple[Dataset, Dataset]) -> None:
    (tmp_path / "b-images.npy").unlink()
    with pytest.raises(InputError, match=r"b-images.npy: there is no such output"):
        leaks(flights[0], load(tmp_path / "b"))


def test_the_command_says_what_leaks(
    folder: Path, originals: Dataset, inspect: Command, tmp_path: Path
) -> None:
    images = [render(4), COPIES[0](render(6)), render(COUNT)]
    write(folder / "test", images)
    done = inspect(folder / "train", "--rows", "0:20", "--against", folder / "test")
    assert done.returncode == 0
    lines = done.stdout.split("\n\n")[-1].splitlines()
    assert lines[0].endswith("test, 3 rows, against these 20:")
    assert lines[1:] == [
        "  WARNING: rows that equal one of these: 1, such as 0 = 4",
        "  WARNING: rows that nearly equal one of these: 1, such as 1 ~ 6",
    ]
    assert done.stdout.startswith("rows: 200, 20 chosen")
    done = inspect(folder / "train", "--rows", "30:", "--against", folder / "test")
    assert done.stdout.endswith("  none of its rows equals one of these, or nearly does\n")

    flags = ("--against", folder / "test", "--html", "gallery", "--json")
    found = json.loads(inspect(folder / "train", *flags).stdout)["against"]
    assert found["html"] == "gallery/index.html"
    assert [(pair["train"], pair["test"]) for pair in found["pairs"]] == [(4, 0), (6, 1)]
    rows = (tmp_path / "gallery" / "data" / "rows.js").read_text()
    assert '\\"numbers\\":[4,200,6,201]' in rows


def test_the_number_of_workers_changes_nothing(originals: Dataset) -> None:
    one, two = (leaks(originals, originals[::3], workers=workers) for workers in (1, 2))
    assert one == two
    assert one.equal == len(one.pairs) == 67
