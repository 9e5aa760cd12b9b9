"""Annotations of a sample, whatever its metadata say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco_masks

from limbo_compress import limits
from limbo_compress.export.annotations import find_annotations, printable
from tests.annotations import box, contour, square
from tests.export.sources import raster

SIZE = (40, 30)
SOURCE = (80, 60)

numbers = st.floats(-200, 200) | st.floats(allow_nan=False, allow_infinity=False)
names = st.sampled_from(["30B", "48Y", "", "\ud800"]) | st.none()
boxes = st.builds(box, numbers, numbers, numbers, numbers, category=names)
lines = st.lists(st.tuples(numbers, numbers).map(list), max_size=8)
contours = st.lists(lines, max_size=3).flatmap(
    lambda found: st.builds(lambda name: contour(*found, category=name), names)
)
tags = st.builds(lambda name: {"category": name}, names)
anything = st.lists(boxes | contours | tags, max_size=6)


def metadata(annotations: list[dict[str, Any]]) -> dict[str, Any]:
    return {"image": {"res": list(SOURCE)}, "annotations": annotations}


@given(anything)
def test_objects_are_inside_of_the_picture(annotations: list[dict[str, Any]]) -> None:
    found = find_annotations(metadata(annotations), SIZE, None, print)
    assert len(found) <= len(annotations)
    for annotation in found:
        if annotation.box is None:
            assert annotation.segmentation is None
            continue
        left, top, width, height = annotation.box
        assert 0 <= left < left + width <= SIZE[0] + 1e-9
        assert 0 <= top < top + height <= SIZE[1] + 1e-9
        for line in annotation.polygons:
            points = np.array(line).reshape(-1, 2)
            assert len(points) >= 3
            assert (points >= 0).all()
            assert (points <= SIZE).all()
        assert annotation.area is not None
        assert 0 <= annotation.area <= SIZE[0] * SIZE[1]


@given(anything, st.integers(2, 4))
def test_repetitions_change_nothing(annotations: list[dict[str, Any]], times: int) -> None:
    once = find_annotations(metadata(annotations), SIZE, None, print)
    assert find_annotations(metadata(annotations * times), SIZE, None, print) == once


@given(anything)
def test_labels_leave_out_what_has_none(annotations: list[dict[str, Any]]) -> None:
    every = find_annotations(metadata(annotations), SIZE, None, print)
    found = find_annotations(metadata(annotations), SIZE, {"30B": "small", "48Y": "big"}, print)
    assert {annotation.label for annotation in found} <= {"small", "big"}
    expected = {a.category for a in every if a.category in ("30B", "48Y")}
    assert {annotation.category for annotation in found} == expected


@given(
    st.lists(st.tuples(st.integers(1, 8), st.integers(1, 8)), min_size=1, max_size=4),
    st.booleans(),
)
def test_lines_inside_of_lines_are_holes_and_islands(
    steps: list[tuple[int, int]], reverse: bool
) -> None:
    """Rectangles around each other, from the outermost; edges at the edges of pixels."""
    left = top = 0
    right, bottom = SOURCE
    rectangles = []
    for x, y in steps:
        left, top, right, bottom = left + 2 * x, top + 2 * y, right - 2 * x, bottom - 2 * y
        if right - left > 2 and bottom - top > 2:
            rectangle = [[left, top], [right, top], [right, bottom], [left, bottom]]
            rectangles.append(rectangle[::-1] if reverse else rectangle)
    if not rectangles:
        return
    (found,) = find_annotations(metadata([contour(*rectangles)]), SIZE, None, print)
    assert isinstance(found.segmentation, dict) == (len(rectangles) > 1)
    rle = found.segmentation
    if isinstance(rle, list):
        rle = coco_masks.merge(coco_masks.frPyObjects(rle, SIZE[1], SIZE[0]))
    expected = raster(rectangles, SOURCE, SIZE)
    assert found.area == expected.sum()
    assert coco_masks.area(coco_masks.encode(np.asfortranarray(expected, np.uint8))) == found.area
    back = coco_masks.encode(np.asfortranarray(expected, np.uint8))
    assert coco_masks.iou([rle], [back], [0])[0][0] == 1


@given(st.text())
def test_printable_text_fits_every_format(text: str) -> None:
    found = printable(text)
    found.encode("utf-8")
    if found != text:
        assert any("\ud800" <= character <= "\udfff" for character in text)


small = st.integers(0, 12)
rectangles = st.lists(
    st.tuples(small, small, st.integers(1, 9), st.integers(1, 9)), unique=True, max_size=8
)


@given(rectangles, rectangles)
def test_each_contour_gets_the_box_that_overlaps_most(
    boxed: list[tuple[int, ...]], outlined: list[tuple[int, ...]]
) -> None:
    """As when all pairs are compared."""

    def overlap(one: tuple[int, ...], other: tuple[int, ...]) -> float:
        (x, y, w, h), (u, v, p, q) = one, other
        shared = max(0, min(x + w, u + p) - max(x, u)) * max(0, min(y + h, v + q) - max(y, v))
        return shared / (w * h + p * q - shared)

    pairs = [(overlap(o, b), -i, -j) for i, o in enumerate(outlined) for j, b in enumerate(boxed)]
    expected: dict[int, int] = {}
    for share, i, j in sorted(pairs, reverse=True):
        if share > 0.5 and -i not in expected and -j not in expected.values():
            expected[-i] = -j
    annotations = [box(*found) for found in boxed]
    annotations += [contour(square(*found)) for found in outlined]
    found = find_annotations(metadata(annotations), SOURCE, None, print)
    with_contour = [annotation.box for annotation in found[: len(outlined)]]
    assert with_contour == [
        tuple(map(float, boxed[expected[i]] if i in expected else outline))
        for i, outline in enumerate(outlined)
    ]
    assert len(found) == len(outlined) + len(boxed) - len(expected)


def test_more_objects_than_a_picture_shows_are_refused() -> None:
    annotations = [box(number, 0, 5, 5) for number in range(limits.OBJECTS + 1)]
    with pytest.raises(ValueError, match="2,001 boxes or contours, the limit is 2,000"):
        find_annotations(metadata(annotations), SIZE, None, print)
