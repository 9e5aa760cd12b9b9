"""supervision reads COCO and YOLO, boxes and masks."""

from __future__ import annotations

from pathlib import Path

from supervision import DetectionDataset

from tests.programs.clients.expected import Expected, compare, main, read


def check(folder: Path) -> str:
    expected = read(folder)
    counts = []
    for part in ("train", "val", "test"):
        pictures = {e.picture: e for e in expected if e.part == part}
        coco = DetectionDataset.from_coco(
            str(folder / "coco" / "images"),
            str(folder / "coco" / "annotations" / f"instances_{part}.json"),
            force_masks=True,
        )
        counts.append(check_dataset(coco, pictures, with_masks=True))
        for to in ("yolo", "yolo-seg"):
            yolo = DetectionDataset.from_yolo(
                str(folder / to / "images" / part),
                str(folder / to / "labels" / part),
                str(folder / to / "data.yaml"),
                force_masks=to == "yolo-seg",
            )
            counts.append(check_dataset(yolo, pictures, with_masks=to == "yolo-seg", bridges=100))
    return f"{len(expected)} pictures, {sum(counts)} objects"


def check_dataset(
    dataset: DetectionDataset, pictures: dict[str, Expected], with_masks: bool, bridges: int = 0
) -> int:
    assert len(dataset) == len(pictures)
    count = 0
    for path, _, found in dataset:
        boxes = [[x, y, right - x, bottom - y] for x, y, right, bottom in found.xyxy.tolist()]
        names = [dataset.classes[number] for number in found.class_id.tolist()]
        masks = list(found.mask) if with_masks and names else [None] * len(names)
        objects = list(zip(names, boxes, masks, strict=True))
        # It rounds outlines to whole pixels, and draws these, too.
        count += compare(pictures[Path(path).name], objects, slack=2, bridges=bridges)
    return count


if __name__ == "__main__":
    main("supervision", check)
