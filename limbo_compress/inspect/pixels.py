"""The pixels of rows: their values counted, rows that are odd, rows that repeat others."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import deflate
from ..dataset.dataset import Dataset
from ..dataset.srgb import bits, linear_values, srgb_table

__all__ = [
    "ODD",
    "Pixels",
    "channel_curves",
    "channel_statistics",
    "count_pixels",
    "duplicates",
    "image_digest",
]

# Why a row is odd: the number in `Pixels.oddities` is the place here.
ODD = ("", "black", "constant", "not finite")
_BLOCK = 16
_VALUES = 1 << 16
# As the bits of float16 values. NaNs are above infinity, negative values above all others.
_INFINITY, _LARGEST_POSITIVE = 0x7C00, 0x7FFF


@dataclass
class Pixels:
    """What was found in some rows of images and masks.

    Attributes
    ----------
    histogram : ndarray of int, shape (3, 65536)
        How often each float16 value, by its bits, is in each channel.
    digests : ndarray of uint64, shape (rows,)
        A checksum of each image, which equal images share.
    oddities : ndarray of uint8, shape (rows,)
        What is odd about each image, as numbered in `ODD`.
    masks, unknown_masks : Counter of str
        By the name of each mask: rows that it covers a part of; rows that are zeros, but not known
        to be empty.
    """

    histogram: NDArray[np.int64]
    digests: NDArray[np.uint64]
    oddities: NDArray[np.uint8]
    masks: Counter[str] = field(default_factory=Counter)
    unknown_masks: Counter[str] = field(default_factory=Counter)

    @classmethod
    def empty(cls, rows: int) -> Pixels:
        return cls(
            np.zeros((3, _VALUES), np.int64), np.zeros(rows, np.uint64), np.zeros(rows, np.uint8)
        )

    def put(self, place: int, other: Pixels) -> None:
        """Put in what was found in the rows from a place on."""
        rows = slice(place, place + len(other.digests))
        self.histogram += other.histogram
        self.digests[rows] = other.digests
        self.oddities[rows] = other.oddities
        self.masks.update(other.masks)
        self.unknown_masks.update(other.unknown_masks)


def count_pixels(dataset: Dataset, has_matte: NDArray[np.bool_]) -> Pixels:
    """Count what is in the images and masks of some rows, if there are any.

    `has_matte` says which of them are known to have a cryptomatte.
    """
    count = len(dataset)
    found = Pixels.empty(count)
    images = dataset.images
    for at in range(0, count if images is not None else 0, _BLOCK):
        assert images is not None
        block = bits(images[at : at + _BLOCK])
        found.histogram += _histogram(block)
        found.oddities[at : at + _BLOCK] = [_oddity(row) for row in block]
        found.digests[at : at + _BLOCK] = [image_digest(row) for row in block]
    for name, mask in dataset.masks.items():
        covers = np.array([row.max(initial=0) > 0 for row in mask], np.bool_)
        found.masks[name] = int(np.count_nonzero(covers))
        found.unknown_masks[name] = int(np.count_nonzero(~covers & ~has_matte))
    return found


def _histogram(block: NDArray[np.uint16]) -> NDArray[np.int64]:
    pixels = block.reshape(-1, block.shape[-1])
    return np.stack([np.bincount(channel, minlength=_VALUES) for channel in pixels.T])


def _oddity(row: NDArray[np.uint16]) -> int:
    # Without its sign, the bits of a float16 are in the order of its value.
    largest = int(row.max(initial=0))
    if largest > _LARGEST_POSITIVE:
        largest = int((row & _LARGEST_POSITIVE).max())
    if largest >= _INFINITY:
        return ODD.index("not finite")
    if largest == 0:
        return ODD.index("black")
    return ODD.index("constant") if _is_constant(row) else 0


def _is_constant(row: NDArray[np.uint16]) -> bool:
    first = row[:1, :1]
    return bool((row[0] == first).all()) and bool((row == first).all())  # mostly the first suffices


def image_digest(row: NDArray[Any]) -> int:
    """Return a checksum of an image, of 64 bits, which equal images share."""
    # Two checksums of 32 bits take a tenth of the time of a hash of 64.
    data = np.ascontiguousarray(row)
    half = len(data) // 2
    return deflate.crc32(data[:half].data) << 32 | deflate.crc32(data[half:].data)


def channel_statistics(
    histogram: NDArray[np.int64], is_srgb: bool
) -> tuple[list[float], list[float]]:
    """Return the mean and the standard deviation of each channel, over its finite values.

    `is_srgb` converts them from linear light to sRGB.
    """
    values, counts = _values(is_srgb), np.where(_is_finite(), histogram, 0)
    total = np.maximum(counts.sum(axis=1), 1)
    mean = counts @ values / total
    # In two passes: the difference of two large sums would lose digits.
    squares = [count @ (values - center) ** 2 for count, center in zip(counts, mean, strict=True)]
    deviation = np.sqrt(np.array(squares) / total)
    return mean.tolist(), deviation.tolist()


def channel_curves(histogram: NDArray[np.int64], bins: int = 64) -> list[list[int]]:
    """Count the finite values of each channel in equal bins of sRGB from 0 to 1.

    Values outside count in the first or the last bin.
    """
    place = np.clip(_values(True) * bins, 0, bins - 1).astype(np.intp)
    counts = np.where(_is_finite(), histogram, 0)
    return [np.bincount(place, count, bins).astype(int).tolist() for count in counts]


def _is_finite() -> NDArray[np.bool_]:
    return (np.arange(_VALUES) & _LARGEST_POSITIVE) < _INFINITY


def _values(is_srgb: bool) -> NDArray[np.float64]:
    """The value of each float16, by its bits; 0 where it is not finite."""
    values = srgb_table() if is_srgb else linear_values()
    return np.where(_is_finite(), values, 0).astype(np.float64)


def duplicates(digests: NDArray[np.uint64]) -> list[NDArray[np.intp]]:
    """Return the places of each image that is there more than once, in the order of the first.

    Examples
    --------
    >>> [places.tolist() for places in duplicates(np.array([7, 5, 9, 5, 7, 5], np.uint64))]
    [[0, 4], [1, 3, 5]]
    """
    _, number, counts = np.unique(digests, return_inverse=True, return_counts=True)
    repeated = np.flatnonzero(counts[number] > 1)
    order = repeated[np.argsort(number[repeated], kind="stable")]
    groups = np.split(order, np.flatnonzero(np.diff(number[order])) + 1)
    return sorted((group for group in groups if group.size), key=lambda group: int(group[0]))
