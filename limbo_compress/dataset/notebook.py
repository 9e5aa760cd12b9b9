"""How a data set looks in a notebook: what it is, and its first rows as a small sheet."""

from __future__ import annotations

from base64 import b64encode
from html import escape
from typing import TYPE_CHECKING, Any

import cv2
from numpy.typing import NDArray

from ..errors import LimboError
from .srgb import srgb8

if TYPE_CHECKING:
    from .dataset import Dataset

__all__ = ["sheet"]

_MOST_ROWS = 8
_WIDTH = 112  # of a picture, in pixels
_CELL = (
    f'<figure style="display:inline-block;margin:4px;width:{_WIDTH}px;vertical-align:top">'
    '<img alt="row {row}" src="data:image/png;base64,{picture}">'
    '<figcaption style="font-size:small">{row}: {categories}</figcaption></figure>'
)


def sheet(dataset: Dataset) -> str:
    """Return HTML with the first rows of a data set; only its description if it has no images."""
    head = f"<p>{escape(repr(dataset))}</p>"
    try:
        images = dataset.images
    except LimboError:  # such as of rows of two sizes
        images = None
    if images is None:
        return head
    count = min(len(dataset), _MOST_ROWS)
    return head + "".join(_cell(dataset, row, images[row]) for row in range(count))


def _cell(dataset: Dataset, row: int, image: NDArray[Any]) -> str:
    try:
        categories = ", ".join(sorted(dataset.categories[row]))
    except LimboError:  # there are no metadata, or they are damaged: the picture still helps
        categories = ""
    picture = b64encode(_png(image)).decode("ascii")
    return _CELL.format(row=row, picture=picture, categories=escape(categories))


def _png(row: NDArray[Any]) -> bytes:
    """Encode a row in 8-bit sRGB, small."""
    height, width = row.shape[:2]
    size = _WIDTH, max(1, round(_WIDTH * height / width))
    small = cv2.resize(srgb8(row[..., ::-1]), size, interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(".png", small)
    return data.tobytes()
