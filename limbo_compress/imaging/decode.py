"""The bytes of a PNG or JPEG to 8-bit RGB pixels: plain PNGs by `png`, the rest by OpenCV."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import dependencies, limits
from ..errors import SampleError
from . import jpeg, png

__all__ = ["ImageHeader", "Pixels", "decode", "opencv", "read_header"]

Pixels = NDArray[np.uint8]

# The most memory that a decoder takes for a pixel: of a progressive JPEG in CMYK.
_DECODER_BYTES = 12
# A damaged header may say any size.
_MOST_BYTES = 1 << 31


class ImageHeader(NamedTuple):
    """What an image file says about itself."""

    width: int
    height: int
    gray: bool  # Pillow would open it in mode L, for which the reference skips the sRGB decoding


def read_header(data: bytes, path: str) -> ImageHeader:
    """Read the size and kind of an image without decoding it.

    Raises
    ------
    SampleError
        If it is neither a PNG nor a JPEG, or its header is incomplete.

    Notes
    -----
    PNG (ISO/IEC 15948) section 11.2.2, IHDR.
    """
    if data.startswith(png.SIGNATURE) and data[12:16] == b"IHDR" and len(data) >= 26:
        width, height = (int.from_bytes(data[at : at + 4], "big") for at in (16, 20))
        depth, color_type = data[24], data[25]
        return ImageHeader(width, height, gray=color_type == 0 and depth in (2, 4, 8))
    if data.startswith(jpeg.SIGNATURE):
        frame = jpeg.read_header(data, path)
        return ImageHeader(frame.width, frame.height, gray=len(frame.sampling) == 1)
    if data.startswith(png.SIGNATURE):
        raise SampleError("the image is truncated or damaged: its header is incomplete", path)
    raise SampleError("the image is neither a PNG nor a JPEG", path)


def decode(data: bytes, path: str, decoder: str = "auto") -> Pixels:
    """Decode a PNG or JPEG to 8-bit RGB.

    As in the reference, alpha is dropped and not composited, 16-bit values keep their high byte,
    and an EXIF orientation is ignored. Palette, 1-bit, gray and CMYK images become RGB. With the
    decoder ``"opencv"``, OpenCV decodes plain PNGs as well.

    Returns
    -------
    ndarray of uint8, shape (height, width, 3)

    Raises
    ------
    SampleError
        If the image is truncated or damaged, or a kind of JPEG that cannot be decoded.
    MemoryError
        If memory is short.
    """
    if data.startswith(png.SIGNATURE):
        return _decode_png(data, path, decoder)
    return _decode_jpeg(data, path)


def _decode_png(data: bytes, path: str, decoder: str) -> Pixels:
    data, chunks = png.leave_out_unused(data, png.find_chunks(data, path), path)
    pixels = png.decode_plain(data, chunks) if decoder == "auto" else None
    if pixels is None:
        pixels = _decode_with_opencv(data, path)
    if pixels is None:
        raise SampleError("the image is damaged: OpenCV cannot decode it", path)
    return pixels


def _decode_jpeg(data: bytes, path: str) -> Pixels:
    header = jpeg.read_header(data, path)
    if not header.is_supported:
        raise SampleError(f"the image is of an unsupported kind: {header.description}", path)
    if header.precision != 8:
        raise SampleError(
            f"the image has {header.precision} bits per sample ({header.description});"
            " only 8 are supported",
            path,
        )
    if jpeg.has_too_many_segments(data, header):
        raise SampleError(
            f"the image has more than {jpeg.most_scans(header)} scans or {limits.JPEG_SEGMENTS:,}"
            f" segments ({header.description})",
            path,
        )
    # libjpeg converts no colors in a lossless image, not even gray to RGB.
    gray = header.is_lossless and len(header.sampling) == 1
    pixels = _decode_with_opencv(data, path, gray)
    if pixels is None:
        if not jpeg.has_end(data, header):
            problem = "the image is truncated: the end of its data is missing"
        else:
            problem = f"OpenCV cannot decode the image, which may be damaged: {header.description}"
        raise SampleError(problem, path)
    stray = jpeg.find_stray_marker(data, header)
    if stray is not None:
        raise SampleError(f"the image is damaged: the marker FF {stray:02X} is in its data", path)
    return np.repeat(pixels[..., None], 3, axis=2) if gray else pixels


def _decode_with_opencv(data: bytes, path: str, gray: bool = False) -> Pixels | None:
    cv2 = opencv()
    how = cv2.IMREAD_GRAYSCALE if gray else cv2.IMREAD_COLOR_RGB
    pixels, reason = None, ""
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), how | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:
            raise MemoryError(error.err) from error
        reason = error.err
    if pixels is None:
        header = read_header(data, path)
        # libjpeg does not tell when memory is short. In that case this raises MemoryError.
        np.empty(min(header.width * header.height * _DECODER_BYTES, _MOST_BYTES), np.uint8)
    if reason:
        raise SampleError(f"OpenCV cannot decode the image: {reason}", path)
    return None if pixels is None else np.asarray(pixels, dtype=np.uint8)


@cache
def opencv() -> Any:
    """Import OpenCV when it is first needed: a job of plain PNGs starts faster without it.

    Raises
    ------
    MachineError
        If its version is too old.
    ImportError
        If it is damaged.
    """
    cv2 = dependencies.load("cv2")
    cv2.setNumThreads(1)  # one worker, one thread: see limbo_compress.run.processes
    return cv2
