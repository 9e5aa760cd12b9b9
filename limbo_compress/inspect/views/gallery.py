"""A gallery: a folder of HTML, CSS, JavaScript and pictures that opens without a server.

::

    index.html, gallery.css, gallery.js    as they are in `assets`
    data/rows.js, data/summary.js          what is known about all rows
    data/thumbs/N.jpg                      pictures of a hundred rows, small
    data/pictures/N.jpg                    one row
    data/details/N.js                      25 rows: outlines and metadata

A page that was opened from a disk may load scripts, but no other files. So data are scripts that
hand a text, which is JSON, to a function. Nothing in them is ever HTML.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Sequence
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ... import __version__
from ...dataset.dataset import Dataset
from ...errors import InputError, OutputError
from ...formats.pickling import Points
from ...imaging.decode import opencv
from ...oserrors import machine_errors, writing
from ...renaming import check_renaming, rename_folder
from ...run.executor import Progress
from ..metadata_counts import is_synthetic, path_of
from ..stretches import in_stretches
from ..summary import Summary, summarize
from .pictures import ShownRow, check_pictures, colors, fitted, picture, read_row
from .unfinished import unfinished

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["write_gallery"]

_ASSETS = Path(__file__).with_name("assets")
_MARK = b'<meta name="generator" content="limbo-inspect">'
_PER_SPRITE, _SPRITE_COLUMNS, _PER_DETAILS = 100, 10, 25
_THUMB_SIDE = 144  # in pixels
# How far the lines that are shown may be from the annotation's, in pixels of the row.
_SIMPLIFIED = 0.25
_UNKNOWN, _SYNTHETIC, _REAL = range(3)
# Columns of the table of samples that the page has without it.
_SHOWN_COLUMNS = ("row", "path", "folder")
# What of the metadata is shown: at most N items of a list, characters of a text, levels.
_MAX_ITEMS, _MAX_TEXT, _MAX_DEPTH = 500, 20_000, 40
_EXACT = 1 << 53  # up to here, JavaScript has all integers


@machine_errors()
def write_gallery(
    dataset: Dataset,
    folder: str | os.PathLike[str],
    progress: Progress | None = None,
    *,
    workers: int | None = None,
) -> str:
    """Write a gallery of rows to a folder.

    Parameters
    ----------
    dataset : Dataset
    folder : path
        New or empty, or a gallery, which is replaced when the new one is complete.
    progress : callable, optional
        Called as ``progress(done, rows)``.
    workers : int, optional
        Number of processes; by default, one for each CPU that this process may use.

    Returns
    -------
    str
        The page to open.

    Raises
    ------
    UsageError
        If Pillow is not installed.
    InputError
        If there are no images or masks, or they cannot be read.
    OutputError
        If the folder holds something else, or cannot be written.
    """
    check_pictures(dataset)
    path = os.path.realpath(folder)
    _check_target(path)
    summary = summarize(dataset, workers=workers)
    with unfinished(path) as work:
        check_renaming(work)
        new = os.path.join(work, "new")
        for name in ("thumbs", "pictures", "details"):
            os.makedirs(os.path.join(new, "data", name))
        for asset in _ASSETS.iterdir():
            shutil.copyfile(asset, os.path.join(new, asset.name))
        write = partial(_write_rows, path, os.path.join(new, "data"))
        kinds = [_UNKNOWN] * len(dataset)
        for place, found in in_stretches(write, dataset, _PER_SPRITE, progress, workers):
            kinds[place : place + len(found)] = found
        _write_data(new, "summary", summary.as_json() | {"version": __version__})
        _write_data(new, "rows", _describe_rows(dataset, summary, kinds))
        _publish(new, path, os.path.join(work, "old"))
    return os.path.join(os.fsdecode(folder), "index.html")


def _check_target(path: str) -> None:
    if not os.path.lexists(path):
        return
    try:
        is_ours = not os.listdir(path) or _MARK in Path(path, "index.html").read_bytes()
    except OSError:
        is_ours = False
    if not is_ours:
        hint = "choose a new folder"
        raise OutputError("something else than a gallery is there already", path, hint)


def _publish(new: str, path: str, old: str) -> None:
    if os.path.exists(path):
        rename_folder(path, old)
    rename_folder(new, path)


def _write_data(folder: str, name: str, value: Any) -> None:
    """Write a script that hands a value to the page, as text for ``JSON.parse``."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    with open(os.path.join(folder, "data", f"{name}.js"), "w", encoding="ascii") as stream:
        stream.write(f"gallery.receive({json.dumps(name)},{json.dumps(text)});\n")


