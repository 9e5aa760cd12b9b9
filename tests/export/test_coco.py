"""COCO, read by pycocotools, against what the source files show."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from limbo_compress import compress, export_dataset, load
from tests.annotations import box, contour, square
from tests.export.sources import (
    bounds,
    check_mask,
    compressed,
    distinct,
    raster,
    reference,
    visible_boxes,
    write_sample,
)
from tests.jobs import REAL_SAMPLES, Command, job

# pycocotools has not caught up with numpy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def opened(folder: Path, part: str = "default") -> COCO:
    return COCO(folder / "annotations" / f"instances_{part}.json")


def exported(prefix: Path, out: Path, **options: Any) -> COCO:
    export_dataset(load(prefix), "coco", out, workers=1, **options)
    return opened(out)


def check_against_sources(coco: COCO) -> int:
    """Compare all annotations with the source files; return how many have a contour."""
    contours = 0
    for image in coco.imgs.values():
        metadata = json.loads(Path(image["path"]).read_text())
        width, height = np.ravel(metadata["image"]["res"]).tolist()
        sizes = (width, height), (image["width"], image["height"])
        found = coco.loadAnns(coco.getAnnIds(image["id"]))
        boxes, outlines = visible_boxes(metadata), distinct(metadata, "contours")
        assert len(found) == len(boxes)
        for expected in boxes:
            left, top, width, height = expected["bbox"]
            corners = [[left, top], [left + width, top + height]]
            xywh = bounds([corners], *sizes)
            (same,) = [a for a in found if np.abs(np.subtract(a["bbox"], xywh)).max() < 0.02]
            assert coco.cats[same["category_id"]]["name"] == expected["category"]
        with_contour = [annotation for annotation in found if annotation["has_contour"]]
        assert len(with_contour) == len(outlines)
        for outline in outlines:
            mask = raster(outline["contours"], *sizes)
            xywh = bounds(outline["contours"], *sizes)
            (same,) = [a for a in with_contour if np.abs(np.subtract(a["bbox"], xywh)).max() < 0.02]
            check_mask(coco.annToMask(same), mask, holes=len(outline["contours"]) - 1)
            assert same["area"] == coco.annToMask(same).sum() > 0
            contours += 1
    return contours


def test_the_command_writes_what_pycocotools_reads(
    export: Command, prefix: Path, tmp_path: Path
) -> None:
    done = export(prefix, "--to", "coco", "-o", "out")
    assert done.returncode == 0, done.stderr
    samples = load(prefix).metadata
    assert samples is not None
    boxes, contours = (
        sum(len(find(sample)) for sample in samples)
        for find in (visible_boxes, lambda sample: distinct(sample, "contours"))
    )
    unknown = sum("cryptomatte" not in sample.get("synthetic", {}) for sample in samples)
    counts = f"12 rows  {boxes} boxes  {unknown} without a cryptomatte"
    assert unknown > 0
    assert done.stdout == f"{tmp_path}/out  {counts}\n"
    coco = opened(tmp_path / "out")
    assert check_against_sources(coco) == contours > 0
    assert sorted(coco.imgs) == list(range(12))
    names = [category["name"] for category in coco.dataset["categories"]]
    assert names == list(load(prefix).box_classes)
    for image in coco.imgs.values():
        with Image.open(tmp_path / "out" / "images" / image["file_name"]) as picture:
            assert (picture.mode, picture.size) == ("RGB", (image["width"], image["height"]))


def test_unknown_masks_make_no_segmentation(prefix: Path, tmp_path: Path) -> None:
    dataset = load(prefix)
    coco = exported(prefix, tmp_path / "coco")
    for row in np.flatnonzero(~dataset.has_matte).tolist():
        boxes = visible_boxes((dataset.metadata or [])[row])
        annotations = coco.loadAnns(coco.getAnnIds(row))
        assert [annotation["has_contour"] for annotation in annotations] == [False] * len(boxes)
        assert row in coco.imgs
    # Masks are not read at all.
    for name in ("images.npy", "metadata.pickle"):
        (tmp_path / f"x-{name}").symlink_to(f"{prefix}-{name}")
    report = export_dataset(load(tmp_path / "x"), "coco", tmp_path / "without", workers=1)
    assert report.without_matte is None
    assert opened(tmp_path / "without").anns == coco.anns


def test_a_box_without_a_contour_is_a_rectangle(tmp_path: Path) -> None:
    write_sample(tmp_path / "data", "a", [box(8, 12, 16.5, 24), box(50, 40, 99, 99)])
    coco = exported(compressed(tmp_path), tmp_path / "coco")
    inside, cut = coco.anns.values()
    assert inside["segmentation"] == [[8, 12, 24.5, 12, 24.5, 36, 8, 36]]
    assert cut["segmentation"] == [[50, 40, 64, 40, 64, 48, 50, 48]]
    assert coco.annToMask(cut).sum() == cut["area"] == 14 * 8
    assert [inside["has_contour"], cut["has_contour"]] == [False, False]
    assert "has_contour" in coco.dataset["info"]["description"]


def test_contours_end_at_the_edges_of_the_picture(tmp_path: Path) -> None:
    """The diamond's corners are outside; to move them to the edges would change its slopes."""
    diamond = [[32, -16], [72, 24], [32, 64], [-8, 24]]
    write_sample(tmp_path / "data", "a", [contour(diamond)])
    coco = exported(compressed(tmp_path), tmp_path / "coco")
    (found,) = coco.anns.values()
    (line,) = found["segmentation"]
    points = sorted(zip(line[::2], line[1::2], strict=True))
    expected = [(0, 16), (0, 32), (16, 0), (16, 48), (48, 0), (48, 48), (64, 16), (64, 32)]
    assert points == expected
    check_mask(coco.annToMask(found), raster([diamond], (64, 48), (64, 48)))


