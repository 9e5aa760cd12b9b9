"""Boxes and contours in the pixels of a row."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from limbo_compress import Dataset, InputError, compress, load
from tests.annotations import box, contour
from tests.inspect.sets import write_set
from tests.jobs import REAL_SAMPLES, job


def opened(folder: Path, *samples: dict[str, Any], size: tuple[int, int] = (20, 10)) -> Dataset:
    """A data set of samples in rows of a size, width first."""
    (folder / "x-metadata.pickle").write_bytes(pickle.dumps(samples and list(samples)))
    np.save(folder / "x-images.npy", np.zeros((len(samples), *size[::-1], 3), np.float16))
    return load(folder / "x")


@pytest.mark.parametrize("res", [[40, 50], [[40, 50]]])
def test_boxes_fit_the_row(tmp_path: Path, res: Any) -> None:
    annotations = [
        {"category": "real"},
        box(4, 5, 8, 10),
        box(4, 5, 8, 10),
        box(4, 5, 8, 10, category="30"),
        box(0.5, 0, 39.5, 50, category=None),
    ]
    dataset = opened(tmp_path, {"image": {"res": res}, "annotations": annotations})
    found = dataset.boxes(0)
    assert [category for category, _ in found] == ["30B", "30", None]
    assert all(xyxy.dtype == np.float32 for _, xyxy in found)
    np.testing.assert_array_equal(found[0].xyxy, [2, 1, 6, 3])
    np.testing.assert_array_equal(found[2].xyxy, [0.25, 0, 20, 10])
    assert dataset.contours(0) == []


def test_contours_keep_their_holes(tmp_path: Path) -> None:
    outer, hole = [[0, 0], [40, 0], [40, 50], [0, 0]], [[10, 10], [20, 10], [20, 25]]
    annotations = [contour(outer, hole)] * 3 + [contour(outer), contour(outer, [], category="x")]
    dataset = opened(tmp_path, {"image": {"res": [40, 50]}, "annotations": annotations})
    found = dataset.contours(0)
    assert [(item.category, len(item.polygons)) for item in found] == [
        ("30B", 2),
        ("30B", 1),
        ("x", 1),
    ]
    np.testing.assert_array_equal(found[0].polygons[0], [[0, 0], [20, 0], [20, 10], [0, 0]])
    np.testing.assert_array_equal(found[0].polygons[1], [[5, 2], [10, 2], [10, 5]])
    assert found[0].polygons[0].dtype == np.float32


def test_the_mode_of_contours_has_two_spellings(tmp_path: Path) -> None:
    line = [[0, 0], [4, 0], [4, 5]]
    annotations = [
        {"contours": [line], "contours_mode": "XY_ABS", "category": "30B"},
        contour(line, category="48"),
    ]
    dataset = opened(tmp_path, {"image": {"res": [4, 5]}, "annotations": annotations})
    assert [found.category for found in dataset.contours(0)] == ["30B", "48"]


@pytest.mark.parametrize("is_indexed", [False, True])
def test_what_has_no_mode_is_left_out_with_a_warning(tmp_path: Path, is_indexed: bool) -> None:
    line = [[0, 0], [4, 0], [4, 5]]
    annotations = [
        {"bbox": [1, 2, 3, 4], "category": "48"},
        box(1, 2, 3, 4, mode=None),
        box(1, 2, 3, 4),
        {"contours": [line], "category": "48"},
        contour(line),
    ]
    if is_indexed:
        (tmp_path / "data").mkdir()
        sample = {"image": {"res": [4, 5]}, "annotations": annotations}
        (tmp_path / "data" / "a.json").write_text(json.dumps(sample))
        compress(job(tmp_path / "data", tmp_path, images=False, masks=(("m", "."),)))
        dataset = load(tmp_path / "out")
        where = f"{tmp_path}/data/a.json"
    else:
        dataset = opened(tmp_path, {"image": {"res": [4, 5]}, "annotations": annotations})
        where = f"{tmp_path}/x-metadata.pickle"
    for find, keys in (
        (dataset.boxes, "bbox but without bbox_mode"),
        (dataset.contours, "contours but without contour_mode"),
    ):
        told = f"{where}: row 0: annotations with {keys} are left out"
        with pytest.warns(UserWarning, match=told) as warnings:
            assert [found.category for found in find(0)] == ["30B"]
        assert [warning.filename for warning in warnings] == [__file__]


def test_samples_without_annotations_have_none(tmp_path: Path) -> None:
    dataset = opened(tmp_path, {}, {"annotations": []}, {"annotations": [{"category": "x"}]})
    assert [dataset.boxes(row) + dataset.contours(row) for row in range(3)] == [[], [], []]


@pytest.mark.parametrize(
    ("annotation", "problem"),
    [
        (box(1, 2, 3, 4, mode="XYXY_ABS"), "bbox_mode is 'XYXY_ABS', not 'XYWH_ABS'"),
        (box(1, 2, 3), "bbox is not made of 4 numbers"),
        (box(1, 2, 3, "x"), "bbox is not made of 4 numbers"),
        (box(1, 2, 3, float("nan")), "bbox is not made of 4 numbers"),
        (box(1, 2, 3, [4]), "bbox is not made of 4 numbers"),
        (contour([[1, 2]], mode="XY_REL"), "contour_mode is 'XY_REL'"),
        ({"contours": [], "contours_mode": "XY_REL"}, "contours_mode is 'XY_REL'"),
        (contour([1, 2]), "a contour is not made of 2 numbers"),
        (contour([[1, 2], [3]]), "a contour is not made of 2 numbers"),
        ({"contours": 7, "contour_mode": "XY_ABS"}, "contours are not a list"),
    ],
)
def test_unknown_geometry_is_one_clear_error(
    tmp_path: Path, annotation: dict[str, Any], problem: str
) -> None:
    dataset = opened(tmp_path, {"image": {"res": [4, 5]}, "annotations": [annotation]})
    with pytest.raises(InputError, match=problem):
        dataset.boxes(0), dataset.contours(0)


@pytest.mark.parametrize("image", [None, {}, {"res": None}, {"res": [0, 5]}, {"res": [1, 2, 3]}])
def test_without_the_size_of_the_image_there_is_no_geometry(tmp_path: Path, image: Any) -> None:
    dataset = opened(tmp_path, {"image": image, "annotations": [box(1, 2, 3, 4)]})
    with pytest.raises(InputError, match=r"image.res"):
        dataset.boxes(0)


def test_annotations_that_are_no_list_are_refused(tmp_path: Path) -> None:
    dataset = opened(tmp_path, {"annotations": 7})
    with pytest.raises(InputError, match="row 0: annotations are not a list"):
        dataset.boxes(0)


def test_an_error_names_the_sample(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    path = tmp_path / "data" / "a.json"
    path.write_text(json.dumps({"annotations": [box(1, 2, 3, 4, mode="other")]}))
    compress(job(tmp_path / "data", tmp_path, images=False, masks=(("m", "."),)))
    with pytest.raises(InputError, match=f"{path}: row -1: bbox_mode is 'other'"):
        load(tmp_path / "out").boxes(-1)


@pytest.mark.skipif(not REAL_SAMPLES.is_dir(), reason="the real samples are not here")
def test_real_samples_have_boxes_around_their_contours(tmp_path: Path) -> None:
    compress(job(REAL_SAMPLES, tmp_path))
    dataset = load(tmp_path / "out")
    for row in (0, 1):
        (found,) = dataset.contours(row)  # in the metadata 4 and 3 times
        (bounds,) = dataset.boxes(row)
        assert (found.category, bounds.category) == ("30B", "30B")
        assert len(found.polygons) == 2
        points = found.polygons[0]
        expected = [*points.min(axis=0), *points.max(axis=0)]
        np.testing.assert_allclose(bounds.xyxy, expected, atol=1e-4)
    (photograph,) = dataset.boxes(2)
    scale = np.array([32 / 1201, 24 / 804] * 2)
    xyxy = [292.8187255859375, 378.603759765625, 707.7366333007812, 672.8847045898438]
    np.testing.assert_allclose(photograph.xyxy, xyxy * scale, rtol=1e-6)
    assert dataset.contours(2) == []


POINTS = [[0.5, float(y)] for y in range(1001)]


@pytest.mark.parametrize(
    "contours",
    [
        [POINTS],
        [POINTS[:3], [[1, 2], *POINTS, [3, 4.5]]],
        [[*POINTS[:3], [7, 8], *POINTS[5:9], [2**40, 1.5]]],
        POINTS,
        [POINTS, [POINTS, POINTS]],
        [[*POINTS[:5], [1.0, 2.0, 3.0]]],
        [[*POINTS[:5], [1.0]]],
        [[*POINTS[:5], "text", None]],
        [[*POINTS[:5], [float("nan"), 1.0]]],
    ],
)
@pytest.mark.parametrize("res", [[1000, 2000], [POINTS[0]] * 3])
def test_an_index_changes_no_contour(tmp_path: Path, contours: Any, res: Any) -> None:
    sample = {"image": {"res": res}, "annotations": [contour(*contours)]}

    def found(dataset: Dataset) -> Any:
        try:
            return [(item.category, [*map(repr, item.polygons)]) for item in dataset.contours(0)]
        except InputError as error:
            return error.problem

    whole = found(opened(tmp_path, sample))
    write_set(tmp_path / "indexed", np.zeros((1, 10, 20, 3)), [sample])
    assert found(load(tmp_path / "indexed")) == whole