def _describe_rows(dataset: Dataset, summary: Summary, kinds: Sequence[int]) -> dict[str, Any]:
    """What the page needs to know of every row."""
    width, height = dataset.row_size
    known = colors(dataset.count() if dataset.metadata is not None else ())
    numbers = {category: number for number, category in enumerate(known)}
    sets: dict[frozenset[str], int] = {}
    folders: dict[str, int] = {}
    set_ids: list[int] = []
    folder_ids: list[int] = []
    files: list[str] = []
    for place in range(len(dataset)):
        categories = dataset.categories[place] if dataset.metadata is not None else frozenset()
        folder, _, file = (path_of(dataset, place) or "").rpartition("/")
        set_ids.append(sets.setdefault(categories, len(sets)))
        folder_ids.append(folders.setdefault(folder, len(folders)))
        files.append(file)
    thumb_width, thumb_height = fitted((width, height), _THUMB_SIDE)
    return {
        "numbers": dataset.row_numbers.tolist(),
        "categories": list(known),
        "colors": list(known.values()),
        "sets": [sorted(numbers[category] for category in each) for each in sets],
        "set": set_ids,
        "folders": list(folders),
        "folder": folder_ids,
        "files": files,
        "kinds": kinds,
        "odd": summary.odd | {"repeated": sorted(chain.from_iterable(summary.duplicates))},
        "masks": list(dataset.masks),
        "columns": _describe_columns(dataset),
        "size": [width, height],
        "thumb": {"width": thumb_width, "height": thumb_height, "columns": _SPRITE_COLUMNS},
        "per_sprite": _PER_SPRITE,
        "per_details": _PER_DETAILS,
    }


def _describe_columns(dataset: Dataset) -> list[dict[str, Any]]:
    """Describe the columns of the table of samples in which rows differ.

    None, if there are no metadata, or if an index without the table has damaged ones.
    """
    try:
        table = dataset.table(name for name in dataset.columns if name not in _SHOWN_COLUMNS)
    except InputError:
        return []
    columns = (_column(name, values) for name, values in table.items())
    return [column for column in columns if len(set(column["ids"])) > 1]


def _column(name: str, values: NDArray[Any]) -> dict[str, Any]:
    """Return the distinct values of a column in order, and the place of each row's value, or -1."""
    listed = [None if value != value else value for value in values.tolist()]  # NaN is none
    distinct = sorted({value for value in listed if value is not None})
    places = {value: place for place, value in enumerate(distinct)} | {None: -1}
    return {
        "name": name,
        "values": list(map(_shown, distinct)),
        "ids": [places[value] for value in listed],
    }


