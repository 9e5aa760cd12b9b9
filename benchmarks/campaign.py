"""Generate a campaign: samples with the structure of Limbo's, reproducible from a seed.

A render shows a few shaded, antialiased ellipses, one in front of another, with the grain of a path
tracer. Its metadata holds their contours (one number per line, as in the real files), boxes and
tags; its cryptomatte says how much of each pixel each of them covers. A photograph has an image, a
box and tags, but nothing synthetic. The demo, the tests and the benchmarks use it::

    python -m benchmarks.campaign FOLDER --samples 1000 --distinct 50
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import OpenEXR
from numpy.typing import NDArray

from limbo_compress.imaging.cryptomatte import label_id

__all__ = ["Campaign", "Instance", "Scene", "write_campaign", "write_cryptomatte"]

Floats = NDArray[np.float32]

# Length of the real containers, relative to the longest: so a network has something to learn.
_LENGTHS = {"30B": 0.54, "48X": 0.81, "48Y": 1.0, "48G": 0.97}
_SAMPLES_PER_FOLDER = 1000
_GROUND = "/mat/ground"
_LAYER = "CryptoMaterial"
_MAX_RANKS = 12
_PNG = (
    *(cv2.IMWRITE_PNG_COMPRESSION, 6),
    *(cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_ALL_FILTERS),
)


@dataclass(frozen=True)
class Campaign:
    """What to generate.

    Attributes
    ----------
    samples : int
        Number of samples.
    distinct : int
        How many of them are different; the others repeat these, with hard links to their images.
        Generating one takes about as long as compressing ten.
    photographs : int
        Every `photographs`-th sample is a photograph; 0 means none.
    size : (int, int)
        Width and height of a render, in pixels.
    instances : int
        Number of containers in a render.
    seed : int
        Different seeds give different campaigns.
    """

    samples: int
    distinct: int = 50
    photographs: int = 20
    size: tuple[int, int] = (720, 720)
    instances: int = 3
    seed: int = 0


@dataclass(frozen=True)
class Instance:
    """A container in a scene: an ellipse, in pixels, rotated by an angle in radians."""

    label: str
    centre: tuple[float, float]
    axes: tuple[float, float]
    angle: float
    colour: tuple[float, float, float]

    @property
    def category(self) -> str:
        return self.label.split("/")[0]

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
                colour=tuple(rng.uniform(0.2, 1, 3).tolist()),
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

    def render(self, rng: np.random.Generator) -> NDArray[np.uint8]:
        """Return the image, RGB."""
        width, height = self.size
        slope = np.linspace(0.6, 1, height, dtype=np.float32)[:, None, None]
        image = slope * np.array(self.background, np.float32) * np.ones((1, width, 1), np.float32)
        for instance, seen, light in self.mattes():
            colour = light[..., None] * np.array(instance.colour, np.float32)
            image += seen[..., None] * (colour - image)
        grain = rng.standard_normal((height, width), dtype=np.float32)
        tint = rng.standard_normal(image.shape, dtype=np.float32)
        noise = np.float32(rng.uniform(0.8, 2.5)) * (grain[..., None] + np.float32(0.4) * tint)
        pixels: NDArray[np.uint8] = np.clip(255 * image + noise + 0.5, 0, 255).astype(np.uint8)
        return pixels


def write_campaign(folder: Path, campaign: Campaign) -> None:
    """Write a campaign below a folder, in folders of 1000 samples like the real ones."""
    originals: list[Path] = []
    for index in range(campaign.samples):
        subfolder = folder / f"{index // _SAMPLES_PER_FOLDER:04d}"
        subfolder.mkdir(parents=True, exist_ok=True)
        if index < campaign.distinct:
            originals.append(_write_sample(subfolder, index, campaign))
        else:
            _repeat_sample(subfolder, index, originals[index % len(originals)])


def _write_sample(folder: Path, index: int, campaign: Campaign) -> Path:
    rng = np.random.default_rng([campaign.seed, index])
    if campaign.photographs and index % campaign.photographs == campaign.photographs - 1:
        return _write_photograph(folder, index, rng)
    return _write_render(folder, index, rng, campaign)


def _write_render(folder: Path, index: int, rng: np.random.Generator, campaign: Campaign) -> Path:
    scene = Scene.random(rng, campaign.size, campaign.instances)
    name = f"image_{index:07d}"
    cryptomatte = f"cryptomatte_{index:07d}.cryptomatte.exr"
    _write_image(folder / f"{name}.png", scene.render(rng))
    write_cryptomatte(folder / cryptomatte, *scene.ranks())
    return _write_metadata(
        folder / f"{name}.json",
        {
            "annotations": _annotations(scene),
            "image": _file(f"{name}.png", "image/png", scene.size),
            "synthetic": {
                "cryptomatte": {
                    **_file(cryptomatte, "image/x-exr", scene.size),
                    "manifest": [instance.label for instance in scene.instances],
                },
                "image": _file(f"{name}.exr", "image/x-exr", scene.size),
                "parameters": {
                    "/background/env_map": "driving_school_8k",
                    "/camera/focal": rng.uniform(35, 85),
                    "/camera/orientation": rng.uniform(-180, 180, 3).tolist(),
                    "/camera/position": rng.uniform(-5, 5, 3).tolist(),
                },
            },
        },
    )


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


def _annotations(scene: Scene) -> list[dict[str, Any]]:
    annotations: list[dict[str, Any]] = [{"category": "synthetic"}]
    for instance in scene.instances:
        contour = instance.contour(scene.points // len(scene.instances))
        left, top = contour.min(axis=0).tolist()
        width, height = np.ptp(contour, axis=0).tolist()
        annotations += [
            {
                "category": instance.category,
                "contour_mode": "XY_ABS",
                "contours": [contour.tolist()],
            },
            {
                "bbox": [left, top, width, height],
                "bbox_mode": "XYWH_ABS",
                "category": instance.category,
            },
            {"category": instance.category[:2]},
        ]
    return annotations


def _write_photograph(folder: Path, index: int, rng: np.random.Generator) -> Path:
    size = (int(rng.integers(600, 1300)), int(rng.integers(500, 1000)))
    scene = Scene.random(rng, size, 1)
    name = f"image_{index:07d}"
    suffix, content = (".jpg", "image/jpeg") if rng.integers(2) else (".png", "image/png")
    pixels = scene.render(rng)
    if suffix == ".png":
        pixels = np.dstack([pixels, np.full(size[::-1], 255, np.uint8)])
    _write_image(folder / f"{name}{suffix}", pixels)
    category = scene.instances[0].category
    contour = scene.instances[0].contour(64)
    box = [*contour.min(axis=0).tolist(), *np.ptp(contour, axis=0).tolist()]
    return _write_metadata(
        folder / f"{name}.json",
        {
            "annotations": [
                {"bbox": box, "bbox_mode": "XYWH_ABS", "category": category},
                {"category": "real"},
                {"category": category[:2]},
            ],
            "image": _file(f"{name}{suffix}", content, size),
            "provenance": {"license": "CC0", "uri": "https://example.org/photograph"},
        },
    )


def _file(name: str, content: str, size: tuple[int, int]) -> dict[str, Any]:
    return {"content-type": content, "filename": name, "res": list(size)}


def _write_image(path: Path, pixels: NDArray[np.uint8]) -> None:
    order = cv2.COLOR_RGBA2BGRA if pixels.shape[2] == 4 else cv2.COLOR_RGB2BGR
    parameters = _PNG if path.suffix == ".png" else ()
    _, encoded = cv2.imencode(path.suffix, cv2.cvtColor(pixels, order), parameters)
    path.write_bytes(encoded.tobytes())


def _write_metadata(path: Path, metadata: dict[str, Any]) -> Path:
    path.write_text(json.dumps(metadata, indent=2, sort_keys=True), encoding="utf-8")
    return path


def _repeat_sample(folder: Path, index: int, original: Path) -> None:
    """Write another sample with the same content: hard links to its files, with new names."""
    old, new = original.stem, f"image_{index:07d}"
    text = original.read_text(encoding="utf-8")
    number, again = old.removeprefix("image_"), new.removeprefix("image_")
    for path in sorted(original.parent.glob(f"*{number}*")):
        if path != original:
            _link(path, folder / path.name.replace(number, again))
    (folder / f"{new}.json").write_text(text.replace(f"_{number}.", f"_{again}."), encoding="utf-8")


def _link(original: Path, copy: Path) -> None:
    copy.unlink(missing_ok=True)
    os.link(original, copy)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--distinct", type=int, default=50)
    parser.add_argument("--photographs", type=int, default=20, help="every N-th sample; 0: none")
    parser.add_argument("--size", type=int, nargs=2, default=(720, 720))
    parser.add_argument("--instances", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    arguments = vars(parser.parse_args(argv))
    folder = arguments.pop("folder")
    write_campaign(folder, Campaign(**arguments | {"size": tuple(arguments["size"])}))


if __name__ == "__main__":
    main()
