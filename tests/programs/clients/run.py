"""Export a mixed campaign, and let other programs read it: ``make clients``.

It has photographs with boxes but no contours, renders, contours with holes and of several pieces,
boxes and contours that leave the picture, and samples without an object.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.campaign import Campaign, write_campaign
from limbo_compress import compress, export_dataset, load
from tests.annotations import box, contour, square
from tests.export.sources import bounds, distinct, raster, write_sample
from tests.jobs import ROOT, job, run
from tests.programs.clients.expected import Expected, Object, write

SIZE = (160, 120)
SOURCE = (320, 240)
PARTS = ("train", "val", "test")
CLIENTS = ("torchvision", "ultralytics", "supervision", "datumaro")


def write_data(folder: Path, seed: int) -> None:
    """Write the samples of a part."""
    write_campaign(folder, Campaign(samples=8, photographs=4, size=SOURCE, seed=seed))
    outer, hole = square(40, 40, 200, 160), square(60, 60, 60, 60)
    island, piece = square(80, 80, 20, 20), square(260, 40, 40, 160)
    diamond = [[160, -80], [360, 120], [160, 320], [-40, 120]]
    for name, found in {
        "holes": [contour(outer, hole, island, square(140, 100, 80, 60), piece)],
        "pieces": [contour(square(20, 20, 60, 60), piece, category="48Y")],
        "edges": [contour(diamond, category="48Y"), box(-20, -20, 80, 80, category="30B")],
        "nothing": [{"category": "background"}],
    }.items():
        write_sample(folder / "more", name, found, SOURCE)


def objects(metadata: dict[str, Any]) -> list[Object]:
    """Say what a sample's metadata show, without the package."""
    sizes = tuple(metadata["image"]["res"]), SIZE
    found = {
        (item["category"], *np.round(bounds(item["contours"], *sizes), 1).tolist()): item
        for item in distinct(metadata, "contours")
    }
    outlines = {key: item["contours"] for key, item in found.items()}
    for item in distinct(metadata, "bbox"):
        corners = square(*item["bbox"])
        key = (item["category"], *np.round(bounds([corners], *sizes), 1).tolist())
        outlines.setdefault(key, [corners])
    return [
        Object(key[0], bounds(lines, *sizes), key in found, raster(lines, *sizes))
        for key, lines in outlines.items()
    ]


def prepare(build: Path) -> None:
    """Write the exports, and what their pictures should show."""
    shutil.rmtree(build, ignore_errors=True)
    parts = []
    for seed, part in enumerate(PARTS):
        write_data(build / part / "data", seed)
        compress(job(build / part / "data", build / part, image_size=SIZE))
        parts.append(load(build / part / "out"))
    train, val, test = parts
    for to in ("coco", "yolo", "yolo-seg", "webdataset"):
        export_dataset(train, to, build / to, val=val, test=test)
    export_dataset(train, "coco", build / "coco-whole")
    labels = {"48": "^48", "30 dev": "^30", "test": "background"}
    export_dataset(train, "imagefolder", build / "imagefolder", labels=labels, val=val, test=test)
    paths = [
        (part, path) for part, dataset in zip(PARTS, parts, strict=True) for path in dataset.paths
    ]
    write(
        build,
        [
            Expected(f"{row:06d}.png", part, objects(json.loads(Path(path).read_text())))
            for row, (part, path) in enumerate(paths)
        ],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("python", help="of the environment of the clients")
    arguments = parser.parse_args()
    build = ROOT / "build" / "clients"
    prepare(build)
    failed = []
    # Ultralytics keeps its settings there.
    env = {"YOLO_CONFIG_DIR": str(build), "YOLO_OFFLINE": "true"}
    for client in CLIENTS:
        command = (arguments.python, "-m", f"tests.programs.clients.check_{client}", build)
        if run(*command, cwd=ROOT, env=env, capture_output=False, timeout=None).returncode:
            failed.append(client)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