def _write_rows(final: str, data: str, dataset: Dataset, first: int) -> list[int]:
    """Write the pictures and details of a stretch of rows, and return what kind each is."""
    kinds, details = [], []
    cv2 = opencv()
    with writing(final):
        size = fitted(dataset.row_size, _THUMB_SIDE)
        sprite = _empty_sprite(len(dataset), size)
        for place in range(len(dataset)):
            row = read_row(dataset, place)
            pixels = picture(dataset, place)
            _save(_image(pixels), data, "pictures", first + place, quality=90, subsampling=0)
            left, top = place % _SPRITE_COLUMNS * size[0], place // _SPRITE_COLUMNS * size[1]
            thumb = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
            sprite.paste(_image(thumb), (left, top))
            details.append(_details(row))
            kinds.append(_kind(row))
        _save(sprite, data, "thumbs", first // _PER_SPRITE, quality=82)
        for at in range(0, len(details), _PER_DETAILS):
            name = f"details/{(first + at) // _PER_DETAILS}"
            _write_data(os.path.dirname(data), name, details[at : at + _PER_DETAILS])
    return kinds


def _image(pixels: NDArray[np.uint8]) -> Image:
    from PIL import Image

    return Image.fromarray(pixels)


def _empty_sprite(rows: int, size: tuple[int, int]) -> Image:
    from PIL import Image

    lines = math.ceil(rows / _SPRITE_COLUMNS)
    return Image.new("RGB", (size[0] * _SPRITE_COLUMNS, size[1] * lines))


def _save(image: Image, data: str, kind: str, number: int, **options: Any) -> None:
    image.save(os.path.join(data, kind, f"{number}.jpg"), "JPEG", **options)


def _kind(row: ShownRow) -> int:
    if row.metadata is None:
        return _UNKNOWN
    return _SYNTHETIC if is_synthetic(row.metadata) else _REAL


def _details(row: ShownRow) -> dict[str, Any]:
    return {
        "boxes": [[box.category, _rounded(box.xyxy)] for box in row.boxes],
        "contours": [
            [contour.category, list(map(_line, contour.polygons))] for contour in row.contours
        ],
        "masks": {
            name: list(map(_line, outlines)) if outlines or row.has_matte else None
            for name, outlines in row.masks.items()
        },
        "metadata": _shown(row.metadata),
        "problem": row.problem,
    }


def _line(points: NDArray[np.float32]) -> list[float]:
    """Return x, y, x, y, ... of a closed line, with as few points as show it well."""
    near = np.clip(points, -1e5, 1e5).astype(np.float32)
    return _rounded(opencv().approxPolyDP(near.reshape(-1, 1, 2), _SIMPLIFIED, True))


def _rounded(points: NDArray[np.float32]) -> list[float]:
    numbers = np.clip(points, -1e5, 1e5).astype(np.float64).round(1).ravel()
    return numbers.tolist()


def _shown(value: Any, depth: int = 0) -> Any:
    """Return metadata as JSON has them, without what nobody reads.

    Lists and plain values stay. Everything else is an object of ours, so no key of the metadata can
    be mistaken for one of our own, and all keep their order: ``{"dict": [[key, value], …]}``; lists
    and dicts of which items are left out, ``{"list": […], "more": 1500}``; ``{"points": 4}``,
    ``{"deep": 3}``, ``{"number": "nan"}`` and ``{"cut": "…", "length": 30000}``.
    """
    if isinstance(value, str) and len(value) > _MAX_TEXT:
        return {"cut": value[:_MAX_TEXT], "length": len(value)}
    if isinstance(value, bool | str | None):
        return value
    if isinstance(value, int | float):
        return _shown_number(value)
    if depth < _MAX_DEPTH and _is_line(value):
        return {"points": sum(item.number if isinstance(item, Points) else 1 for item in value)}
    if isinstance(value, list):
        value = _in_full(value)
    if depth == _MAX_DEPTH:
        return {"deep": len(value)}
    left_out = len(value) - _MAX_ITEMS
    more = {"more": left_out} if left_out > 0 else {}
    if isinstance(value, dict):
        first = islice(value.items(), _MAX_ITEMS)
        return {"dict": [[_shown(key), _shown(item, depth + 1)] for key, item in first]} | more
    if len(value) > 2 and all(map(_is_point, [*value[:3], value[-1]])):
        return {"points": len(value)}
    items = [_shown(item, depth + 1) for item in value[:_MAX_ITEMS]]
    return {"list": items} | more if more else items


def _shown_number(value: int | float) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else {"number": str(value)}
    if abs(value) <= _EXACT:
        return value
    bits = value.bit_length()
    return {"number": str(value) if bits < 10_000 else f"an integer of {bits} bits"}


def _is_line(value: Any) -> bool:
    """Whether a value of compact metadata is a list that begins and ends with points."""
    if not isinstance(value, list) or not value:
        return False
    return isinstance(value[0], Points) and _is_point(value[-1])


def _in_full(items: list[Any]) -> list[Any]:
    """Return a list of compact metadata as it is in the metadata."""
    runs = (item.array().tolist() if isinstance(item, Points) else [item] for item in items)
    return list(chain.from_iterable(runs))


def _is_point(value: Any) -> bool:
    if isinstance(value, list):
        return len(value) == 2 and type(value[0]) in (int, float)
    return isinstance(value, Points)
