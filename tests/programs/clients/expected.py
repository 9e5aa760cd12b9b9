"""What the pictures of an export show, in a form that every client's environment can read."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

# In pixels: a contour may lose points that lie within a tenth of one of a straight line.
_TOLERANCE = 0.2


@dataclass(frozen=True)
class Object:
    """An object: its box is left, top, width and height in pixels."""

    category: str
    box: list[float]
    has_contour: bool
    mask: NDArray[np.bool_]


@dataclass(frozen=True)
class Expected:
    """A picture, the part that it is in, and its objects."""

    picture: str
    part: str
    objects: Sequence[Object]


def write(folder: Path, pictures: Sequence[Expected]) -> None:
    records: list[Any] = []
    masks: dict[str, Any] = {}
    for picture in pictures:
        found = []
        for number, item in enumerate(picture.objects):
            masks[f"{picture.picture}/{number}"] = item.mask
            found.append([item.category, item.box, item.has_contour])
        records.append([picture.picture, picture.part, found])
    (folder / "expected.json").write_text(json.dumps(records))
    np.savez_compressed(folder / "masks.npz", **masks)


def read(folder: Path) -> list[Expected]:
    with np.load(folder / "masks.npz") as masks:
        return [
            Expected(
                picture,
                part,
                [
                    Object(category, box, has_contour, masks[f"{picture}/{number}"])
                    for number, (category, box, has_contour) in enumerate(found)
                ],
            )
            for picture, part, found in json.loads((folder / "expected.json").read_text())
        ]


def compare(
    expected: Expected,
    found: Sequence[tuple[str, Sequence[float], NDArray[Any] | None]],
    slack: int = 1,
    bridges: int = 0,
) -> int:
    """Compare the category, the box and, if there is one, the mask of each object.

    Parameters
    ----------
    expected : Expected
    found : sequence of (category, box, mask or None)
    slack : int
        By how many pixels a client that draws outlines itself may be off, wherever a mask ends.
    bridges : int
        How many more pixels of an object may be wrong: YOLO joins its lines by bridges without
        width, but who draws outlines draws these as well.

    Returns
    -------
    int
        How many objects there are.
    """
    assert len(found) == len(expected.objects), (expected.picture, len(found))
    left = list(expected.objects)
    for category, box, mask in found:
        where = (expected.picture, category, box)
        same = [
            item
            for item in left
            if item.category == category and np.abs(np.subtract(item.box, box)).max() < _TOLERANCE
        ]
        assert len(same) == 1, (where, [(item.category, item.box) for item in left])
        (item,) = same
        if mask is not None:
            wrong = (mask > 0) != item.mask
            at_edges = _grown(item.mask, slack) & _grown(~item.mask, slack)
            assert (wrong & ~at_edges).sum() <= bridges, where
        left.remove(item)
    return len(found)


def _grown(mask: NDArray[np.bool_], pixels: int) -> NDArray[np.bool_]:
    """Add the neighbors of all pixels, those at corners as well."""
    padded = np.pad(mask, pixels, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (2 * pixels + 1, 2 * pixels + 1))
    return np.asarray(windows.any(axis=(2, 3)))


def main(client: str, check: Any) -> None:
    """Run a check of a client, whose argument is the folder of all exports, and say what it saw."""
    print(f"{client} {version(client)}: {check(Path(sys.argv[1]))}", flush=True)
