"""Ultralytics reads boxes and contours, and trains on them."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from ultralytics import YOLO
from ultralytics.data.dataset import YOLODataset
from ultralytics.data.utils import check_det_dataset, polygon2mask

from tests.programs.clients.expected import Expected, compare, main, read


def check(folder: Path) -> str:
    expected = read(folder)
    counts = []
    with tempfile.TemporaryDirectory() as elsewhere:
        os.chdir(elsewhere)  # the paths in data.yaml should not depend on where a trainer runs
        for to, task in (("yolo", "detect"), ("yolo-seg", "segment")):
            data = check_det_dataset(str(folder / to / "data.yaml"))
            for part in ("train", "val", "test"):
                pictures = {e.picture: e for e in expected if e.part == part}
                counts.append(check_dataset(data, part, task, pictures))
        trained = YOLO("yolo11n-seg.yaml").train(
            data=str(folder / "yolo-seg" / "data.yaml"),
            **{"epochs": 1, "imgsz": 64, "device": "cpu", "workers": 0, "amp": False},
            **{"plots": False, "verbose": False, "project": elsewhere},
        )
        assert trained is not None
    return f"{len(expected)} pictures, {sum(counts)} objects, trained on contours"


def check_dataset(data: dict[str, Any], part: str, task: str, pictures: dict[str, Expected]) -> int:
    dataset = YOLODataset(img_path=data[part], data=data, task=task, augment=False)
    assert len(dataset.labels) == len(pictures)  # it leaves out what it takes for corrupt
    count = 0
    for label in dataset.labels:
        height, width = label["shape"]
        names = [data["names"][int(number)] for number in label["cls"].ravel()]
        centers, sizes = np.split(label["bboxes"], 2, axis=1)
        boxes = np.hstack([centers - sizes / 2, sizes]) * [width, height, width, height]
        masks: list[Any] = [None] * len(names)
        if task == "segment":
            assert len(label["segments"]) == len(names)
            # It rounds outlines to whole pixels, and draws these, too: so let it draw larger.
            masks = [mask_of(segment, height, width) for segment in label["segments"]]
        found = list(zip(names, boxes.tolist(), masks, strict=True))
        count += compare(pictures[Path(label["im_file"]).name], found)
    return count


def mask_of(segment: Any, height: int, width: int) -> Any:
    fine = 8
    points = segment * [width * fine, height * fine]
    drawn = polygon2mask((height * fine, width * fine), [points.ravel()])
    return drawn.reshape(height, fine, width, fine).mean(axis=(1, 3)) >= 0.5


if __name__ == "__main__":
    main("ultralytics", check)
