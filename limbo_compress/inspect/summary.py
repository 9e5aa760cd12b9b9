"""What is in the outputs of prefixes: one value for people, machines and the gallery."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import asdict, dataclass
from functools import partial
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from .. import filenames, vocabulary
from ..dataset.dataset import Dataset
from ..dataset.provenance import provenance
from ..oserrors import machine_errors
from ..run.executor import Progress
from .metadata_counts import PARTS, Counts, count_metadata
from .pixels import (
    ODD,
    Pixels,
    channel_curves,
    channel_statistics,
    count_pixels,
    duplicates,
)
from .stretches import in_stretches

__all__ = ["Category", "Channels", "File", "Summary", "describe_files", "summarize"]

# Of a set with thousands of categories, only the most frequent ones are paired.
_PAIRED = 40
_MAX_STRETCH = 256
_MIN_STRETCH = 16


@dataclass(frozen=True)
class File:
    """A file of a prefix.

    Attributes
    ----------
    path : str
    kind : str
        ``images``, ``masks-NAME`` or ``metadata``.
    shape : tuple of int
    dtype : str
    bytes : int
    """

    path: str
    kind: str
    shape: tuple[int, ...]
    dtype: str
    bytes: int


class Category(NamedTuple):
    """How often a category is there: samples, and distinct annotations of each kind."""

    samples: int
    annotations: int
    boxes: int
    contours: int


@dataclass(frozen=True)
class Channels:
    """Values of red, green and blue over all pixels, for ``Normalize``.

    Attributes
    ----------
    linear_mean, linear_std, srgb_mean, srgb_std : list of float
    histogram : list of list of int
        Pixels of each channel in equal bins of sRGB.
    """

    linear_mean: list[float]
    linear_std: list[float]
    srgb_mean: list[float]
    srgb_std: list[float]
    histogram: list[list[int]]


@dataclass(frozen=True)
class Summary:
    """What is in the outputs.

    Attributes
    ----------
    files : list of File
        All of each prefix; what follows is about the chosen rows only.
    total, rows : int
        How many rows there are, and how many are chosen.
    provenance : dict of str to str
        For each prefix whose metadata say it, the command that would make its outputs again.
    has_metadata : bool
        Otherwise, what the metadata say is empty.
    has_paths : bool
        Whether the metadata have an index, which holds the paths of samples and checksums.
    damaged : dict of int to str
        Rows whose metadata do not match their checksum or cannot be read, and why.
    campaigns : dict of str to int
        Samples by the folder of their metadata file.
    categories : dict of str to Category
        In the order of their names.
    mixed : dict of str to list of str
        Categories that may mean one thing, such as 48 and 48G, by the set of
        `limbo_compress.vocabulary` that has all names of it: ``@type-48``.
    together : list of (str, str, int)
        Samples that have both of two categories; for the most frequent categories.
    parts : dict of str to int
        Samples that have an image, boxes, and so on.
    masks, unknown_masks : dict of str to int
        Rows of which each mask covers a part; rows of which it is zeros, but not known to be empty:
        their samples have no cryptomatte, or no metadata that can be read.
    repeated : int
        Annotations that equal an earlier one of their sample; they do not count elsewhere.
    licenses, copyrights : dict of str to int
        Samples with a provenance, by what it says.
    sizes : list of (int, int, int)
        Width and height of source images, and how many samples have it.
    channels : Channels or None
        None if there are no images, or no finite value in them.
    odd : dict of str to list of int
        Rows that are all black, constant, or have values that are not finite.
    duplicates : list of list of int
        Rows with the same image.
    """

    files: list[File]
    total: int
    rows: int
    provenance: dict[str, str]
    has_metadata: bool
    has_paths: bool
    damaged: dict[int, str]
    campaigns: dict[str, int]
    categories: dict[str, Category]
    mixed: dict[str, list[str]]
    together: list[tuple[str, str, int]]
    parts: dict[str, int]
    masks: dict[str, int]
    unknown_masks: dict[str, int]
    repeated: int
    licenses: dict[str, int]
    copyrights: dict[str, int]
    sizes: list[tuple[int, int, int]]
    channels: Channels | None
    odd: dict[str, list[int]]
    duplicates: list[list[int]]

    def as_json(self) -> dict[str, Any]:
        """Return it as values that JSON has."""
        named = {name: found._asdict() for name, found in self.categories.items()}
        return asdict(self) | {"categories": named}


@machine_errors()
def summarize(
    dataset: Dataset, progress: Progress | None = None, *, workers: int | None = None
) -> Summary:
    """Inspect all that the rows of a data set hold.

    Memory does not grow with the size of rows, and by some 30 bytes for each row.

    Parameters
    ----------
    dataset : Dataset
    progress : callable, optional
        Called as ``progress(done, rows)``.
    workers : int, optional
        Number of processes; by default, one for each CPU that this process may use.

    Returns
    -------
    Summary

    Raises
    ------
    InputError
        If the outputs cannot be read. Damaged metadata of single rows are counted instead.
    """
    count = len(dataset)
    counts, pixels = Counts(), Pixels.empty(count)
    size = min(_MAX_STRETCH, max(_MIN_STRETCH, count // 16))
    for place, (found, seen) in in_stretches(_look, dataset, size, progress, workers):
        counts.add(found)
        pixels.put(place, seen)
    return Summary(
        files=describe_files(dataset),
        total=sum(len(rows) for _, rows in dataset.prefixes),
        rows=count,
        provenance={each.prefix: each.line for each in provenance(dataset) if each.line},
        **_metadata_fields(counts, dataset),
        **_pixel_fields(pixels, dataset),
    )


def _look(dataset: Dataset, _: int) -> tuple[Counts, Pixels]:
    counts, has_matte = count_metadata(dataset)
    return counts, count_pixels(dataset, has_matte)


def describe_files(dataset: Dataset) -> list[File]:
    """Describe the files of each prefix."""
    files = []
    for prefix, rows in dataset.prefixes:
        describe = partial(_describe, prefix)
        for name in rows.array_names:
            array = rows.rows(name)
            files.append(describe(filenames.array_file(name), name, array.shape, array.dtype.name))
        if rows.metadata is not None:
            files.append(describe(filenames.METADATA, "metadata", (len(rows),), "dict"))
    return files


def _describe(prefix: str, file_name: str, kind: str, shape: tuple[int, ...], dtype: str) -> File:
    path = f"{prefix}-{file_name}"
    return File(path, kind, shape, dtype, os.stat(path).st_size)


def _metadata_fields(counts: Counts, dataset: Dataset) -> dict[str, Any]:
    samples: Counter[str] = Counter()
    for categories, rows in counts.sets.items():
        samples.update(dict.fromkeys(categories, rows))
    return {
        "has_metadata": dataset.metadata is not None,
        "has_paths": bool(counts.folders),
        "damaged": dict(sorted(counts.damaged.items())),
        "campaigns": dict(sorted(counts.folders.items())),
        "categories": {
            name: Category(
                samples[name], counts.annotations[name], counts.boxes[name], counts.contours[name]
            )
            for name in sorted(samples)
        },
        "mixed": vocabulary.mixed(samples),
        "together": _together(counts.sets, samples),
        "parts": {part: counts.parts[part] for part in PARTS} if dataset.metadata else {},
        "repeated": counts.repeated,
        "licenses": dict(_ranked(counts.licenses)),
        "copyrights": dict(_ranked(counts.copyrights)),
        "sizes": [(*size, rows) for size, rows in _ranked(counts.sizes)],
    }


def _ranked(counts: Counter[Any]) -> list[tuple[Any, int]]:
    """Return the most common first; of equal ones, those that sort first, whoever counted them."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _together(sets: Counter[frozenset[str]], samples: Counter[str]) -> list[tuple[str, str, int]]:
    frequent = {name for name, _ in _ranked(samples)[:_PAIRED]}
    pairs: Counter[tuple[str, str]] = Counter()
    for categories, rows in sets.items():
        pairs.update(dict.fromkeys(combinations(sorted(categories & frequent), 2), rows))
    return [(first, second, rows) for (first, second), rows in sorted(pairs.items())]


def _pixel_fields(pixels: Pixels, dataset: Dataset) -> dict[str, Any]:
    has_images = dataset.images is not None
    rows = dataset.row_numbers
    odd = {
        reason: rows[np.flatnonzero(pixels.oddities == number)].tolist()
        for number, reason in enumerate(ODD)
        if reason
    }
    groups = duplicates(pixels.digests) if has_images else []
    return {
        "masks": dict(pixels.masks),
        "unknown_masks": dict(pixels.unknown_masks),
        "channels": _channels(pixels),
        "odd": odd if has_images else {},
        "duplicates": [rows[group].tolist() for group in groups],
    }


def _channels(pixels: Pixels) -> Channels | None:
    curves = channel_curves(pixels.histogram)
    if not any(map(any, curves)):
        return None
    linear, srgb = (channel_statistics(pixels.histogram, is_srgb) for is_srgb in (False, True))
    return Channels(*linear, *srgb, curves)
