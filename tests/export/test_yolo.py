"""The YOLO layout, by a strict reader."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image

from limbo_compress import export_dataset, load
from tests.annotations import box, contour, square
from tests.export.sources import (
    Mask,
    check_mask,
    compressed,
    distinct,
    raster,
    visible_boxes,
    write_sample,
)
from tests.jobs import Command, files

FINE = 16


class Layout:
    """What a trainer finds below a ``data.yaml``, every rule of the layout checked."""

    def __init__(self, folder: Path) -> None:
        data = yaml.safe_load((folder / "data.yaml").read_text(encoding="utf-8"))
        assert {"path", "train", "val", "nc", "names"} <= set(data)
        assert data["path"] == str(folder)  # absolute, as YOLOv5 needs it
        names = [part for part in ("train", "val", "test") if part in data]
        self.names: dict[int, str] = data["names"]
        assert list(self.names) == list(range(data["nc"]))
        assert len(set(self.names.values())) == data["nc"]
        self.parts = {part: self._read(folder, data[part]) for part in names}
        images = {path for path in folder.glob("images/**/*") if path.is_file()}
        labels = {path for path in folder.glob("labels/**/*") if path.is_file()}
        expected = {folder / data[part] for part in names}
        assert {path.parent for path in images} <= expected
        assert len(labels) == len(images)
        assert {path.name for path in folder.iterdir()} == {
            *("CREDITS", "data.yaml", "images", "labels")
        }

    def _read(self, folder: Path, images: str) -> dict[str, list[tuple[str, list[float]]]]:
        """The class and the box of each line, in pixels of the picture, by the picture's name."""
        assert images.split("/")[0] == "images"
        found = {}
        for path in sorted((folder / images).iterdir()):
            label_path = folder / images.replace("images", "labels", 1) / f"{path.stem}.txt"
            with Image.open(path) as picture:
                size = picture.size
            found[path.name] = [
                self._line(line, size) for line in label_path.read_text("ascii").splitlines()
            ]
        return found

    def _line(self, line: str, size: tuple[int, int]) -> tuple[str, list[float]]:
        number, *words = line.split(" ")
        values = [float(word) for word in words]
        if len(values) > 4:
            points = np.reshape(values, (-1, 2))
            assert len(points) >= 3
            assert (points >= 0).all()
            assert (points <= 1).all()
            return self.names[int(number)], (points * size).ravel().tolist()
        x, y, width, height = values
        assert 0 < width <= 1
        assert 0 < height <= 1
        corners = np.array([x - width / 2, y - height / 2, width, height])
        assert (corners[:2] >= -1e-6).all()
        assert (corners[:2] + corners[2:] <= 1 + 2e-6).all()
        return self.names[int(number)], (corners * [*size, *size]).tolist()


def boxes(found: list[tuple[str, list[float]]]) -> list[tuple[Any, ...]]:
    return [(name, *(round(value, 1) for value in values)) for name, values in found]


def test_the_command_writes_the_layout(export: Command, prefix: Path, tmp_path: Path) -> None:
    done = export(prefix, "--to", "yolo", "-o", "out")
    assert done.returncode == 0, done.stderr
    layout = Layout(tmp_path / "out")
    assert layout.parts["train"] == layout.parts["val"]
    dataset = load(prefix)
    for row, found in enumerate(layout.parts["train"].values()):
        expected = [
            (category, xyxy.clip(0, [64, 48, 64, 48]))
            for category, xyxy in dataset.boxes(row)
            if (np.maximum(xyxy[:2], 0) < np.minimum(xyxy[2:], [64, 48])).all()
        ]
        assert sorted(name for name, _ in found) == sorted(str(name) for name, _ in expected)
        for name, values in found:
            corners = np.array([*values[:2], values[0] + values[2], values[1] + values[3]])
            distances = [np.abs(xyxy - corners).max() for n, xyxy in expected if n == name]
            assert min(distances) < 0.02


def test_a_split_has_two_folders(export: Command, prefix: Path, tmp_path: Path) -> None:
    for out in ("out", "again"):
        arguments = ("--split", "0.75", "--seed", 1, "--labels", "big=^48,30=^30")
        done = export(prefix, "--to", "yolo", "-o", out, *arguments)
        assert done.returncode == 0, done.stderr
    layout = Layout(tmp_path / "out")
    assert layout.names == {0: "big", 1: "30"}
    assert (len(layout.parts["train"]), len(layout.parts["val"])) == (9, 3)
    assert not set(layout.parts["train"]) & set(layout.parts["val"])
    first, again = files(tmp_path / "out"), files(tmp_path / "again")
    assert first.pop("data.yaml") != again.pop("data.yaml")  # they say where they are
    assert first == again
    found = [name for part in layout.parts.values() for line in part.values() for name, _ in line]
    assert set(found) == {"big", "30"}


