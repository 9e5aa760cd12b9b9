"""Contact sheets: pixels where they belong, and captions of any text."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from limbo_compress import (
    InputError,
    OutputError,
    UsageError,
    choose_rows,
    compress,
    load,
    write_sheet,
)
from tests.annotations import square
from tests.inspect.sets import HOSTILE, write_set
from tests.jobs import REAL_SAMPLES, Command, job

Image = pytest.importorskip("PIL.Image", reason="sheets need Pillow")

SIDE = 224


def drawn(prefix: Path, path: Path, **chosen: Any) -> NDArray[np.uint8]:
    (written,) = write_sheet(choose_rows(load(prefix), **chosen), path)
    assert written == str(path)
    return pixels(path)


def pixels(path: Path | str) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def picture(sheet: NDArray[np.uint8], place: int = 0, columns: int = 4) -> NDArray[np.uint8]:
    """The picture at a place of a sheet whose rows are square."""
    top, left = 39 + place // columns * 291, 10 + place % columns * 234
    return sheet[top : top + SIDE, left : left + SIDE]


def test_colors_are_srgb_and_upright(tmp_path: Path) -> None:
    levels = np.array([[[255, 0, 0], [0, 128, 0]], [[10, 20, 30], [200, 200, 200]]])
    s = levels / 255
    light = np.where(s <= 0.04045, s / 12.92, ((s + 0.055) / 1.055) ** 2.4)
    rows = np.repeat(np.repeat(light[None], SIDE // 2, axis=1), SIDE // 2, axis=2)
    shown = picture(drawn(write_set(tmp_path / "x", rows), tmp_path / "s.png"))
    for y in (0, 1):
        for x in (0, 1):
            found = shown[y * 112 + 5 : y * 112 + 107, x * 112 + 5 : x * 112 + 107]
            assert np.abs(found.astype(int) - levels[y, x]).max() <= 1


def annotated(**annotation: Any) -> dict[str, Any]:
    return {"annotations": [{"category": "30B", **annotation}], "image": {"res": [448, 448]}}


def test_boxes_are_where_they_belong(tmp_path: Path) -> None:
    box = annotated(bbox=[100, 200, 160, 80], bbox_mode="XYWH_ABS")
    prefix = write_set(tmp_path / "x", np.zeros((1, SIDE, SIDE, 3)), [box])
    lit = picture(drawn(prefix, tmp_path / "s.png")).max(axis=2) > 100
    ys, xs = np.nonzero(lit)
    # Half of the source's pixels, and a line of two pixels around them.
    np.testing.assert_allclose([xs.min(), xs.max()], [50, 130], atol=1.5)
    np.testing.assert_allclose([ys.min(), ys.max()], [100, 140], atol=1.5)
    assert not lit[104:136, 54:126].any()


def test_holes_of_contours_stay_holes(tmp_path: Path) -> None:
    lines = [square(40, 40, 360, 360), square(150, 150, 150, 150)]
    contour = annotated(contours=lines, contour_mode="XY_ABS")
    prefix = write_set(tmp_path / "x", np.zeros((1, SIDE, SIDE, 3)), [contour])
    lit = picture(drawn(prefix, tmp_path / "s.png")).max(axis=2) > 20
    assert lit[25:70, 25:195].all()
    assert not lit[80:145, 80:145].any()
    assert not lit[:15].any()


def test_outlines_of_masks(campaign: Path, tmp_path: Path) -> None:
    options = job(campaign, tmp_path, masks=(("m", "."),), metadata=False, image_size=(224, 224))
    compress(options)
    images = load(tmp_path / "out").images
    assert images is not None
    with_mask = drawn(tmp_path / "out", tmp_path / "s.png", rows="0").astype(int)
    (tmp_path / "out-masks-m.npy").unlink()
    without = drawn(tmp_path / "out", tmp_path / "t.png", rows="0").astype(int)
    changed = np.abs(picture(with_mask) - picture(without)).max(axis=2) > 60
    assert 20 < np.count_nonzero(changed) < 0.1 * changed.size


def test_several_pages(tmp_path: Path) -> None:
    prefix = write_set(tmp_path / "x", np.random.default_rng(0).random((230, 8, 8, 3)))
    paths = write_sheet(load(prefix), tmp_path / "s.jpg")
    assert paths == [str(tmp_path / f"s-{page}.jpg") for page in (1, 2, 3)]
    assert all(Path(path).read_bytes().startswith(b"\xff\xd8") for path in paths)
    heights = [len(pixels(path)) for path in paths]
    assert heights[0] == heights[1] > heights[2]
    assert sorted(os.listdir(tmp_path)) == ["s-1.jpg", "s-2.jpg", "s-3.jpg", "x-images.npy"]


@pytest.mark.parametrize("shape", [(1, 1), (3, 500), (500, 3), (24, 32)])
def test_rows_of_any_shape(tmp_path: Path, shape: tuple[int, int]) -> None:
    sheet = drawn(write_set(tmp_path / "x", np.ones((3, *shape, 3))), tmp_path / "s.png")
    assert (sheet[39 + 0, 10] == 255).all()


def test_hostile_labels_are_text(tmp_path: Path, inspect: Command) -> None:
    samples = [
        {"annotations": [{"category": label}], "image": {"filename": label}} for label in HOSTILE
    ]
    samples.append({"annotations": [{"category": label} for label in HOSTILE + HOSTILE]})
    prefix = write_set(tmp_path / "x", np.zeros((len(samples), 32, 32, 3)), samples)
    done = inspect(prefix, "--sheet", "s.png")
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "s.png\n")
    assert pixels(tmp_path / "s.png").shape[1] < 2400


@pytest.mark.parametrize(
    "annotation",
    [
        {"bbox": [1, 2, 3], "bbox_mode": "XYWH_ABS"},
        {"bbox": [1, 2, 3, 4], "bbox_mode": "?\n" * 999},
        {"bbox": [-1e300, 1e300, 1e308, 1e308], "bbox_mode": "XYWH_ABS"},
        {"bbox": [9, 9, -5, -5], "bbox_mode": "XYWH_ABS"},
        {"contours": [[[1e39, 1], [2, -1e39], [3, 3]], [[1, 1]], []], "contour_mode": "XY_ABS"},
        {"contours": 7, "contour_mode": "XY_ABS"},
    ],
)
def test_annotations_that_make_no_sense(
    tmp_path: Path, inspect: Command, annotation: dict[str, Any]
) -> None:
    prefix = write_set(tmp_path / "x", np.zeros((1, 32, 32, 3)), [annotated(**annotation)])
    done = inspect(prefix, "--sheet", "s.png")
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "s.png\n")


def test_values_that_are_no_color(tmp_path: Path) -> None:
    images = np.zeros((1, SIDE, SIDE, 3))
    images[0, :56], images[0, 56:112], images[0, 112:168] = np.nan, np.inf, -np.inf
    shown = picture(drawn(write_set(tmp_path / "x", images), tmp_path / "s.png"))
    assert [int(level) for level in shown[[20, 80, 140, 200], 100, 0]] == [0, 255, 0, 0]


def test_masks_alone_are_gray(campaign: Path, tmp_path: Path) -> None:
    compress(job(campaign, tmp_path, images=False, metadata=False, masks=(("m", "."),)))
    assert drawn(tmp_path / "out", tmp_path / "s.png").max() > 200


def test_what_cannot_be_drawn(prefix: Path, campaign: Path, tmp_path: Path) -> None:
    compress(job(campaign, tmp_path, images=False))
    with pytest.raises(InputError, match="no images or masks, so there is nothing to show"):
        write_sheet(load(tmp_path / "out"), tmp_path / "s.png")
    for name in ("s.gif", "s", "s.png.zip"):
        with pytest.raises(UsageError, match=r"a sheet is a \.png or \.jpg file"):
            write_sheet(load(prefix), tmp_path / name)
    with pytest.raises(OutputError, match=r"missing/s\.png: cannot write it: No such file"):
        write_sheet(load(prefix), tmp_path / "missing" / "s.png")
    assert sorted(os.listdir(tmp_path)) == [".out.state", "out-metadata.pickle"]


def test_a_folder_is_not_replaced(prefix: Path, tmp_path: Path) -> None:
    (tmp_path / "s.png").mkdir()
    with pytest.raises(OutputError, match=r"s\.png: cannot write it: Is a directory"):
        write_sheet(load(prefix), tmp_path / "s.png")
    assert os.listdir(tmp_path) == ["s.png"]


@pytest.mark.skipif(not REAL_SAMPLES.exists(), reason="the real samples are not here")
def test_the_colors_of_the_real_samples(tmp_path: Path) -> None:
    compress(job(REAL_SAMPLES, tmp_path, image_size=(224, 224), metadata=False))
    sheet = drawn(tmp_path / "out", tmp_path / "s.png")
    for place, name in enumerate(("image_0000000", "image_0000025", "image_0014")):
        source = Image.fromarray(pixels(REAL_SAMPLES / f"{name}.png"))
        expected = np.asarray(source.resize((SIDE, SIDE), Image.Resampling.LANCZOS), int)
        shown = picture(sheet, place)
        # In linear light, as rows are made, edges come out a little lighter.
        assert np.abs(shown - expected).mean() < 6
        assert np.abs((shown - expected).mean(axis=(0, 1))).max() < 4
