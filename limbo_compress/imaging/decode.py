"""The bytes of a PNG or JPEG to 8-bit RGB pixels: plain PNGs by `png`, the rest by OpenCV."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import SampleError
from . import png

__all__ = ["Header", "Pixels", "decode", "opencv", "read_header"]

Pixels = NDArray[np.uint8]

_JPEG = b"\xff\xd8\xff"


@dataclass(frozen=True)
class Header:
    """What an image file says about itself.

    Attributes
    ----------
    width, height : int
        In pixels.
    grey : bool
        Whether Pillow would open it in mode ``L``, for which the reference skips the
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
        If it is neither a PNG nor a JPEG, or its header is incomplete.

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
    """Return the start of the first frame header: precision, height, width, components."""
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

    As in the reference, alpha is dropped and not composited, 16-bit values keep their high byte,
    and an EXIF orientation is ignored. Palette, 1-bit, grey and CMYK images become RGB.

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
        cv2 = opencv()
        how = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
        try:
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), how)
        except cv2.error as error:
            raise SampleError(f"OpenCV cannot decode the image: {error.err}", path) from error
    if pixels is None:
        raise SampleError("the image is truncated or damaged: OpenCV cannot decode it", path)
    return np.asarray(pixels, dtype=np.uint8)


@cache
def opencv() -> Any:
    """Import OpenCV when it is first needed: a job of plain PNGs starts faster without it."""
    import cv2

    cv2.setNumThreads(1)  # one worker, one thread: see limbo_compress.run.processes
    return cv2
