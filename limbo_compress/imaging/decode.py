"""The bytes of a PNG or JPEG to one float16 row of linear light."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import png
from .errors import SampleError
from .options import Options
from .resample import Floats, compiled, fill_row_compiled, resample

__all__ = ["Header", "convert", "decode", "fill_row", "linear_light", "read_header"]

Pixels = NDArray[np.uint8]

_JPEG = b"\xff\xd8\xff"


@dataclass(frozen=True)
class Header:
    """What an image file says of itself.

    Attributes
    ----------
    width, height : int
        In pixels.
    grey : bool
        Whether Pillow would open it in mode ``L``: for those the reference leaves out the
        sRGB decoding.
    """

    width: int
    height: int
    grey: bool


def read_header(data: bytes, path: str) -> Header:
    """Read the size and kind of an image without decoding it.

    Parameters
    ----------
    data : bytes
        The whole file.
    path : str
        Its path, for errors.

    Raises
    ------
    SampleError
        If it is neither a PNG nor a JPEG, or ends before its header does.

    Notes
    -----
    PNG (ISO/IEC 15948) section 11.2.2, IHDR; JPEG (ITU-T T.81) annex B, the frame header.
    """
    if data.startswith(png.SIGNATURE) and data[12:16] == b"IHDR" and len(data) >= 26:
        width, height = (int.from_bytes(data[at : at + 4], "big") for at in (16, 20))
        depth, colour_type = data[24], data[25]
        return Header(width, height, grey=colour_type == 0 and depth in (2, 4, 8))
    if data.startswith(_JPEG):
        frame = _jpeg_frame(data)
        if len(frame) >= 6:
            height, width = (int.from_bytes(frame[at : at + 2], "big") for at in (1, 3))
            return Header(width, height, grey=frame[5] == 1)
    if data.startswith((png.SIGNATURE, _JPEG)):
        raise SampleError("the image is truncated or damaged: its header is incomplete", path)
    raise SampleError("the image is neither a PNG nor a JPEG", path)


def _jpeg_frame(data: bytes) -> bytes:
    """The start of the first frame header: precision, height, width, components."""
    at = 2
    while at + 4 <= len(data):
        marker = data[at + 1]
        if data[at] != 0xFF or marker == 0xFF:
            at += 1
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return data[at + 4 : at + 10]
        elif marker == 0x01 or 0xD0 <= marker <= 0xD8:
            at += 2
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return b""


def decode(data: bytes, path: str, decoder: str = "auto") -> Pixels:
    """Decode a PNG or JPEG to 8-bit RGB.

    Alpha is dropped, not composited; 16-bit values keep their high byte; an orientation in
    EXIF is ignored: all as in the reference. Palette, 1-bit, grey and CMYK become RGB.

    Parameters
    ----------
    data : bytes
        The whole file.
    path : str
        Its path, for errors.
    decoder : {"auto", "opencv"}
        Whether plain PNGs may be decoded without OpenCV.

    Returns
    -------
    ndarray of uint8, shape (height, width, 3)

    Raises
    ------
    SampleError
        If the image is truncated or damaged.
    """
    pixels: Any = None
    if data.startswith(png.SIGNATURE):
        chunks = png.find_chunks(data, path)
        if decoder == "auto":
            pixels = png.decode_plain(data, chunks)
    if pixels is None:
        cv2 = _opencv()
        how = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
        try:
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), how)
        except cv2.error as error:
            raise SampleError(f"OpenCV cannot decode the image: {error.err}", path) from error
    if pixels is None:
        raise SampleError("the image is truncated or damaged: OpenCV cannot decode it", path)
    return np.asarray(pixels, dtype=np.uint8)


@cache
def _opencv() -> Any:
    """Load OpenCV, when it is needed: a job of plain PNGs does without, and starts sooner."""
    import cv2

    cv2.setNumThreads(1)  # a worker is one thread: see limbo_compress.pool
    return cv2


@cache
def linear_light(grey: bool) -> Floats:
    """Linear light for each 8-bit value, with the roundings of the reference.

    It computes in float16 throughout: v / 255 and then, except for grey images, the sRGB
    decoding (IEC 61966-2-1). The power alone is taken in float64, so that no machine's
    float16 library can make a difference; the 256 results are the reference's.

    Returns
    -------
    ndarray of float64, shape (256,)
        Exact float16 values.
    """
    half = np.float16
    value = np.arange(256).astype(half) / half(255)
    if grey:
        return value.astype(np.float64)
    base = ((value + half(0.055)) / half(1.055)).astype(np.float64)
    power = np.array([x ** float(half(2.4)) for x in base.tolist()]).astype(half)
    return np.where(value <= half(0.04045), value / half(12.92), power).astype(np.float64)


def convert(data: bytes, path: str, options: Options, out: NDArray[np.float16]) -> None:
    """Decode an image, bring it to linear light, resize it, and write it into a row.

    Parameters
    ----------
    data : bytes
        A whole PNG or JPEG file.
    path : str
        Its path, for errors.
    options : Options
        Their largest number of pixels and decoder count.
    out : ndarray of float16, shape (height, width, 3)
        Receives the row, clipped to the range of the image's own linear values.

    Raises
    ------
    SampleError
        If the image cannot be decoded, or is too large.
    """
    header = read_header(data, path)
    if header.width * header.height > options.max_pixels:
        raise SampleError(
            f"the image is too large: {header.width} x {header.height} pixels (--max-pixels)", path
        )
    pixels = decode(data, path, options.decoder)
    fill_row(pixels, linear_light(header.grey), out)


def fill_row(pixels: Pixels, light: Floats, out: NDArray[np.float16]) -> None:
    """Bring decoded pixels to linear light, resize them, and write them into a row.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (height, width, 3)
    light : ndarray of float64, shape (256,)
        The linear light of each 8-bit value.
    out : ndarray of float16, shape (height of the row, width of the row, 3)
        Receives the result, clipped to the range of the pixels' own linear values.
    """
    if compiled is not None:
        fill_row_compiled(pixels, light, out)
        return
    cv2 = _opencv()
    # By planes: then both passes of the resampling are plain matrix products.
    size = (out.shape[1], out.shape[0])
    planes = [_resample_plane(np.asarray(plane), light, size) for plane in cv2.split(pixels)]
    resized = np.asarray(cv2.merge(planes), np.float32)
    darkest, lightest = (np.float32(light[value]) for value in (pixels.min(), pixels.max()))
    out[...] = resized.clip(darkest, lightest)


def _resample_plane(plane: Pixels, light: Floats, size: tuple[int, int]) -> NDArray[np.float32]:
    def strip(low: int, high: int) -> Floats:
        return np.asarray(_opencv().LUT(plane[low:high], light))

    return resample(strip, plane.shape, size).astype(np.float32)
