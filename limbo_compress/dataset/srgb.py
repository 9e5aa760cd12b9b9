"""Linear light to sRGB (IEC 61966-2-1), by tables of all values that images may have.

A value's index is its bit pattern. Nothing else reinterprets the bits of images.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..array_kinds import IMAGES

__all__ = ["bits", "linear_values", "srgb", "srgb8", "srgb_table"]


def bits(rows: ArrayLike) -> NDArray[np.uint16]:
    """Return the bit patterns of the values of images."""
    return np.ascontiguousarray(rows, IMAGES.dtype).view(np.uint16)


def linear_values() -> NDArray[np.float16]:
    """Return all values in the order of their bit patterns."""
    return np.arange(1 << 16, dtype=np.uint16).view(IMAGES.dtype)


def srgb(rows: ArrayLike) -> NDArray[np.float16]:
    """Convert rows of images to sRGB. Negative values become 0."""
    # All indices are in the table: "clip" only spares numpy the check.
    return srgb_table().take(bits(rows), mode="clip")


def srgb8(rows: ArrayLike) -> NDArray[np.uint8]:
    """Convert rows of images to 8-bit sRGB. Values that are not numbers become 0."""
    return _levels().take(bits(rows), mode="clip")


@cache
def srgb_table() -> NDArray[np.float16]:
    """Every float16 value of linear light in sRGB (IEC 61966-2-1).

    Returns
    -------
    array of float16, shape (65536,)
        Its index is the bit pattern of the linear value. Negative values become 0.
    """
    with np.errstate(invalid="ignore"):  # signaling NaNs stay NaNs
        light = np.maximum(linear_values().astype(np.float64), 0)
        return _curve(light).astype(IMAGES.dtype)


@cache
def _levels() -> NDArray[np.uint8]:
    with np.errstate(invalid="ignore"):  # signaling NaNs
        light = np.nan_to_num(linear_values().astype(np.float64)).clip(0, 1)
    return np.rint(255 * _curve(light)).astype(np.uint8)


def _curve(light: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
