"""What a sample's metadata say about a picture: each object once, with its box and its outline.

Limbo notes the box and the contour of an object in separate annotations, and repeats some of them.
Here they are one annotation again.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_masks

from .. import limits
from ..formats import geometry
from ..formats.geometry import Box, Contour
from ..formats.index import categories

__all__ = [
    "XYWH",
    "Annotation",
    "Size",
    "find_annotations",
    "is_kept",
    "printable",
    "rectangle",
]

Floats = NDArray[np.float32]
Polygons = Sequence[Floats]
Size = tuple[int, int]
XYWH = tuple[float, float, float, float]

# Points that are closer than this to a straight line, in pixels, are left out: contours have a
# point wherever they cross a pixel of the source image.
_TOLERANCE = 0.1
# A box and a contour are of one object if they share more than this of their union.
_MIN_OVERLAP = 0.5
_DECIMALS = 2


@dataclass(frozen=True)
class Annotation:
    """An object in a picture, or a tag of the whole picture.

    Attributes
    ----------
    category : str or None
    label : str or None
        The class that it belongs to; its category if no labels were asked for.
    box : (float, float, float, float) or None
        Left, top, width and height in pixels, inside of the picture; None for a tag.
    area : float or None
        In pixels: of its mask, or of its box if it has no contour.
    polygons : sequence of list of float
        Its contour: lines ``[x, y, x, y, …]`` inside of the picture, of which some may be holes, by
        the even-odd rule. Empty if it has no contour.
    rle : dict, optional
        Its mask as COCO's compressed RLE, if the contour has holes.
    """

    category: str | None
    label: str | None
    box: XYWH | None = None
    area: float | None = None
    polygons: Sequence[list[float]] = ()
    rle: dict[str, Any] | None = None

    @property
    def segmentation(self) -> dict[str, Any] | list[list[float]] | None:
        """As in COCO: an RLE if the contour has holes, else polygons; None without a contour."""
        return self.rle or list(self.polygons) or None


def find_annotations(
    metadata: dict[str, Any],
    size: Size,
    labels: Mapping[str, str] | None,
    left_out: geometry.LeftOut,
) -> list[Annotation]:
    """Return the distinct annotations of a sample: objects, then tags.

    What lies outside of the picture, which has this width and height in pixels, is cut off; objects
    of which nothing is left are left out. `labels` has the label of each category that belongs to
    one; others are left out. So are boxes and contours without a mode, of which `left_out` is told.

    Raises
    ------
    ValueError
        If boxes or contours are not in Limbo's modes, or are damaged.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # absurd numbers end up outside
        found = list(_distinct(metadata, size, left_out))
    if labels is not None:
        found = _with_labels(found, labels)
    return [_printable(annotation) for annotation in found]


def _distinct(
    metadata: dict[str, Any], size: Size, left_out: geometry.LeftOut
) -> Iterator[Annotation]:
    tags = dict.fromkeys(categories(metadata))
    boxes = geometry.boxes(metadata, size, left_out)
    contours = geometry.contours(metadata, size, left_out)
    most = max(len(boxes), len(contours), *(len(contour.polygons) for contour in contours))
    if most > limits.OBJECTS:
        raise ValueError(
            f"it has {most:,} boxes or contours, the limit is {limits.OBJECTS:,}; leave the row out"
            " with Dataset.select"
        )
    for category, xyxy, polygons in _objects(boxes, contours):
        tags.pop(category or "", None)
        corners = geometry.inside(xyxy, size)
        if corners is not None:
            yield _annotation(category, _xywh(corners), polygons, size)
    for tag in tags:
        yield Annotation(tag, tag)


def _with_labels(found: Sequence[Annotation], labels: Mapping[str, str]) -> list[Annotation]:
    """Keep what belongs to a label, and only one object of each label with the same box.

    An object may be noted as 48G and as 48, which one label can mean both.
    """
    kept: dict[tuple[str, XYWH | int], Annotation] = {}
    for number, annotation in enumerate(found):
        if annotation.category is not None and annotation.category in labels:
            label = labels[annotation.category]
            kept.setdefault((label, annotation.box or number), replace(annotation, label=label))
    return list(kept.values())


def _printable(annotation: Annotation) -> Annotation:
    category, label = (text and printable(text) for text in (annotation.category, annotation.label))
    return replace(annotation, category=category, label=label)


def _objects(
    boxes: Sequence[Box], contours: Sequence[Contour]
) -> Iterator[tuple[str | None, Floats, Polygons]]:
    """Yield the category, the bounds and the outline of each object."""
    contours = [contour for contour in contours if contour.polygons]
    bounds = [_bounds(contour.polygons) for contour in contours]
    pairs = _pairs(boxes, contours, bounds)
    for number, contour in enumerate(contours):
        box = pairs.get(number)
        yield contour.category, bounds[number] if box is None else boxes[box].xyxy, contour.polygons
    paired = set(pairs.values())
    for number, (category, xyxy) in enumerate(boxes):
        if number not in paired:
            yield category, xyxy, ()


def _bounds(polygons: Polygons) -> Floats:
    points = np.concatenate(polygons)
    return np.concatenate([points.min(axis=0), points.max(axis=0)])


