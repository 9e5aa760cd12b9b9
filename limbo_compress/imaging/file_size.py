"""Whether a large file has no more bytes than its pixels can need, by its head alone."""

from __future__ import annotations

from math import prod

from .. import limits
from ..errors import SampleError
from . import exr
from .decode import read_header

__all__ = ["check_file_size"]


def check_file_size(head: bytes, size: int, path: str) -> None:
    """Check the size of a file of which only the head, with its header, has been read.

    A sparse file takes no space on disk, but all of its size in memory.

    Raises
    ------
    SampleError
        If the file is too large, or it is not the beginning of a PNG, a JPEG or an OpenEXR file.
    """
    if head.startswith(exr.MAGIC):
        parts = exr.read_header(head, path)
        decoded = sum(prod(part.data_window.shape) * part.pixel_bytes for part in parts)
        most = limits.SMALL_BYTES + 2 * decoded  # deep parts have several samples a pixel
    else:
        header = read_header(head, path)
        most = limits.image_bytes(header.width * header.height)
    if size > most:
        raise SampleError(
            f"it is too large: {size:,} bytes, and its pixels need at most {most:,}", path
        )