def test_holes_stay_holes(tmp_path: Path) -> None:
    outer, hole = square(8, 8, 48, 32), square(16, 16, 24, 16)
    island, neighbor = square(20, 20, 10, 8), square(58, 8, 4, 32)
    annotations = [contour(outer, hole, island, neighbor)] * 3 + [
        contour(outer, neighbor, category="x")
    ]
    write_sample(tmp_path / "data", "a", annotations)
    coco = exported(compressed(tmp_path), tmp_path / "coco")
    with_holes, pieces = coco.loadAnns([1, 2])
    assert len(coco.anns) == 2
    assert isinstance(with_holes["segmentation"], dict)
    expected = np.zeros((48, 64), bool)
    expected[8:40, 8:56] = True
    expected[16:32, 16:40] = False
    expected[20:28, 20:30] = True
    expected[8:40, 58:62] = True
    np.testing.assert_array_equal(coco.annToMask(with_holes), expected)
    assert with_holes["area"] == expected.sum()
    assert with_holes["bbox"] == [8, 8, 54, 32]
    assert [sorted(zip(line[::2], line[1::2], strict=True)) for line in pieces["segmentation"]] == [
        sorted(map(tuple, line)) for line in (outer, neighbor)
    ]


def test_a_hole_that_touches_the_edge_is_one(tmp_path: Path) -> None:
    outer, hole = square(8, 8, 48, 32), [[8, 8], [40, 16], [40, 32]]
    neighbor = square(56, 8, 4, 32)
    annotations = [contour(outer, hole), contour(outer, neighbor, category="x")]
    write_sample(tmp_path / "data", "a", annotations)
    with_hole, pieces = exported(compressed(tmp_path), tmp_path / "coco").anns.values()
    assert isinstance(with_hole["segmentation"], dict)
    assert isinstance(pieces["segmentation"], list)


def test_a_box_and_its_contour_are_one_object(tmp_path: Path) -> None:
    near, far = square(10, 10, 10, 10), square(30, 30, 10, 10)
    annotations = [
        *(box(10, 10, 10, 10), contour(near), contour(far)),
        # Another category, another object of the same one, and a repetition with the same numbers.
        *(box(10, 10, 10, 10, category="48"), box(11, 11, 12, 12), box(10.0, 10.0, 10.0, 10.0)),
        *({"category": "30B"}, {"category": "synthetic"}),
    ]
    write_sample(tmp_path / "data", "a", annotations)
    coco = exported(compressed(tmp_path), tmp_path / "coco")
    found = [
        (coco.cats[a["category_id"]]["name"], a["bbox"], a["has_contour"])
        for a in coco.anns.values()
    ]
    assert found == [
        ("30B", [10, 10, 10, 10], True),
        ("30B", [30, 30, 10, 10], True),
        ("48", [10, 10, 10, 10], False),
        ("30B", [11, 11, 12, 12], False),
    ]
    assert coco.imgs[0]["tags"] == ["synthetic"]


def test_what_is_outside_of_the_picture_is_cut_off(tmp_path: Path) -> None:
    annotations = [
        *(box(-10, -10, 20, 20), box(50, 40, 1e300, 1e300), box(70, 10, 5, 5), box(5, 5, 0, 9)),
        contour([[20, 20], [1e300, 20], [1e300, 30], [20, 30]]),
    ]
    write_sample(tmp_path / "data", "a", annotations)
    coco = exported(compressed(tmp_path), tmp_path / "coco")
    boxes = [annotation["bbox"] for annotation in coco.anns.values()]
    assert boxes == [[20, 20, 44, 10], [0, 0, 10, 10], [50, 40, 14, 8]]
    assert coco.annToMask(coco.anns[1])[20:30, 20:].all()