def _pairs(
    boxes: Sequence[Box], contours: Sequence[Contour], bounds: Sequence[Floats]
) -> dict[int, int]:
    """Find the box of each contour: those that overlap most first, each at most once."""
    corners = np.array([box.xyxy for box in boxes], np.float64).reshape(-1, 4)
    overlaps = np.zeros((len(contours), len(boxes)))
    for number, (contour, bound) in enumerate(zip(contours, bounds, strict=True)):
        is_same = np.array([box.category == contour.category for box in boxes], np.bool_)
        overlaps[number, is_same] = _overlaps(bound.astype(np.float64), corners[is_same])
    candidates = np.flatnonzero(overlaps > _MIN_OVERLAP)
    best = np.argsort(-overlaps.ravel()[candidates], kind="stable")
    pairs: dict[int, int] = {}
    taken: set[int] = set()
    for candidate in candidates[best].tolist():
        number, box = divmod(candidate, len(boxes))
        if number not in pairs and box not in taken:
            pairs[number] = box
            taken.add(box)
    return pairs


def _overlaps(first: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union of a box with others, x1, y1, x2, y2; 0 if that is not a number."""
    corners = np.minimum(first[2:], others[:, 2:]) - np.maximum(first[:2], others[:, :2])
    shared = np.prod(corners.clip(0), axis=1)
    areas = np.prod((others[:, 2:] - others[:, :2]).clip(0), axis=1)
    area = np.prod((first[2:] - first[:2]).clip(0))
    overlaps: NDArray[np.float64] = np.nan_to_num(shared / (area + areas - shared))
    return overlaps


def _xywh(corners: NDArray[np.float64]) -> XYWH:
    left, top, right, bottom = corners.tolist()
    return left, top, round(right - left, _DECIMALS), round(bottom - top, _DECIMALS)


def _annotation(category: str | None, box: XYWH, polygons: Polygons, size: Size) -> Annotation:
    outline = [line for polygon in polygons if len(line := _simplified(polygon, size)) >= 3]
    if not outline:
        return Annotation(category, category, box, round(box[2] * box[3], _DECIMALS))
    lines: list[list[float]] = [line.ravel().tolist() for line in outline]
    width, height = size
    masks = coco_masks.frPyObjects(lines, height, width)
    has_holes = _has_holes(outline)
    mask = _even_odd(masks) if has_holes else coco_masks.merge(masks)
    area = float(coco_masks.area(mask))
    rle = {"size": [height, width], "counts": mask["counts"].decode("ascii")}
    return Annotation(category, category, box, area, lines, rle if has_holes else None)


def _simplified(polygon: Floats, size: Size) -> NDArray[np.float64]:
    """Leave out points that do not matter, and what is outside of the picture."""
    extent = np.array(size, np.float32)
    line = cv2.approxPolyDP(polygon.clip(-extent, 2 * extent), _TOLERANCE, closed=True)
    inside = _cut(line.reshape(-1, 2).astype(np.float64), size)
    return inside.clip(0, size).round(_DECIMALS) + 0.0  # not -0.0


def _cut(line: NDArray[np.float64], size: Size) -> NDArray[np.float64]:
    """Cut a polygon off at the edges of the picture (Sutherland and Hodgman, 1974).

    Pieces of it stay joined along an edge, where nothing is between them.
    """
    for axis, edge, sign in ((0, 0, 1), (0, size[0], -1), (1, 0, 1), (1, size[1], -1)):
        depth = sign * (line[:, axis] - edge)
        if (depth >= 0).all():  # as of most
            continue
        step, next_depth = np.roll(line, -1, axis=0) - line, np.roll(depth, -1)
        crosses = (depth < 0) != (next_depth < 0)
        share = np.divide(depth, depth - next_depth, out=np.zeros_like(depth), where=crosses)
        both = np.stack([line, line + share[:, None] * step], axis=1)
        line = both[np.stack([depth >= 0, crosses], axis=1)]
    return line


def _has_holes(outline: Sequence[NDArray[np.float64]]) -> bool:
    """Whether a line is inside of another one. Lines of a contour do not cross.

    Those that touch may do so by the tolerance of both, so that is not enough.
    """
    lines = [line.astype(np.float32) for line in outline]
    bounds = np.array([_bounds([line]) for line in lines])
    for outer, bound in zip(lines, bounds, strict=True):
        meets = (bounds[:, :2] < bound[2:]).all(axis=1) & (bounds[:, 2:] > bound[:2]).all(axis=1)
        for number in np.flatnonzero(meets):
            if lines[number] is not outer and any(
                cv2.pointPolygonTest(outer, point, measureDist=True) > 2 * _TOLERANCE
                for point in lines[number].tolist()
            ):
                return True
    return False


def _even_odd(masks: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the mask of the pixels that are in an odd number of masks."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of numpy 2, about pycocotools
        odd = coco_masks.decode(masks[0])
        for mask in masks[1:]:
            odd ^= coco_masks.decode(mask)
    found: dict[str, Any] = coco_masks.encode(odd)
    return found


def rectangle(box: XYWH) -> list[float]:
    """Return a box as a polygon ``[x, y, x, y, …]``."""
    left, top, width, height = box
    right, bottom = round(left + width, _DECIMALS), round(top + height, _DECIMALS)
    return [left, top, right, top, right, bottom, left, bottom]


def is_kept(box: XYWH | None, size: Size, min_box: float, edge_margin: float) -> bool:
    """Whether a box covers enough pixels, and its center is far enough from all edges.

    Tags have no box, and are kept.
    """
    if box is None:
        return True
    left, top, width, height = box
    x, y = left + width / 2, top + height / 2
    distance = min(x, y, size[0] - x, size[1] - y)
    # Exact for numbers of two decimals, so that those at a limit are on its right side.
    return round(width * height, 4) >= min_box and round(distance, 4) >= edge_margin


def printable(text: str) -> str:
    r"""Return a text that every file format can hold: lone surrogates become escapes.

    Examples
    --------
    >>> print(printable("48\udcff"))
    48\udcff
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
