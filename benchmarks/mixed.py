"""Generate what a user mixes from several campaigns, with everything in it that trips a program.

Each folder has the habits of one of Limbo's campaigns:

============== ====================================================================================
campaign02     30B, one container per render; contours repeated four times, with holes
campaign03     all types 48 are called ``48``; ``contours_mode``, as the specification spells it
campaign05     30B is called ``30``; `res` is nested; each ``image_N`` has a ``background_N``, which
               shows the same backdrop, and has no cryptomatte
campaign07     distractors, ``barrel/55G/A`` to ``/F``, but no container
campaign10     containers among distractors (``barrel/55G``); boxes that are empty, thin, outside of
               the image, or only partly inside
campaign15     a turntable: 20 angles per configuration, each a near copy of the one before
campaign20     a flight: each frame is a near copy of the one before; the container comes in from
               beyond the left edge, where coordinates are negative
ref            photographs of any size with provenance: of a 30B, of a ``30Boverpack``, without
               boxes, and without anything but an image
campaign11     only if asked for: samples without an image, one with a box without its mode
============== ====================================================================================

The campaigns 2, 3 and 5 share three backdrops. Parameters differ from folder to folder.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.scenes import (
    Floats,
    Scene,
    file_section,
    write_cryptomatte,
    write_image,
    write_metadata,
)

__all__ = ["MixedCampaign", "write_mixed"]

Size = tuple[int, int]

_ENV_MAPS = ("driving_school_8k", "spruit_dawn_8k", "old_depot_8k")
_FRAMES = 20
_SAMPLES_PER_FOLDER = 1000


@dataclass(frozen=True)
class MixedCampaign:
    """What to generate.

    Attributes
    ----------
    samples : int
        Number of samples with an image. Twelve have one of nearly every kind, 24 of each.
    imageless : int
        Number of samples without an image, in the folder ``campaign11``. Jobs with images fail on
        them, unless they skip bad samples.
    size : (int, int)
        Width and height of a render, in pixels. Photographs are about as large.
    seed : int
        Different seeds give different campaigns.
    """

    samples: int
    imageless: int = 0
    size: Size = (720, 720)
    seed: int = 0


def write_mixed(folder: Path, campaign: MixedCampaign) -> None:
    """Write a mixed campaign below a folder."""
    counts: Counter[str] = Counter()
    kinds = [*islice(cycle(_KINDS), campaign.samples), *[_write_imageless] * campaign.imageless]
    for index, kind in enumerate(kinds):
        number = counts[kind.__name__]
        counts[kind.__name__] += 1
        rng = np.random.default_rng([campaign.seed, index])
        kind(_Place(folder, number, campaign.size, campaign.seed, rng))


@dataclass(frozen=True)
class _Place:
    """Where a sample belongs: it is one of its kind, which have consecutive numbers."""

    root: Path
    number: int
    size: Size
    seed: int
    rng: np.random.Generator

    def folder(self, campaign: str) -> Path:
        path = self.root / campaign / f"{self.number // _SAMPLES_PER_FOLDER:04d}"
        path.mkdir(parents=True, exist_ok=True)
        return path

    def scene(self, *labels: str) -> Scene:
        """Return a scene of containers and distractors with these labels, the first in front."""
        scene = Scene.random(self.rng, self.size, len(labels))
        instances = tuple(
            replace(instance, label=label)
            for instance, label in zip(scene.instances, labels, strict=True)
        )
        points = int(self.rng.uniform(2.5, 14) * max(self.size))
        return replace(scene, instances=instances, points=points)

    def env_map(self) -> str:
        return _ENV_MAPS[self.number % len(_ENV_MAPS)]

    def backdrop(self) -> Floats:
        """Return the same pixels for the same `env_map`, of shape (height, width, 3)."""
        rng = np.random.default_rng([self.seed, _ENV_MAPS.index(self.env_map())])
        coarse = rng.uniform(0.1, 0.9, (6, 8, 3)).astype(np.float32)
        pixels = cv2.resize(coarse, self.size, interpolation=cv2.INTER_CUBIC)
        return pixels.clip(0, 1).astype(np.float32)


def _write_30b(place: _Place) -> None:
    scene = place.scene("30B/0")
    parameters = {
        "/background/env_map": place.env_map(),
        "/camera/focal": place.rng.uniform(35, 85),
        "/cylinder/material": str(place.rng.choice(["white", "lightgreen"])),
    }
    _write_render(place, "campaign02", scene, _annotations(scene, repeated=4), parameters)


def _write_48(place: _Place) -> None:
    scene = place.scene("48/0")
    parameters = {
        "/background/env_map": place.env_map(),
        "/camera/focal": int(place.rng.integers(35, 85)),
        "/cylinder/variant": str(place.rng.choice(["48G", "48X", "48Y"])),
    }
    annotations = _annotations(scene, mode_key="contours_mode")
    _write_render(place, "campaign03", scene, annotations, parameters)


def _write_background(place: _Place) -> None:
    """Write the backdrop of the sample of `_write_30` that has the same number."""
    parameters = {"/background/env_map": place.env_map()}
    annotations = [{"category": "synthetic"}, {"category": "background"}]
    _write_render(place, "campaign05", place.scene(), annotations, parameters)


def _write_30(place: _Place) -> None:
    scene = place.scene("30/0")
    parameters = {"/background/env_map": place.env_map()}
    _write_render(place, "campaign05", scene, _annotations(scene), parameters, nested=True)


def _write_distractors(place: _Place) -> None:
    kinds = place.rng.permutation(list("ABCDEF"))[:2]
    scene = place.scene(*(f"barrel/55G/{kind}/{number}" for number, kind in enumerate(kinds)))
    parameters = {"/camera/position": place.rng.uniform(-5, 5, 3).tolist()}
    _write_render(place, "campaign07", scene, _annotations(scene), parameters)


def _write_crowd(place: _Place) -> None:
    scene = place.scene("30B/0", "48Y/1", "barrel/55G/2", "barrel/55G/3")
    parameters = {
        "/camera/position": place.rng.uniform(-5, 5, 3).tolist(),
        "/scene/night": bool(place.rng.integers(2)),
    }
    width, height = place.size
    odd = [
        _box("48Y", width / 2, height / 2, 0, 0),
        _box("48Y", width / 3, height / 4, 0.02, height / 3),
        _box("30B", -0.16, height / 3, width / 4, height / 5),
        _box("30B", -0.3 * width, -0.3 * height, 0.2 * width, 0.2 * height),
        _box("barrel/55G", width + 8, height / 3, width / 4, height / 5),
        _box("barrel/55G", 0.9 * width, 0.8 * height, 0.3 * width, 0.4 * height),
    ]
    _write_render(place, "campaign10", scene, _annotations(scene) + odd, parameters)


def _write_turn(place: _Place) -> None:
    configuration, frame = divmod(place.number, _FRAMES)
    rng = np.random.default_rng([place.seed, 15, configuration])
    scene = replace(place, rng=rng).scene("48X/0")
    container = replace(scene.instances[0], angle=2 * np.pi * frame / _FRAMES)
    scene = replace(scene, instances=(container,))
    parameters = {"/turntable/angle": 360 * frame / _FRAMES, "/turntable/number": configuration}
    _write_render(place, "campaign15", scene, _annotations(scene), parameters)


def _write_frame(place: _Place) -> None:
    scene = replace(place, rng=np.random.default_rng([place.seed, 20])).scene("48G/0")
    width, height = place.size
    at = (0.01 * width * (place.number % 100), height / 2)
    scene = replace(scene, instances=(replace(scene.instances[0], centre=at),))
    parameters = {"/camera/position": [place.number / 30, 0, 12], "/flight/frame": place.number}
    _write_render(place, "campaign20", scene, _annotations(scene), parameters)


def _write_photograph(place: _Place) -> None:
    width, height = (int(place.rng.uniform(0.8, 1.8) * side) for side in place.size)
    kind = place.number % 4
    scene = replace(place, size=(width, height)).scene(
        ("30B/0", "30Boverpack/0", "48/0", "/")[kind]
    )
    suffix, content = (".jpg", "image/jpeg") if kind % 2 else (".png", "image/png")
    pixels = scene.render(place.rng)
    if kind == 0:
        pixels = np.dstack([pixels, np.full((height, width), 255, np.uint8)])
    name = f"image_{place.number:04d}"
    write_image(place.folder("ref") / f"{name}{suffix}", pixels)
    metadata: dict[str, Any] = {"image": file_section(f"{name}{suffix}", content, scene.size)}
    (container,) = scene.instances
    tags: list[dict[str, Any]] = [{"category": "real"}, {"category": container.category}]
    if kind < 2:
        tags.append(_box(container.category, *_bounds(container.contour(64))))
    if kind < 3:
        metadata |= {"annotations": tags, "provenance": _PROVENANCES[kind]}
    write_metadata(place.folder("ref") / f"{name}.json", metadata)


def _write_imageless(place: _Place) -> None:
    """Write a render of which only the image is missing, then one with tags only, then nothing."""
    path = place.folder("campaign11") / f"image_{place.number:07d}.json"
    if place.number % 3 == 0:
        scene = place.scene("30B/0", "48G/1")
        _write_render(place, "campaign11", scene, _annotations(scene), {})
        metadata = json.loads(path.read_text(encoding="utf-8"))
        metadata["annotations"].append({"bbox": [1, 2, 3, 4], "category": "30B"})
        path.with_name(metadata.pop("image")["filename"]).unlink()
    else:
        metadata = {"annotations": [{"category": "48G"}]} if place.number % 3 == 1 else {}
    write_metadata(path, metadata)


_KINDS: tuple[Callable[[_Place], None], ...] = (
    *(_write_30b, _write_48, _write_background, _write_30, _write_distractors, _write_crowd),
    *(_write_turn, _write_turn, _write_frame),
    *(_write_photograph, _write_photograph, _write_photograph),
)

_PROVENANCES: tuple[dict[str, str], ...] = (
    {
        "copyright": "A. Photographer / Example, 2019",
        "license": "Attribution 2.0 Generic (CC BY 2.0)",
        "license-uri": "https://creativecommons.org/licenses/by/2.0/",
        "uri": "https://example.org/photograph",
    },
    {"copyright": "Example Corporation", "license": "Used with permission"},
    {"license": "CC0"},
)


def _write_render(
    place: _Place,
    campaign: str,
    scene: Scene,
    annotations: list[dict[str, Any]],
    parameters: dict[str, Any],
    nested: bool = False,
) -> None:
    """Write a render; without an instance it is a background, which has no cryptomatte."""
    name = f"{'image' if scene.instances else 'background'}_{place.number:07d}"
    folder = place.folder(campaign)
    backdrop = place.backdrop() if "/background/env_map" in parameters else None
    write_image(folder / f"{name}.png", scene.render(place.rng, backdrop))
    image = file_section(f"{name}.png", "image/png", scene.size)
    synthetic: dict[str, Any] = {
        "image": file_section(f"{name}.exr", "image/x-exr", scene.size),
        "parameters": parameters,
    }
    if scene.instances:
        cryptomatte = f"cryptomatte_{place.number:07d}.cryptomatte.exr"
        write_cryptomatte(folder / cryptomatte, *scene.ranks())
        synthetic["cryptomatte"] = {
            **file_section(cryptomatte, "image/x-exr", scene.size),
            "manifest": [instance.label for instance in scene.instances],
        }
    if nested:
        image["res"] = [image["res"]]
    write_metadata(
        folder / f"{name}.json",
        {"annotations": annotations, "image": image, "synthetic": synthetic},
    )


def _annotations(
    scene: Scene, repeated: int = 1, mode_key: str = "contour_mode"
) -> list[dict[str, Any]]:
    """Return a tag, and for each instance its contour with a hole, some times over, and a box."""
    annotations: list[dict[str, Any]] = [{"category": "synthetic"}]
    for instance in scene.instances:
        outline = instance.contour(scene.points // len(scene.instances))
        hole = replace(instance, axes=(instance.axes[0] / 10, instance.axes[1] / 10)).contour(13)
        contour = {
            "category": instance.category,
            "contours": [outline.tolist(), hole.tolist()],
            mode_key: "XY_ABS",
        }
        annotations += [contour] * repeated
        annotations.append(_box(instance.category, *_bounds(outline)))
    return annotations


def _bounds(points: NDArray[np.float64]) -> list[float]:
    return [*points.min(axis=0).tolist(), *np.ptp(points, axis=0).tolist()]


def _box(category: str, *xywh: float) -> dict[str, Any]:
    return {"bbox": list(xywh), "bbox_mode": "XYWH_ABS", "category": category}
