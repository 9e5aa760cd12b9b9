"""What the metadata of samples say, counted."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..dataset.dataset import Dataset
from ..errors import InputError
from ..formats.geometry import resolution

__all__ = ["PARTS", "Counts", "count_metadata", "has_matte", "is_synthetic", "path_of"]

# What a sample may have, as `Counts.parts` calls it.
PARTS = (
    *("image", "synthetic", "cryptomatte", "provenance"),
    *("boxes", "empty boxes", "contours", "tags"),
)


@dataclass
class Counts:
    """What was counted over some samples.

    Each sample counts once for each part, category or text, and equal annotations of a sample
    count once.

    Attributes
    ----------
    parts : Counter of str
        Samples that have each of `PARTS`.
    folders : Counter of str
        Samples by the folder of their metadata file.
    sets : Counter of frozenset of str
        Samples by their set of categories.
    annotations, boxes, contours : Counter of str
        Annotations of each category; those with a box; those with contours.
    repeated : int
        Annotations that equal an earlier one of their sample.
    licenses, copyrights : Counter of str
        Samples with a provenance, by what it says; empty if it does not.
    sizes : Counter of (int, int)
        Samples by the width and height of their source image.
    damaged : dict of int to str
        Rows whose metadata could not be read, and why.
    """

    parts: Counter[str] = field(default_factory=Counter)
    folders: Counter[str] = field(default_factory=Counter)
    sets: Counter[frozenset[str]] = field(default_factory=Counter)
    annotations: Counter[str] = field(default_factory=Counter)
    boxes: Counter[str] = field(default_factory=Counter)
    contours: Counter[str] = field(default_factory=Counter)
    repeated: int = 0
    licenses: Counter[str] = field(default_factory=Counter)
    copyrights: Counter[str] = field(default_factory=Counter)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    damaged: dict[int, str] = field(default_factory=dict)

    def add(self, other: Counts) -> None:
        """Add what was counted over other samples."""
        self.repeated += other.repeated
        for each in fields(self):
            mine = getattr(self, each.name)
            if not isinstance(mine, int):
                mine.update(getattr(other, each.name))


def count_metadata(dataset: Dataset) -> tuple[Counts, NDArray[np.bool_]]:
    """Count what the metadata of some rows say, and return which of them have a cryptomatte.

    Nothing if there are no metadata.
    """
    counts, mattes = Counts(), np.zeros(len(dataset), np.bool_)
    if dataset.metadata is None:
        return counts, mattes
    for place, row in enumerate(dataset.row_numbers.tolist()):
        path = path_of(dataset, place)
        if path is not None:
            counts.folders[path.rpartition("/")[0]] += 1
        try:
            metadata = dataset.abridged[place]
        except InputError as error:
            counts.damaged[row] = error.problem
            continue
        mattes[place] = has_matte(metadata)
        counts.sets[dataset.categories[place]] += 1
        _count_sections(counts, metadata)
        _count_annotations(counts, metadata.get("annotations"))
    return counts, mattes


def path_of(dataset: Dataset, place: int) -> str | None:
    """Return the path of a sample's metadata file, or None if the outputs do not say it."""
    try:
        return dataset.paths[place]
    except InputError:
        return None


def is_synthetic(metadata: dict[str, Any]) -> bool:
    """Whether a sample was rendered: what else there is are photographs."""
    return isinstance(metadata.get("synthetic"), dict)


def has_matte(metadata: dict[str, Any]) -> bool:
    """Whether a sample has a cryptomatte, without which its masks are unknown."""
    return is_synthetic(metadata) and metadata["synthetic"].get("cryptomatte") is not None


def _count_sections(counts: Counts, metadata: dict[str, Any]) -> None:
    provenance = metadata.get("provenance")
    found = {
        "image": isinstance(metadata.get("image"), dict),
        "synthetic": is_synthetic(metadata),
        "cryptomatte": has_matte(metadata),
        "provenance": isinstance(provenance, dict),
    }
    counts.parts.update(part for part, has in found.items() if has)
    if isinstance(provenance, dict):
        counts.licenses[_text(provenance.get("license"))] += 1
        counts.copyrights[_text(provenance.get("copyright"))] += 1
    res = resolution(metadata)
    if isinstance(res, list) and len(res) == 2 and all(map(_is_length, res)):
        counts.sizes[res[0], res[1]] += 1


def _count_annotations(counts: Counts, annotations: Any) -> None:
    found = annotations if isinstance(annotations, list) else []
    objects = [annotation for annotation in found if isinstance(annotation, dict)]
    distinct = {_key(annotation): annotation for annotation in objects}.values()
    counts.repeated += len(objects) - len(distinct)
    parts: set[str] = set()
    for annotation in distinct:
        category = annotation.get("category")
        has_box, has_contours = (annotation.get(key) is not None for key in ("bbox", "contours"))
        if isinstance(category, str):
            counts.annotations[category] += 1
            counts.boxes[category] += has_box
            counts.contours[category] += has_contours
        has = {
            "boxes": has_box,
            "empty boxes": has_box and _is_empty(annotation["bbox"]),
            "contours": has_contours,
            "tags": not has_box and not has_contours,
        }
        parts.update(part for part in has if has[part])
    counts.parts.update(parts)


def _is_empty(box: Any) -> bool:
    return isinstance(box, list) and box[2:] == [0, 0]


def _text(value: Any) -> str:
    if value is None:
        return ""
    try:
        return value if isinstance(value, str) else json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        return f"({type(value).__name__})"


def _key(annotation: dict[Any, Any]) -> str | int:
    """Return what equal annotations have in common."""
    try:
        return repr(annotation)
    except (ValueError, RecursionError):  # a hostile one, that is nested or long without end
        return id(annotation)


def _is_length(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 63
