"""Record the reference's outputs for small samples: ``make record``.

It runs in the reference's own environment, with its Pillow and numpy. The samples are kept with the
outputs, so that the version of an encoder cannot make a difference.
"""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

HERE = Path(__file__).parent
SAMPLES = HERE / "samples"
SIZES = ((16, 16), (24, 50), (90, 61), (33, 47))


def make_samples() -> None:
    """Write a sample of each kind of image that the reference can read."""
    rng = np.random.default_rng(20220501)
    color, small, wide = (_picture(rng, *size) for size in ((33, 47), (3, 2), (120, 9)))
    alpha = Image.fromarray(rng.integers(0, 256, (47, 33), dtype=np.uint8))
    rotated = Image.Exif()
    rotated[0x0112] = 6
    _save("rgb.png", color)
    _save("rgb-interlaced.jpg", color, quality=90, progressive=True)
    _save("rgb.jpg", color, quality=85, subsampling=2)
    _save("rgb-turned.jpg", color, quality=85, exif=rotated)
    _save("rgba.png", Image.merge("RGBA", (*color.split(), alpha)))
    _save("grey.png", color.convert("L"))
    _save("grey.jpg", color.convert("L"), quality=85)
    _save("grey-2-bit.png", color.convert("L").quantize(4).convert("L"), bits=2)
    _save("small.png", small)
    _save("wide.png", wide)
    _save("black.png", Image.new("RGB", (20, 20)))
    _save("steps.png", Image.fromarray((rng.integers(0, 2, (40, 40, 3)) * 255).astype(np.uint8)))


def _picture(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    x, y = np.linspace(0, 1, width)[None, :], np.linspace(0, 1, height)[:, None]
    shade = np.stack([x * y, x * (1 - y), np.sqrt(x + y) / 2], axis=-1)
    noise = rng.normal(0, 6, shade.shape)
    return Image.fromarray(np.clip(255 * shade + noise, 0, 255).astype(np.uint8))


def _save(name: str, image: Image.Image, **options: Any) -> None:
    SAMPLES.mkdir(exist_ok=True)
    image.save(SAMPLES / name, **options)
    metadata = {
        "annotations": [
            {"category": "30B", "contours": [[[0.5, 1.25], [3, 4.75]]], "contour_mode": "XY_ABS"},
            {"category": "30B", "bbox": [1, 2.5, 3, 4], "bbox_mode": "XYWH_ABS"},
            {"bbox": [1, 2, 3, 4], "bbox_mode": "XYWH_ABS"},
            {"category": name},
        ],
        "image": {"filename": name, "res": list(image.size)},
        "numbers": [0, -1, 2**70, 1e300, 1.5e-9],
        "text": "K\u00e4fig \U0001f4e6",
    }
    (SAMPLES / f"{name}.json").write_text(json.dumps(metadata, indent=2), encoding="utf-8")


def record() -> None:
    """Run the reference on the samples and keep its outputs."""
    with tempfile.TemporaryDirectory() as folder:
        images = {}
        for width, height in SIZES:
            size = ["--image-size", str(width), str(height)]
            _reference(folder, "--images", *size)
            images[f"{width}x{height}"] = np.load(Path(folder) / "out-images.npy")
        np.savez_compressed(HERE / "images.npz", **images)
        for name, flags in (("metadata", []), ("stripped", ["--strip-regions"])):
            _reference(folder, "--metadata", *flags)
            data = pickle.loads((Path(folder) / "out-metadata.pickle").read_bytes())
            (HERE / f"{name}.pickle").write_bytes(pickle.dumps(data, protocol=4))


def _reference(folder: str, *flags: str) -> None:
    program = Path(sys.executable).with_name("limbo-compress")
    command = [str(program), "--prefix", "out", *flags, "--", str(SAMPLES)]
    subprocess.run(command, cwd=folder, check=True)


if __name__ == "__main__":
    make_samples()
    record()
