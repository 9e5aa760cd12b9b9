"""Decoded pixels to linear light, and from there to the row: compiled, or with numpy."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from ..array_kinds import IMAGES
from .decode import Pixels, opencv
from .resample import Doubles, axis_operator, resample

try:
    from . import _resample as compiled
except ImportError:  # installed without a C compiler, or for another kind of CPU
    compiled = None  # type: ignore[assignment]

__all__ = ["ImageRow", "compiled", "fill_row", "linear_light"]

ImageRow = NDArray[np.float16]  # as `IMAGES` says


@cache
def linear_light(gray: bool) -> Doubles:
    """Linear light for each 8-bit value, rounded as the reference rounds it.

    The reference computes in float16 throughout: v / 255 and then, except for gray images, the
    sRGB decoding (IEC 61966-2-1). Here only the power is taken in float64, so that no machine's
    float16 library can make a difference. The 256 results, float16 values in float64, are the
    reference's.
    """
    half = np.float16
    value = np.arange(256).astype(half) / half(255)
    if gray:
        return value.astype(np.float64)
    base = ((value + half(0.055)) / half(1.055)).astype(np.float64)
    power = np.array([x ** float(half(2.4)) for x in base.tolist()]).astype(half)
    return np.where(value <= half(0.04045), value / half(12.92), power).astype(np.float64)


def fill_row(pixels: Pixels, light: Doubles, out: ImageRow) -> None:
    """Convert pixels to linear light, resize them, and write them into a row.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (height, width, 3)
        In C order.
    light : ndarray of float64, shape (256,)
        The linear light of each 8-bit value.
    out : ndarray, shape (height of the row, width of the row, 3)
        In C order. Receives the row, clipped to the range of the pixels' own linear values.
    """
    if compiled is None:
        _fill_row_with_numpy(pixels, light, out)
        return
    height, width, _ = pixels.shape
    order = IMAGES.spline_order
    rows = axis_operator(height, out.shape[0], order)
    columns = axis_operator(width, out.shape[1], order)
    compiled.fill_row(
        pixels,
        height,
        light,
        rows.starts,
        rows.weights,
        columns.starts,
        columns.weights_for_rgb,
        out,
    )


def _fill_row_with_numpy(pixels: Pixels, light: Doubles, out: ImageRow) -> None:
    cv2 = opencv()
    # Plane by plane: both passes of the resampling are then plain matrix products.
    size = (out.shape[1], out.shape[0])
    planes = [_resample_plane(np.asarray(plane), light, size) for plane in cv2.split(pixels)]
    resized = np.asarray(cv2.merge(planes), np.float32)
    darkest, lightest = (np.float32(light[value]) for value in (pixels.min(), pixels.max()))
    out[...] = resized.clip(darkest, lightest)


def _resample_plane(plane: Pixels, light: Doubles, size: tuple[int, int]) -> NDArray[np.float32]:
    def strip(low: int, high: int) -> Doubles:
        return np.asarray(opencv().LUT(plane[low:high], light))

    return resample(strip, plane.shape, size, IMAGES.spline_order).astype(np.float32)
