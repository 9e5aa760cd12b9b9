"""torchvision reads COCO with masks, pycocotools judges them, and ``ImageFolder`` reads folders."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torchvision.datasets import CocoDetection, ImageFolder, wrap_dataset_for_transforms_v2
from torchvision.ops import box_convert

from tests.programs.clients.expected import Expected, compare, main, read


def check(folder: Path) -> str:
    expected = read(folder)
    count = 0
    for part in ("train", "val", "test"):
        count += check_coco(folder / "coco", part, [e for e in expected if e.part == part])
    check_coco(folder / "coco-whole", "default", [e for e in expected if e.part == "train"])
    folders = [check_folder(folder / "imagefolder" / part) for part in ("train", "val", "test")]
    assert len(set(folders)) == 1, folders
    return f"{len(expected)} pictures, {count} objects with masks, classes {folders[0]}"


def check_coco(folder: Path, part: str, expected: list[Expected]) -> int:
    dataset = CocoDetection(folder / "images", folder / "annotations" / f"instances_{part}.json")
    names = {number: category["name"] for number, category in dataset.coco.cats.items()}
    for kind in ("bbox", "segm"):
        truth = COCO(folder / "annotations" / f"instances_{part}.json")  # COCOeval changes it
        for annotation in truth.anns.values():
            annotation["score"] = 1.0
        judge = COCOeval(truth, truth, kind)
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
        assert judge.stats[0] > 0.999, (part, kind, judge.stats)
    wrapped = wrap_dataset_for_transforms_v2(dataset, target_keys=("boxes", "masks", "labels"))
    assert len(wrapped) == len(expected)
    count = 0
    for (_, target), picture in zip(wrapped, expected, strict=True):
        found = []
        if "boxes" in target:
            boxes = box_convert(torch.as_tensor(target["boxes"]), "xyxy", "xywh").tolist()
            labels = [names[number] for number in target["labels"].tolist()]
            found = list(zip(labels, boxes, target["masks"].numpy(), strict=True))
        count += compare(picture, found)
    return count


def check_folder(folder: Path) -> tuple[str, ...]:
    dataset = ImageFolder(folder)
    assert len(dataset) == 12, len(dataset)
    return tuple(unquote(name) for name in dataset.classes)


if __name__ == "__main__":
    main("torchvision", check)
