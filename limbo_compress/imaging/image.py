"""The bytes of a PNG or JPEG to one row of linear light."""

from __future__ import annotations

from .. import limits
from ..errors import SampleError
from ..options import Options
from .color import ImageRow, fill_row, linear_light
from .decode import decode, read_header

__all__ = ["convert"]


def convert(data: bytes, path: str, options: Options, out: ImageRow) -> None:
    """Decode an image, convert it to linear light, resize it, and write it into a row.

    The row `out`, of shape (height, width, 3), is clipped to the range of the image's own linear
    values. Of the options, `max_pixels` and `decoder` count.

    Raises
    ------
    SampleError
        If the image cannot be decoded or is too large.
    """
    header = read_header(data, path)
    if why := limits.why_too_large(header.width, header.height, options.max_pixels):
        raise SampleError(f"the image is too large: {why}", path)
    pixels = decode(data, path, options.decoder)
    if pixels.shape[:2] != (header.height, header.width):
        raise SampleError(
            f"the image is damaged: its header says {header.width} x {header.height} pixels,"
            f" it has {pixels.shape[1]} x {pixels.shape[0]}",
            path,
        )
    fill_row(pixels, linear_light(header.gray), out)
