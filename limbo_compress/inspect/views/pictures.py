"""Rows as people see them: 8-bit sRGB, and what is where, in pixels of the row."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...dataset.dataset import Dataset
from ...dataset.srgb import srgb8
from ...errors import InputError, missing_extra, shown
from ...formats import geometry
from ...formats.geometry import Box, Contour
from ...imaging.decode import opencv
from ..metadata_counts import has_matte

__all__ = ["Color", "ShownRow", "check_pictures", "colors", "fitted", "picture", "read_row"]

Floats = NDArray[np.float32]
Color = tuple[int, int, int]

# Bright and far apart, including for color-blind eyes (after Okabe and Ito).
_COLOURS: tuple[Color, ...] = (
    *((230, 159, 0), (86, 180, 233), (0, 200, 140), (240, 228, 66), (70, 130, 255)),
    *((255, 110, 40), (230, 130, 190), (170, 255, 90), (190, 140, 255), (255, 90, 90)),
)


@dataclass(frozen=True)
class ShownRow:
    """A row to be shown.

    Attributes
    ----------
    number : int
        Among all rows of the prefixes.
    categories : tuple of str
        Sorted.
    metadata : dict or None
        As `Dataset.compact` has them; None if there are none, or they cannot be read.
    boxes : list of Box
    contours : list of Contour
    masks : dict of str to list of ndarray of float32, shape (points, 2)
        The outlines of each mask, and of its holes, as polygons.
    has_matte : bool
        Otherwise, what masks do not cover is unknown.
    problem : str
        Why there are no metadata, or not all boxes and contours; mostly empty.
    """

    number: int
    categories: tuple[str, ...] = ()
    metadata: dict[str, Any] | None = None
    boxes: list[Box] = field(default_factory=list)
    contours: list[Contour] = field(default_factory=list)
    masks: dict[str, list[Floats]] = field(default_factory=dict)
    has_matte: bool = False
    problem: str = ""


def check_pictures(dataset: Dataset) -> None:
    """Check that a data set can be drawn."""
    try:
        import PIL.Image  # noqa: F401
    except ImportError as error:
        raise missing_extra(f"pictures need Pillow: {error}", "inspect") from error
    if dataset.images is None and not dataset.masks:
        raise InputError("there are no images or masks, so there is nothing to show")


def picture(dataset: Dataset, place: int) -> NDArray[np.uint8]:
    """Return the image of a row in sRGB; if there are no images, its first mask in gray."""
    if dataset.images is not None:
        return srgb8(dataset.images[place])
    mask = np.asarray(next(iter(dataset.masks.values()))[place])
    return np.repeat(np.clip(255 * mask + 0.5, 0, 255).astype(np.uint8), 3, axis=2)


def fitted(size: tuple[int, int], side: int) -> tuple[int, int]:
    """Return a width and height in the same ratio, of which the longer one is `side`."""
    scale = side / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def colors(categories: Iterable[str]) -> dict[str, Color]:
    """Choose the color of each category, by its place in the order of their names."""
    return {name: _COLOURS[i % len(_COLOURS)] for i, name in enumerate(sorted(categories))}


def read_row(dataset: Dataset, place: int) -> ShownRow:
    """Read what is known about a row; what cannot be read is missing."""
    number = int(dataset.row_numbers[place])
    masks = {name: _outlines(mask[place]) for name, mask in dataset.masks.items()}
    if dataset.metadata is None:
        return ShownRow(number, masks=masks)
    try:
        metadata = dataset.compact[place]
        categories = tuple(sorted(dataset.categories[place]))
    except InputError as error:
        return ShownRow(number, masks=masks, problem=shown(error.problem))
    row = ShownRow(number, categories, metadata, masks=masks, has_matte=has_matte(metadata))
    problems: set[str] = set()
    try:
        size = dataset.row_size
        with np.errstate(over="ignore"):  # what is far outside may be infinitely far
            boxes = geometry.boxes(metadata, size, problems.add)
            contours = geometry.contours(metadata, size, problems.add)
    except ValueError as error:
        return replace(row, problem=shown(str(error)))
    problem = "; ".join(sorted(problems))
    return replace(row, boxes=boxes, contours=contours, problem=problem)


def _outlines(mask: Floats) -> list[Floats]:
    """Return polygons around what a mask covers, shape (points, 2), in pixels of the row.

    That is where it covers at least half of a pixel, or half as much as anywhere in the row.
    """
    largest = float(mask.max(initial=0))
    if not 0 < largest < np.inf:
        return []
    cv2 = opencv()
    covered = (mask[..., 0] >= min(0.5, largest / 2)).astype(np.uint8)
    found, _ = cv2.findContours(covered, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    # OpenCV counts from the center of the first pixel.
    return [polygon.reshape(-1, 2).astype(np.float32) + np.float32(0.5) for polygon in found]
