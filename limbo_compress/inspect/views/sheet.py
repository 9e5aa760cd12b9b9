"""Contact sheets: pictures of rows, with what they are and what is where."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...dataset.dataset import Dataset
from ...errors import InputError, UsageError, shown
from ...oserrors import machine_errors, writing
from ...run.executor import Progress
from ..stretches import in_stretches
from .pictures import Color, ShownRow, check_pictures, colors, fitted, picture, read_row
from .unfinished import unfinished

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

__all__ = ["write_sheet"]

Points = NDArray[np.floating[Any]]

_COLUMNS, _ROWS = 10, 10
_SIDE = 224  # of a picture, in pixels
_GAP = 10
_FONT_SIZE, _LINE, _CAPTION_LINES = 15, 19, 3
_HEAD = 2 * _GAP + _LINE
_PAPER, _INK, _FAINT = (246, 246, 244), (20, 20, 20), (90, 90, 90)
# Lines are drawn twice as large, and then halved, which makes them smooth.
_FINE = 2
_FAR = 10_000.0
_SUFFIXES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
_SAVE = {"PNG": {"compress_level": 3}, "JPEG": {"quality": 92, "subsampling": 0}}
# Of a text of any length, only so much can fit.
_MAX_TEXT = 80


@machine_errors()
def write_sheet(
    dataset: Dataset,
    path: str | os.PathLike[str],
    progress: Progress | None = None,
    *,
    workers: int | None = None,
) -> list[str]:
    """Draw rows on one or more pages of a hundred.

    Parameters
    ----------
    dataset : Dataset
    path : path
        Ends in ``.png`` or ``.jpg``. Of several pages, each has its number at the end of the name.
    progress : callable, optional
        Called as ``progress(done, rows)``.
    workers : int, optional
        Number of processes; by default, one for each CPU that this process may use.

    Returns
    -------
    list of str
        The files, which appear when all of them are complete.

    Raises
    ------
    UsageError
        If the name has another ending, or Pillow is not installed.
    InputError
        If there are no rows, images or masks, or they cannot be read.
    OutputError
        If a page cannot be written.
    """
    stem, suffix = os.path.splitext(os.fsdecode(path))
    if suffix.lower() not in _SUFFIXES:
        raise UsageError("a sheet is a .png or .jpg file", os.fsdecode(path))
    check_pictures(dataset)
    count = len(dataset)
    if not count:
        raise InputError("there are no rows to draw")
    per_page = _COLUMNS * _ROWS
    pages = math.ceil(count / per_page)
    digits = len(str(pages))
    names = [f"{stem}-{page + 1:0{digits}}{suffix}" for page in range(pages)]
    finals = names if pages > 1 else [f"{stem}{suffix}"]
    known = colors(dataset.count() if dataset.metadata is not None else ())
    with unfinished(finals[0]) as folder:
        draw = partial(_write_page, finals[0], folder, known, count)
        done = dict(in_stretches(draw, dataset, per_page, progress, workers))
        for place, final in zip(sorted(done), finals, strict=True):
            os.replace(done[place], final)
    return finals


def _write_page(
    final: str, folder: str, known: dict[str, Color], count: int, dataset: Dataset, place: int
) -> str:
    suffix = os.path.splitext(final)[1]
    kind = _SUFFIXES[suffix.lower()]
    path = os.path.join(folder, f"{place}{suffix}")
    page = _draw_page(dataset, place, count, known)
    with writing(final):
        page.save(path, kind, **_SAVE[kind])
    return path


def _draw_page(dataset: Dataset, first: int, count: int, known: dict[str, Color]) -> Image:
    from PIL import Image, ImageDraw

    width, height = fitted(dataset.row_size, _SIDE)
    numbers = dataset.row_numbers
    rows = len(numbers)
    columns = min(_COLUMNS, max(4, math.ceil(math.sqrt(rows))))
    step_x, step_y = _SIDE + _GAP, height + _CAPTION_LINES * _LINE + _GAP
    size = columns * step_x + _GAP, _HEAD + math.ceil(rows / columns) * step_y
    page = Image.new("RGB", size, _PAPER)
    draw, font = ImageDraw.Draw(page), _font()
    head = f"rows {numbers[0]} to {numbers[-1]}"
    if rows < count:
        head += f" ({first + 1} to {first + rows} of {count})"
    head += "   thick line: box   thin line, tinted: contour   white line: outline of a mask"
    draw.text((_GAP, _GAP), head, _FAINT, font)
    for place in range(rows):
        row = read_row(dataset, place)
        x, y = _GAP + place % columns * step_x, _HEAD + place // columns * step_y
        pixels = picture(dataset, place)
        page.paste(_with_outlines(pixels, (width, height), row, known), (x, y))
        _write_caption(draw, font, (x, y + height + 2), row, known)
    return page


def _font() -> FreeTypeFont:
    from PIL import ImageFont

    try:  # it has more scripts than Pillow's own
        return ImageFont.truetype("DejaVuSans.ttf", _FONT_SIZE)
    except OSError:
        font = ImageFont.load_default(_FONT_SIZE)
        assert isinstance(font, ImageFont.FreeTypeFont)  # it is, for a given size
        return font


def _with_outlines(
    pixels: NDArray[np.uint8], size: tuple[int, int], row: ShownRow, known: dict[str, Color]
) -> Image:
    """Draw the boxes, contours and outlines of masks of a row over its picture."""
    from PIL import Image, ImageDraw

    shown = Image.fromarray(pixels)
    scale = np.divide(size, shown.size) * _FINE
    small = max(shown.size) < max(size)
    shown = shown.resize(size, Image.Resampling.BICUBIC if small else Image.Resampling.LANCZOS)
    if not (row.boxes or row.contours or row.masks):
        return shown
    layer = Image.new("RGBA", (size[0] * _FINE, size[1] * _FINE))
    draw = ImageDraw.Draw(layer)
    for contour in row.contours:
        _draw_contour(
            layer, [line * scale for line in contour.polygons], _color(known, contour.category)
        )
    for outlines in row.masks.values():
        for outline in outlines:
            _draw_line(draw, outline * scale, (0, 0, 0, 150), 2 * _FINE)
            _draw_line(draw, outline * scale, (255, 255, 255, 255), _FINE)
    for box in row.boxes:
        left, top, right, bottom = (box.xyxy * np.tile(scale, 2)).tolist()
        corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
        _draw_line(draw, corners, (0, 0, 0, 160), 4 * _FINE)
        _draw_line(draw, corners, (*_color(known, box.category), 255), 2 * _FINE)
    shown.paste(layer := layer.reduce(_FINE), mask=layer)
    return shown


def _color(known: dict[str, Color], category: str | None) -> Color:
    return known.get(category or "", _PAPER)


def _draw_contour(layer: Image, polygons: Sequence[Points], color: Color) -> None:
    """Tint the inside of polygons by the even-odd rule, and draw their lines."""
    from PIL import Image, ImageChops, ImageDraw

    inside = Image.new("1", layer.size)
    for polygon in polygons:
        if len(polygon) > 2:
            one = Image.new("1", layer.size)
            ImageDraw.Draw(one).polygon(_coordinates(polygon), fill=1)
            inside = ImageChops.logical_xor(inside, one)
    layer.paste((*color, 60), mask=inside)
    for polygon in polygons:
        _draw_line(ImageDraw.Draw(layer), polygon, (*color, 255), _FINE)


def _draw_line(draw: ImageDraw, points: Points, color: tuple[int, ...], width: int) -> None:
    """Draw a closed line."""
    closed = _coordinates(np.concatenate([points, points[:1]]))
    draw.line(closed, color, width, joint="curve")


def _coordinates(points: Points) -> list[float]:
    """Return x, y, x, y, ... as Pillow takes them, which fails on numbers of any size."""
    return np.clip(points, -_FAR, _FAR).ravel().tolist()


def _write_caption(
    draw: ImageDraw, font: FreeTypeFont, at: tuple[int, int], row: ShownRow, known: dict[str, Color]
) -> None:
    """Write the number of a row and its categories in a few lines, as far as they fit."""
    seen = {box.category for box in row.boxes} | {contour.category for contour in row.contours}
    words: list[tuple[str, Color | None]] = [(str(row.number), None)]
    words += [(name, known.get(name) if name in seen else None) for name in row.categories]
    if row.problem:
        words.append((f"({row.problem})", None))
    left, top = at
    x, y = float(left), top
    for number, (word, mark) in enumerate(words):
        indent = _LINE if mark else 0
        text = _fitting(font, shown(word[:_MAX_TEXT]), _SIDE - indent)
        width = indent + font.getlength(text)
        if x > left and x + width > left + _SIDE:
            x, y = left, y + _LINE
        if y >= top + _CAPTION_LINES * _LINE:
            draw.text((left + _SIDE - _LINE, y - _LINE), "…", _INK, font)
            return
        if mark:
            draw.rectangle((x, y + 4, x + 11, y + 15), mark, _INK)
        for shift in (0, 1) if number == 0 else (0,):  # the first one is bold
            draw.text((x + indent + shift, y), text, _INK, font)
        x += width + _GAP


def _fitting(font: FreeTypeFont, text: str, width: float) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"
