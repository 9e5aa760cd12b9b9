"""What two sets both have: planted copies are found, and what only looks alike is not."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.scenes import Scene
from limbo_compress import Dataset, InputError, UsageError, concat, leaks, load
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
        samples[0]["synthetic"] = {"parameters": {"/place": name}}
        found.append(load(write_set(tmp_path / name, images, samples, paths)))
    return found[0], found[1]


def test_groups_of_both(flights: tuple[Dataset, Dataset]) -> None:
    assert leaks(*flights).groups == {"folder": (1, 1), "pair": (1, 1)}
    assert leaks(*flights, by="campaign").groups == {"campaign": (1, 2)}
    assert leaks(*flights, by=["block:1"]).groups == {"block:1": (0, 0)}
    with pytest.raises(UsageError, match="no column foldr; the nearest: folder"):
        leaks(*flights, by="foldr")


def test_several_kinds_of_groups_as_json(flights: tuple[Dataset, Dataset]) -> None:
    found = leaks(*flights, by=[("pair", "duplicate"), "folder"]).as_json()["groups"]
    one = {"groups": 1, "rows": 1}
    assert json.loads(json.dumps(found)) == {"pair + duplicate": one, "folder": one}


def test_paths_that_one_prefix_lacks(tmp_path: Path, flights: tuple[Dataset, Dataset]) -> None:
    shutil.copy(tmp_path / "b-images.npy", tmp_path / "c-images.npy")
    with (tmp_path / "c-metadata.pickle").open("wb") as stream:
        pickle.dump([{"annotations": []}] * 2, stream)
    others = [flights[1], load(tmp_path / "c")]
    for both in (others, others[::-1]):
        assert leaks(flights[0], concat(both)).groups == {}


def test_warnings_name_the_line_that_called(flights: tuple[Dataset, Dataset]) -> None:
    train, test = flights
    with pytest.warns(UserWarning, match="3 of 5 rows have no /place") as told:
        leaks(train, test, by="/place")
    assert {warning.filename for warning in told} == {__file__}


def test_pairs_of_two_sizes_are_not_joined(originals: Dataset, folder: Path) -> None:
    large = render(3)
    small = cv2.resize(large, (96, 96), interpolation=cv2.INTER_AREA).astype(np.uint8)
    other = write(folder / "one", [small])
    with pytest.raises(InputError, match="rows of 96 × 96 and 224 × 224 pixels cannot be joined"):
        leaks(originals[:5], other).select(originals, other)


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


def test_the_command_refuses_before_any_work(
    folder: Path, originals: Dataset, inspect: Command, tmp_path: Path
) -> None:
    write_set(folder / "tiny", np.zeros((2, 8, 8, 3)))
    flags = (folder / "train", "--rows", "0:20", "--against")
    for others, message in (
        ((folder / "typo",), "typo"),
        ((folder / "tiny", "--html", "gallery"), "leave out --html"),
    ):
        done = inspect(*flags, *others)
        assert done.returncode == 1
        assert done.stdout == ""
        assert message in done.stderr
        assert done.stderr.count("\n") == 1
    write(folder / "unlike", [render(COUNT + 1)])
    done = inspect(*flags, folder / "unlike", "--html", "gallery")
    assert done.returncode == 0
    assert done.stdout.endswith("\nthere is no pair to show, so gallery was not written\n")
    assert not (tmp_path / "gallery").exists()


def test_the_command_counts_groups_of_both(
    tmp_path: Path, flights: tuple[Dataset, Dataset], inspect: Command
) -> None:
    done = inspect("a", "--against", "b")
    assert done.stdout.splitlines()[-2:] == [
        "  by folder: 1 group is in both; it has 1 of the 2 rows of b",
        "  by pair: 1 group is in both; it has 1 of the 2 rows of b",
    ]
    done = inspect("b", "--rows", "1", "--against", "a")
    assert "  by pair: no group is in both\n" in done.stdout


def test_the_number_of_workers_changes_nothing(originals: Dataset) -> None:
    one, two = (leaks(originals, originals[::3], workers=workers) for workers in (1, 2))
    assert one == two
    assert one.equal == len(one.pairs) == 67
