"""What is asked of every sample."""

from __future__ import annotations

from typing import Any

import pytest

from limbo_compress.formats.facts import facts

ALWAYS = {"synthetic": False, "has_matte": False, "boxes": 0, "contours": 0}


def box(category: Any, *xywh: Any) -> dict[str, Any]:
    return {"category": category, "bbox": list(xywh), "bbox_mode": "XYWH_ABS"}


def contour(category: Any, *lines: Any) -> dict[str, Any]:
    return {"category": category, "contours": list(lines), "contour_mode": "XY_ABS"}


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({}, {}),
        ({"image": {"res": [1201, 804]}}, {"width": 1201, "height": 804}),
        ({"image": {"res": [[1201, 804]]}}, {"width": 1201, "height": 804}),
        ({"image": {"res": [1201]}}, {}),
        ({"image": {"res": [True, 804]}}, {}),
        ({"image": {"res": [-1, 804]}}, {}),
        ({"image": {"res": [1, 1 << 70]}}, {}),
        ({"image": {"res": "ab"}}, {}),
        ({"image": [1, 2], "provenance": ["CC"], "synthetic": [1], "annotations": "ab"}, {}),
        (
            {"provenance": {"license": "CC", "license-uri": "u", "copyright": "", "uri": None}},
            {"license": "CC", "license_uri": "u", "copyright": ""},
        ),
        ({"synthetic": {}}, {"synthetic": True}),
        ({"synthetic": {"cryptomatte": None}}, {"synthetic": True}),
        (
            {"synthetic": {"cryptomatte": {"manifest": []}}},
            {"synthetic": True, "has_matte": True},
        ),
    ],
)
def test_what_metadata_say_is_a_fact(metadata: Any, expected: dict[str, Any]) -> None:
    assert facts(metadata) == ALWAYS | expected


@pytest.mark.parametrize(
    ("annotations", "boxes", "contours"),
    [
        ([box("a", 1, 2, 3, 4)] * 3, 1, 0),
        ([box("a", 1, 2, 3, 4), box("a", 1.0, 2, 3, 4), box("b", 1, 2, 3, 4)], 2, 0),
        ([box("a", 1, 2, 3, 4), box("a", 1, 2, 3, 5)], 2, 0),
        ([contour("a", [[1, 2], [3, 4]], [[5, 6]])] * 4, 0, 1),
        ([contour("a", [[1, 2], [3, 4]]), contour("a", [[1, 2], [3, 4]], [])], 0, 1),
        ([contour("a", [[1, 2], [3, 4]]), contour("a", [[1, 2], [3, 5]])], 0, 2),
        ([{"category": "a", "bbox": None, "contours": None}, None, 7], 0, 0),
        ([contour("a", [[1, n // 2]]) for n in range(6)], 0, 3),
        ([contour(["a"], [[1, 2]]), contour(None, [[1, 2]]), contour("a", [[1, 2]])], 0, 2),
        # What is not made of numbers cannot be compared.
        ([{"bbox": 5}, {"bbox": 5}, {"bbox": [[1], 2]}, {"contours": [[[[1]]]]}], 3, 1),
        ([{"contours": [{"x": 1}]}, {"contours": [{"x": 1}]}, {"contours": ["a", [1]]}], 0, 3),
    ],
)
def test_equal_annotations_count_once(annotations: list[Any], boxes: int, contours: int) -> None:
    found = facts({"annotations": annotations})
    assert (found["boxes"], found["contours"]) == (boxes, contours)


def test_parameters_that_are_one_value_are_facts_in_alphabetical_order() -> None:
    parameters = {
        "/b": 1,
        "/long": 1 << 70,
        "/a": "x",
        "/list": [1, 2],
        "/none": None,
        "/object": {},
        "width": True,
        "a": "hidden by /a",
    }
    found = facts({"synthetic": {"parameters": parameters}})
    expected = {"/a": "x", "/b": 1, "/long": str(1 << 70), "/width": True}
    assert list(found.items())[-4:] == list(expected.items())
    assert found == ALWAYS | expected | {"synthetic": True}
