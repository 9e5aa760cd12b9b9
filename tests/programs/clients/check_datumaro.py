"""datumaro, with which CVAT imports as well, recognizes COCO and reads it with its pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from datumaro.components.annotation import AnnotationType
from datumaro.components.dataset import Dataset
from datumaro.components.environment import Environment
from pycocotools import mask as coco_masks

from tests.programs.clients.expected import compare, main, read


def check(folder: Path) -> str:
    expected = read(folder)
    parts = {"train": "train", "val": "val", "test": "test"}
    count = check_coco(folder / "coco", parts, expected)
    train = [e for e in expected if e.part == "train"]
    check_coco(folder / "coco-whole", {"train": "default"}, train)
    return f"{len(expected)} pictures, {count} objects"


def check_coco(folder: Path, parts: dict[str, str], expected: list[Any]) -> int:
    assert "coco" in {name.split("_")[0] for name in Environment().detect_dataset(str(folder))}
    dataset = Dataset.import_from(str(folder), "coco")
    names = [label.name for label in dataset.categories()[AnnotationType.label]]
    assert len(dataset) == len(expected)
    count = 0
    for picture in expected:
        item = dataset.get(Path(picture.picture).stem, parts[picture.part])
        height, width = item.media.data.shape[:2]  # of the file, so it was found
        groups: dict[int, list[Any]] = {}
        for annotation in item.annotations:
            groups.setdefault(annotation.group, []).append(annotation)
        found = []
        for pieces in groups.values():
            (box,) = [piece for piece in pieces if piece.type == AnnotationType.bbox]
            drawn = [draw(piece, height, width) for piece in pieces if piece is not box]
            found.append((names[box.label], box.get_bbox(), np.any(drawn, axis=0)))
        count += compare(picture, found)
    return count


def draw(piece: Any, height: int, width: int) -> Any:
    if piece.type == AnnotationType.polygon:
        rles = coco_masks.frPyObjects([list(piece.points)], height, width)
        return coco_masks.decode(coco_masks.merge(rles)) > 0
    return np.asarray(piece.image) > 0


if __name__ == "__main__":
    main("datumaro", check)