def test_boxes_and_contours_become_boxes(tmp_path: Path) -> None:
    lines = square(8, 12, 16, 24)
    annotations = [
        *(contour(lines), box(40, 10, 100, 4, category="48Y"), box(40, 10, 8, 4, category=None)),
        *({"category": "synthetic"}, box(-9, -9, 3, 3, category="unseen")),
    ]
    write_sample(tmp_path / "data", "a", annotations)
    write_sample(tmp_path / "data", "b", [])
    export_dataset(load(compressed(tmp_path)), "yolo", tmp_path / "out", workers=1)
    layout = Layout(tmp_path / "out")
    assert layout.names == {0: "30B", 1: "48Y", 2: "unseen"}
    assert list(layout.parts["val"]) == ["000000.png", "000001.png"]
    assert boxes(layout.parts["val"]["000000.png"]) == [
        ("30B", 8, 12, 16, 24),
        ("48Y", 40, 10, 24, 4),
    ]
    assert layout.parts["val"]["000001.png"] == []


@pytest.mark.parametrize("source", [False, True])
def test_boxes_of_source_images(tmp_path: Path, source: bool) -> None:
    write_sample(tmp_path / "data", "a", [box(32, 24, 64, 48)], size=(128, 96))
    export_dataset(load(compressed(tmp_path)), "yolo", tmp_path / "out", source=source, workers=1)
    found = Layout(tmp_path / "out").parts["train"]["000000.png"]
    assert boxes(found) == [("30B", *((32, 24, 64, 48) if source else (16, 12, 32, 24)))]


# Contours


def filled(found: list[float]) -> Mask:
    """Fill a polygon as trainers do, but finer."""
    points = np.round(np.reshape(found, (-1, 1, 2)) * FINE).astype(np.int32)
    fine = np.zeros((48 * FINE, 64 * FINE), np.uint8)
    cv2.fillPoly(fine, [points], 1)
    mask: Mask = fine.reshape(48, FINE, 64, FINE).mean(axis=(1, 3)) >= 0.5
    return mask


def test_contours_keep_their_holes_and_pieces(tmp_path: Path) -> None:
    lines = [
        *(square(8, 8, 40, 32), square(12, 12, 16, 16), square(16, 16, 8, 8)),
        *(square(32, 12, 8, 20), square(52, 4, 8, 40)),
    ]
    write_sample(tmp_path / "data", "a", [contour(*lines), box(4, 6, 10, 12, category="48Y")])
    write_sample(tmp_path / "data", "b", [])
    export_dataset(load(compressed(tmp_path)), "yolo-seg", tmp_path / "out", workers=1)
    layout = Layout(tmp_path / "out")
    (name, found), (other, rectangle) = layout.parts["train"]["000000.png"]
    assert (name, other) == ("30B", "48Y")
    np.testing.assert_array_equal(filled(found), raster(lines, (64, 48), (64, 48)))
    np.testing.assert_allclose(rectangle, [4, 6, 14, 6, 14, 18, 4, 18], atol=1e-4)
    assert layout.parts["train"]["000001.png"] == []


def test_contours_of_the_campaign(prefix: Path, tmp_path: Path) -> None:
    dataset = load(prefix)
    report = export_dataset(dataset, "yolo-seg", tmp_path / "out", workers=1)
    layout = Layout(tmp_path / "out")
    assert sum(map(len, layout.parts["train"].values())) == report.boxes > 0
    for row, found in enumerate(layout.parts["train"].values()):
        metadata = json.loads(Path(dataset.paths[row]).read_text())
        assert len(found) == len(visible_boxes(metadata))
        sizes = tuple(np.ravel(metadata["image"]["res"]).tolist()), (64, 48)
        masks = [filled(line) for _, line in found]
        for outline in distinct(metadata, "contours"):
            expected = raster(outline["contours"], *sizes)
            mask = max(masks, key=lambda mask: (mask & expected).sum())
            check_mask(mask, expected, holes=len(outline["contours"]) - 1)


# Parts that are given


def test_parts_from_other_prefixes(export: Command, tmp_path: Path) -> None:
    for part, samples in {"a": ["48"], "b": ["30B", "48"], "c": ["77", "30B", "30B"]}.items():
        for number, category in enumerate(samples):
            found = [box(2, 2, 10 + number, 10, category=category)]
            write_sample(tmp_path / part / "data", f"image_{number}", found)
        compressed(tmp_path / part)
    done = export("a/out", "--to", "yolo", "-o", "out", "--val", "b/out", "--test", "c/out")
    assert (done.returncode, done.stdout) == (0, f"{tmp_path}/out  6 rows  6 boxes\n"), done.stderr
    layout = Layout(tmp_path / "out")
    assert layout.names == {0: "30B", 1: "48", 2: "77"}  # of all parts
    by_part = {
        part: [name for lines in pictures.values() for name, _ in lines]
        for part, pictures in layout.parts.items()
    }
    assert by_part == {"train": ["48"], "val": ["30B", "48"], "test": ["77", "30B", "30B"]}
    names = [name for pictures in layout.parts.values() for name in pictures]
    assert names == [f"{row:06d}.png" for row in range(6)]
    done = export("a/out", "--to", "yolo", "-o", "two", "--val", "b/out", "--val", "c/out")
    assert done.returncode == 0, done.stderr
    assert {part: len(p) for part, p in Layout(tmp_path / "two").parts.items()} == {
        "train": 1,
        "val": 5,
    }
