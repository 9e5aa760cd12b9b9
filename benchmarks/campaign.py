"""Generate a campaign: samples with the structure of Limbo's, reproducible from a seed.

A render's metadata holds the contours of its containers (one number per line, as in the real
files), boxes and tags. A photograph has an image, a box and tags, but nothing synthetic. The demo,
the tests and the benchmarks use it::

    python -m benchmarks.campaign FOLDER --samples 1000 --distinct 50

`benchmarks.mixed` has a second profile, with the irregularities of the real data.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.mixed import MixedCampaign, write_mixed
from benchmarks.scenes import Scene, file_section, write_cryptomatte, write_image, write_metadata

__all__ = ["Campaign", "write_campaign"]

_SAMPLES_PER_FOLDER = 1000


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
    write_image(folder / f"{name}.png", scene.render(rng))
    write_cryptomatte(folder / cryptomatte, *scene.ranks())
    return write_metadata(
        folder / f"{name}.json",
        {
            "annotations": _annotations(scene),
            "image": file_section(f"{name}.png", "image/png", scene.size),
            "synthetic": {
                "cryptomatte": {
                    **file_section(cryptomatte, "image/x-exr", scene.size),
                    "manifest": [instance.label for instance in scene.instances],
                },
                "image": file_section(f"{name}.exr", "image/x-exr", scene.size),
                "parameters": {
                    "/background/env_map": "driving_school_8k",
                    "/camera/focal": rng.uniform(35, 85),
                    "/camera/orientation": rng.uniform(-180, 180, 3).tolist(),
                    "/camera/position": rng.uniform(-5, 5, 3).tolist(),
                },
            },
        },
    )


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
    write_image(folder / f"{name}{suffix}", pixels)
    category = scene.instances[0].category
    contour = scene.instances[0].contour(64)
    box = [*contour.min(axis=0).tolist(), *np.ptp(contour, axis=0).tolist()]
    return write_metadata(
        folder / f"{name}.json",
        {
            "annotations": [
                {"bbox": box, "bbox_mode": "XYWH_ABS", "category": category},
                {"category": "real"},
                {"category": category[:2]},
            ],
            "image": file_section(f"{name}{suffix}", content, size),
            "provenance": {"license": "CC0", "uri": "https://example.org/photograph"},
        },
    )


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
    # What is not given is the default of the profile.
    parser.argument_default = argparse.SUPPRESS
    parser.add_argument("folder", type=Path)
    parser.add_argument("--profile", choices=["uniform", "mixed"], default="uniform")
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--size", type=int, nargs=2)
    parser.add_argument("--seed", type=int)
    uniform = parser.add_argument_group("profile uniform")
    uniform.add_argument("--distinct", type=int)
    uniform.add_argument("--photographs", type=int, help="every N-th sample; 0: none")
    uniform.add_argument("--instances", type=int)
    mixed = parser.add_argument_group("profile mixed (benchmarks/mixed.py)")
    mixed.add_argument(
        "--imageless", type=int, help="number of additional samples without an image"
    )
    given = vars(parser.parse_args(argv))
    folder, profile = given.pop("folder"), given.pop("profile")
    if "size" in given:
        given["size"] = tuple(given["size"])
    kind = MixedCampaign if profile == "mixed" else Campaign
    for name in given.keys() - {field.name for field in fields(kind)}:
        parser.error(f"--{name} does not belong to the profile {profile}")
    if profile == "mixed":
        write_mixed(folder, MixedCampaign(**given))
    else:
        write_campaign(folder, Campaign(**given))


if __name__ == "__main__":
    main()
