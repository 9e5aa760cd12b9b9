"""Boxes and contours of a sample's annotations, in the pixels of its row."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..formats.pickling import Points
from .facts import resolution

__all__ = ["Box", "Contour", "boxes", "contours", "inside", "resolution"]

Floats = NDArray[np.float32]
Size = tuple[int, int]
# Called with what is wrong with an annotation that is left out.
LeftOut = Callable[[str], object]

# Boxes are rounded to this many decimals of a pixel before their area is checked.
_DECIMALS = 2
_BOX_MODE = "XYWH_ABS"
_CONTOUR_MODE = "XY_ABS"
# The specification's text writes the second, its examples and the data the first.
_CONTOUR_MODE_KEYS = ("contour_mode", "contours_mode")


class Box(NamedTuple):
    """A bounding box.

    Attributes
    ----------
    category : str or None
    xyxy : ndarray of float32, shape (4,)
        Left, top, right and bottom, in pixels of the row.
    """

    category: str | None
    xyxy: Floats


class Contour(NamedTuple):
    """The outline of an object.

    Attributes
    ----------
    category : str or None
    polygons : tuple of ndarray of float32, shape (points, 2)
        Its outlines and its holes as they are in the metadata, each a closed line of points
        (x, y) in pixels of the row. By the even-odd rule, a point in a hole is outside.
    """

    category: str | None
    polygons: tuple[Floats, ...]


def boxes(metadata: dict[str, Any], size: Size, left_out: LeftOut) -> list[Box]:
    """Return the distinct boxes of a sample whose row has this width and height, in pixels.

    A box without a mode is left out. Other metadata that do not say boxes in the way that Limbo
    does raise a `ValueError`.
    """
    annotated = [
        (category, tuple(_numbers(box, "bbox", (4,)).tolist()))
        for category, box in _annotated(metadata, "bbox", ("bbox_mode",), _BOX_MODE, left_out)
    ]
    if not annotated:
        return []
    distinct = list(dict.fromkeys(annotated))
    corners = np.array([xywh for _, xywh in distinct])
    with np.errstate(over="ignore"):  # what is far outside may be infinitely far
        corners[:, 2:] += corners[:, :2]
        xyxy = (corners * np.tile(_scale(metadata, size), 2)).astype(np.float32)
    return [Box(category, box) for (category, _), box in zip(distinct, xyxy, strict=True)]


def inside(xyxy: Floats, size: Size) -> NDArray[np.float64] | None:
    """Cut a box off at the edges of the row, to a hundredth of a pixel; None if no area is left."""
    corners = xyxy.astype(np.float64).reshape(2, 2).clip(0, size).round(_DECIMALS)
    return corners.ravel() if (corners[1] > corners[0]).all() else None


def contours(metadata: dict[str, Any], size: Size, left_out: LeftOut) -> list[Contour]:
    """Return the distinct contours of a sample, as `boxes` returns its boxes."""
    found: dict[tuple[Any, ...], Contour] = {}
    annotated = _annotated(metadata, "contours", _CONTOUR_MODE_KEYS, _CONTOUR_MODE, left_out)
    for category, lines in annotated:
        if not isinstance(lines, list):
            raise ValueError("contours are not a list of polygons")
        points = [_numbers(line, "a contour", (-1, 2)) for line in lines if line]
        scale = _scale(metadata, size)
        polygons = tuple((polygon * scale).astype(np.float32) for polygon in points)
        key = (category, *(polygon.tobytes() for polygon in points))
        found.setdefault(key, Contour(category, polygons))
    return list(found.values())


def _annotated(
    metadata: dict[str, Any],
    key: str,
    mode_keys: tuple[str, ...],
    mode: str,
    left_out: LeftOut,
) -> Iterator[tuple[str | None, Any]]:
    """Yield the category and the value of each annotation that has such a key."""
    annotations = metadata.get("annotations", [])
    if not isinstance(annotations, list):
        raise ValueError("annotations are not a list")
    for annotation in annotations:
        if not isinstance(annotation, dict) or annotation.get(key) is None:
            continue
        mode_key = next((name for name in mode_keys if name in annotation), mode_keys[0])
        found = annotation.get(mode_key)
        if found is None:
            left_out(f"annotations with {key} but without {mode_key} are left out")
            continue
        if found != mode:
            raise ValueError(f"{mode_key} is {found!r}, not {mode!r}")
        category = annotation.get("category")
        yield category if isinstance(category, str) else None, annotation[key]


def _scale(metadata: dict[str, Any], size: Size) -> NDArray[np.float64]:
    """By how much the row is smaller than the image, in x and y."""
    res = resolution(metadata)
    pixels = _numbers(res, "image.res", (2,))
    if not (pixels > 0).all():
        raise ValueError(f"image.res is {res}")
    scale: NDArray[np.float64] = np.array(size) / pixels
    return scale


def _numbers(values: Any, what: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Convert nested lists of numbers to an array of a shape, where -1 means any length."""
    try:
        numbers = _array(values)
    except (TypeError, ValueError, OverflowError):
        numbers = np.empty(())
    is_alike = numbers.ndim == len(shape) and all(
        wanted in (-1, found) for wanted, found in zip(shape, numbers.shape, strict=True)
    )
    if not is_alike or not np.isfinite(numbers).all():
        raise ValueError(f"{what} is not made of {shape[-1]} numbers")
    return numbers


def _array(values: Any) -> NDArray[np.float64]:
    types = set(map(type, values))
    if Points in types:
        return np.concatenate(
            [value.array() if isinstance(value, Points) else _array([value]) for value in values]
        )
    if types == {list} and set(map(len, values)) == {2}:
        # Points, read one number after another, take half the time.
        flat = chain.from_iterable(values)
        return np.fromiter(flat, np.float64, 2 * len(values)).reshape(-1, 2)
    return np.array(values, np.float64)
