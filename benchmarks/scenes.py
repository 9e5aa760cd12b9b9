"""Scenes: what generated samples show, and how their files are written.

A scene is a few shaded, antialiased ellipses, one in front of another, with the grain of a path
tracer. Its cryptomatte says how much of each pixel each of them covers.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import OpenEXR
from numpy.typing import NDArray

from limbo_compress.imaging.cryptomatte import label_id

__all__ = [
    "Floats",
    "Instance",
    "Scene",
    "file_section",
    "write_cryptomatte",
    "write_image",
    "write_metadata",
]

Floats = NDArray[np.float32]

# Length of the real containers, relative to the longest: so a network has something to learn.
_LENGTHS = {"30B": 0.54, "48X": 0.81, "48Y": 1.0, "48G": 0.97}
_GROUND = "/mat/ground"
_LAYER = "CryptoMaterial"
_MAX_RANKS = 12
_PNG = (
    *(cv2.IMWRITE_PNG_COMPRESSION, 6),
    *(cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_ALL_FILTERS),
)


@dataclass(frozen=True)
class Instance:
    """A container in a scene: an ellipse, in pixels, rotated by an angle in radians."""

    label: str
    centre: tuple[float, float]
    axes: tuple[float, float]
    angle: float
    color: tuple[float, float, float]

    @property
    def category(self) -> str:
        return self.label.rpartition("/")[0]

    def contour(self, points: int) -> NDArray[np.float64]:
        """Return the outline as points (x, y)."""
        turn = np.linspace(0, 2 * np.pi, points, endpoint=False)
        x, y = self.axes[0] * np.cos(turn), self.axes[1] * np.sin(turn)
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        return np.stack(
            [self.centre[0] + x * cos - y * sin, self.centre[1] + x * sin + y * cos], axis=1
        )

    def coverage(self, size: tuple[int, int]) -> tuple[Floats, Floats]:
        """Return how much of each pixel it covers, and its brightness there; both in [0, 1]."""
        width, height = size
        x = np.arange(width, dtype=np.float32)[None, :] + 0.5 - self.centre[0]
        y = np.arange(height, dtype=np.float32)[:, None] + 0.5 - self.centre[1]
        cos, sin = np.float32(np.cos(self.angle)), np.float32(np.sin(self.angle))
        u, v = (x * cos + y * sin) / self.axes[0], (y * cos - x * sin) / self.axes[1]
        radius = np.sqrt(u * u + v * v)
        edge = (1 - radius) * np.float32(min(self.axes))
        return np.clip(edge + 0.5, 0, 1), np.clip(1.1 - 0.8 * v * v - 0.2 * u, 0.1, 1)


@dataclass(frozen=True)
class Scene:
    """What a sample shows: instances from front to back, and a background."""

    size: tuple[int, int]
    instances: tuple[Instance, ...]
    background: tuple[float, float, float]
    points: int

    @classmethod
    def random(cls, rng: np.random.Generator, size: tuple[int, int], instances: int) -> Scene:
        width, height = size
        categories = rng.choice(list(_LENGTHS), instances)
        containers = tuple(
            Instance(
                label=f"{category}/{number}",
                centre=(width * rng.uniform(0.2, 0.8), height * rng.uniform(0.2, 0.8)),
                axes=(
                    _LENGTHS[category] * min(size) * rng.uniform(0.08, 0.3),
                    _LENGTHS[category] * min(size) * rng.uniform(0.05, 0.15),
                ),
                angle=rng.uniform(0, np.pi),
                color=tuple(rng.uniform(0.2, 1, 3).tolist()),
            )
            for number, category in enumerate(categories.tolist())
        )
        return cls(
            size,
            containers,
            tuple(rng.uniform(0.2, 0.9, 3).tolist()),
            int(rng.integers(1800, 10000)),
        )

    def mattes(self) -> list[tuple[Instance, Floats, Floats]]:
        """Return each instance, the share of each pixel where it is visible, and its brightness."""
        left = np.ones(self.size[::-1], np.float32)
        seen = []
        for instance in self.instances:
            coverage, light = instance.coverage(self.size)
            seen.append((instance, coverage * left, light))
            left = left * (1 - coverage)
        return seen

    def ranks(self) -> tuple[NDArray[np.float32], Floats]:
        """Return ids and coverages in descending order, of shape (ranks, height, width).

        Like renderers, this gives an even number of ranks, 12 at most. A rank without coverage has
        no id.
        """
        seen = self.mattes()
        covers = np.stack([matte for _, matte, _ in seen])
        covers = np.concatenate([covers, 1 - covers.sum(axis=0, keepdims=True)])
        covers[covers < 1e-6] = 0
        ids = np.array(
            [label_id(label) for label in (*(i.label for i, _, _ in seen), _GROUND)], np.float32
        )
        count = min(_MAX_RANKS, len(ids) + len(ids) % 2)
        order = np.argsort(-covers, axis=0, kind="stable")[:count]
        coverage = np.zeros((count, *covers.shape[1:]), np.float32)
        coverage[: len(order)] = np.take_along_axis(covers, order, axis=0)
        rank_ids = np.zeros_like(coverage)
        rank_ids[: len(order)] = ids[order]
        return np.where(coverage > 0, rank_ids, 0).astype(np.float32), coverage

    def render(self, rng: np.random.Generator, backdrop: Floats | None = None) -> NDArray[np.uint8]:
        """Return the image, RGB, in front of a backdrop, or of the color `background`."""
        width, height = self.size
        slope = np.linspace(0.6, 1, height, dtype=np.float32)[:, None, None]
        image = slope * np.array(self.background, np.float32) * np.ones((1, width, 1), np.float32)
        if backdrop is not None:
            image = backdrop.copy()
        for instance, seen, light in self.mattes():
            color = light[..., None] * np.array(instance.color, np.float32)
            image += seen[..., None] * (color - image)
        grain = rng.standard_normal((height, width), dtype=np.float32)
        tint = rng.standard_normal(image.shape, dtype=np.float32)
        noise = np.float32(rng.uniform(0.8, 2.5)) * (grain[..., None] + np.float32(0.4) * tint)
        pixels: NDArray[np.uint8] = np.clip(255 * image + noise + 0.5, 0, 255).astype(np.uint8)
        return pixels


def write_cryptomatte(
    path: Path,
    ids: NDArray[np.float32],
    coverage: NDArray[Any],
    letters: Sequence[str] = "RGBA",
    header: dict[str, Any] | None = None,
) -> None:
    """Write ranks, of shape (ranks, height, width), as an OpenEXR file.

    Parameters
    ----------
    letters : sequence of str
        Names of a layer's channels; some programs write ``red``, ``green``, ...
    header : dict, optional
        Attributes to add, or to replace those of the cryptomatte.
    """
    channels = {}
    for rank, planes in enumerate(zip(ids, coverage, strict=True)):
        for half, plane in enumerate(planes):
            letter = letters[2 * (rank % 2) + half]
            channels[f"{_LAYER}{rank // 2:02d}.{letter}"] = np.ascontiguousarray(plane)
    attributes = {
        "compression": OpenEXR.ZIPS_COMPRESSION,
        "type": OpenEXR.scanlineimage,
        "cryptomatte/be359d6/name": _LAYER,
        "cryptomatte/be359d6/hash": "MurmurHash3_32",
        "cryptomatte/be359d6/conversion": "uint32_to_float32",
    }
    with OpenEXR.File(attributes | (header or {}), channels) as file:
        file.write(str(path))


def file_section(name: str, content: str, size: tuple[int, int]) -> dict[str, Any]:
    return {"content-type": content, "filename": name, "res": list(size)}


def write_image(path: Path, pixels: NDArray[np.uint8]) -> None:
    order = cv2.COLOR_RGBA2BGRA if pixels.shape[2] == 4 else cv2.COLOR_RGB2BGR
    parameters = _PNG if path.suffix == ".png" else ()
    _, encoded = cv2.imencode(path.suffix, cv2.cvtColor(pixels, order), parameters)
    path.write_bytes(encoded.tobytes())


def write_metadata(path: Path, metadata: dict[str, Any]) -> Path:
    path.write_text(json.dumps(metadata, indent=2, sort_keys=True), encoding="utf-8")
    return path