@pytest.mark.skipif(not REAL_SAMPLES.is_dir(), reason="the real samples are not here")
@pytest.mark.parametrize("source", [False, True])
def test_real_samples(tmp_path: Path, source: bool) -> None:
    compress(job(REAL_SAMPLES, tmp_path, image_size=(224, 224)))
    coco = exported(tmp_path / "out", tmp_path / "coco", source=source)
    assert check_against_sources(coco) == 2
    assert len(coco.anns) == 3  # in the metadata, contours stand 4 and 3 times
    names = [category["name"] for category in coco.dataset["categories"]]
    assert names == ["30B"]
    with_holes = [a for a in coco.anns.values() if isinstance(a["segmentation"], dict)]
    assert [annotation["image_id"] for annotation in with_holes] == [0, 1]
    if source:
        mask = coco.annToMask(with_holes[1])
        assert not mask[315:319, 224:227].any()  # a hole, from (222, 312) to (229, 321)
    (license,) = coco.dataset["licenses"]
    assert "CC BY 2.0" in license["name"]
    photograph = coco.imgs[2]
    assert photograph["license"] == license["id"]
    assert photograph["provenance"]["copyright"] == "Katy Laffan / IAEA, 2019"
    assert photograph["tags"] == ["real", "30"]


def test_labels_are_the_categories(prefix: Path, tmp_path: Path) -> None:
    labels = {"small": "^30B", "big": "^48.$", "too late": "^30", "none": "nothing"}
    coco = exported(prefix, tmp_path / "coco", labels=labels)
    names = {category["id"]: category["name"] for category in coco.dataset["categories"]}
    assert names == {1: "small", 2: "big", 3: "too late", 4: "none"}
    every = exported(prefix, tmp_path / "every")
    expected = []
    for annotation in every.anns.values():
        category = every.cats[annotation["category_id"]]["name"]
        first = [label for label, pattern in labels.items() if re.search(pattern, category)][:1]
        expected += [(label, annotation["bbox"]) for label in first]
    assert [(names[a["category_id"]], a["bbox"]) for a in coco.anns.values()] == expected
    only = exported(prefix, tmp_path / "only", labels={"big": "^48.$"})
    assert [("big", a["bbox"]) for a in only.anns.values()] == [
        e for e in expected if e[0] == "big"
    ]
    assert len(only.imgs) == 12


def test_an_object_of_two_categories_counts_once_for_a_label(tmp_path: Path) -> None:
    twice = [box(4, 5, 8, 10, category="48G"), box(4, 5, 8, 10, category="48")]
    other = [box(4, 5, 8, 10, category="30B"), box(20, 5, 8, 10, category="48")]
    write_sample(tmp_path / "data", "a", twice + other)
    prefix = compressed(tmp_path)
    assert len(exported(prefix, tmp_path / "every").anns) == 4
    coco = exported(prefix, tmp_path / "coco", labels={"48": "^48", "30": "^30"})
    found = [(a["category_id"], a["bbox"][0]) for a in coco.anns.values()]
    assert found == [(1, 4), (2, 4), (1, 20)]


def test_a_split_makes_two_files(prefix: Path, tmp_path: Path) -> None:
    export_dataset(load(prefix), "coco", tmp_path / "coco", split=0.75, seed=3)
    train, val = (opened(tmp_path / "coco", part) for part in ("train", "val"))
    assert (len(train.imgs), len(val.imgs)) == (9, 3)
    assert sorted([*train.imgs, *val.imgs]) == list(range(12))
    assert train.dataset["categories"] == val.dataset["categories"]
    expected = load(prefix).split(0.75, seed=3)[0]
    assert [image["path"] for image in train.imgs.values()] == list(expected.paths)
    everything = exported(prefix, tmp_path / "all")
    assert len(train.anns) + len(val.anns) == len(everything.anns)


def test_pictures_are_the_rows_in_srgb(tmp_path: Path) -> None:
    """A row of the size of its image holds the same values, so the picture shows them again."""
    write_sample(tmp_path / "data", "a", [], size=(256, 40))
    exported(compressed(tmp_path, (256, 40)), tmp_path / "coco")
    with Image.open(tmp_path / "coco" / "images" / "000000.png") as picture:
        found = np.asarray(picture)
    with Image.open(tmp_path / "data" / "a.png") as picture:
        np.testing.assert_array_equal(found, np.asarray(picture))


def test_values_that_are_no_light(tmp_path: Path) -> None:
    prefix = reference(tmp_path, {}, size=(3, 2))
    values = np.array([np.nan, -np.inf, -1, -0.0, np.inf, 2], np.float16)
    np.save(f"{prefix}-images.npy", np.repeat(values, 3).reshape(1, 2, 3, 3))
    exported(prefix, tmp_path / "coco")
    with Image.open(tmp_path / "coco" / "images" / "000000.png") as picture:
        assert np.asarray(picture)[..., 0].ravel().tolist() == [0, 0, 0, 0, 255, 255]
