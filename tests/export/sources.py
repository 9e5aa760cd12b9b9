"""Source files by hand, and what they show, computed without the package."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw

from limbo_compress import compress
from tests.jobs import job

Mask = NDArray[np.bool_]
Size = tuple[int, int]

# This many pixels in each direction become one.
_FINE = 8


def write_sample(
    folder: Path,
    name: str,
    annotations: list[dict[str, Any]],
    size: Size = (64, 48),
    **more: Any,
) -> Path:
    """Write a sample with a picture of noise, and return the path of its metadata."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(name)).integers(0, 256, (*size[::-1], 3), np.uint8)
    Image.fromarray(pixels).save(folder / f"{name}.png")
    image = {"filename": f"{name}.png", "res": list(size)}
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"annotations": annotations, "image": image} | more))
    return path


def compressed(folder: Path, size: Size = (64, 48)) -> Path:
    """Compress ``folder/data``, and return the prefix."""
    compress(job(folder / "data", folder, image_size=size))
    return folder / "out"


def reference(folder: Path, *samples: dict[str, Any], size: Size = (64, 48)) -> Path:
    """Write outputs as the reference does, without an index, and return their prefix."""
    (folder / "old-metadata.pickle").write_bytes(pickle.dumps(list(samples)))
    np.save(folder / "old-images.npy", np.zeros((len(samples), *size[::-1], 3), np.float16))
    return folder / "old"


def hugging_face(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Hugging Face's library, with its caches in a folder; it is optional."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets", reason="Hugging Face datasets is not installed")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", folder / "cache")
    return datasets


def distinct(metadata: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """The annotations that have a key, without repetitions."""
    found = {
        json.dumps([item["category"], item[key]]): item
        for item in metadata.get("annotations", [])
        if key in item
    }
    return list(found.values())


def visible_boxes(metadata: dict[str, Any]) -> list[dict[str, Any]]:
    """The distinct boxes that have an area inside of the picture."""
    width, height = np.ravel(metadata["image"]["res"])
    found = []
    for item in distinct(metadata, "bbox"):
        left, top, right, bottom = (
            item["bbox"][:2] + np.add(item["bbox"][:2], item["bbox"][2:]).tolist()
        )
        if max(left, 0) < min(right, width) and max(top, 0) < min(bottom, height):
            found.append(item)
    return found


def raster(lines: list[Any], source: Size, size: Size) -> Mask:
    """Draw a contour with its holes at the size of the source, and scale it to a row."""
    fine = (source[0] * _FINE, source[1] * _FINE)
    odd = Image.new("1", fine)
    for line in lines:
        filled = Image.new("1", fine)
        # Pillow's coordinates are those of the centres of pixels.
        points = [(x * _FINE - 0.5, y * _FINE - 0.5) for x, y in line]
        ImageDraw.Draw(filled).polygon(points, fill=1)
        odd = ImageChops.logical_xor(odd, filled)
    scaled = odd.convert("L").resize(size, Image.Resampling.BOX)
    return np.asarray(scaled) >= 128


def bounds(lines: list[Any], source: Size, size: Size) -> list[float]:
    """Left, top, width and height of what is inside of the picture, in pixels of a row."""
    points = np.concatenate([np.array(line, float) for line in lines])
    points = (points / source).clip(0, 1) * size
    return [*points.min(axis=0).tolist(), *np.ptp(points, axis=0).tolist()]


def check_mask(found: NDArray[Any], expected: Mask, holes: int = 0) -> None:
    """Check that two masks differ by a pixel at most, wherever they end.

    A hole that is smaller than a pixel may take one.
    """
    neighbors = np.ones((3, 3), np.uint8)
    grown = cv2.dilate(expected.astype(np.uint8), neighbors)
    shrunk = cv2.erode(expected.astype(np.uint8), neighbors)
    assert (found <= grown).all()
    assert np.count_nonzero(found < shrunk) <= holes
