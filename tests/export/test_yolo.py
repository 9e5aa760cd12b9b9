"""The YOLO layout, by a strict reader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from limbo_compress import export_dataset, load
from tests.export.sources import box, compressed, contour, write_sample
from tests.jobs import Command, files


class Layout:
    """What a trainer finds below a ``data.yaml``, every rule of the layout checked."""

    def __init__(self, folder: Path) -> None:
        data = yaml.safe_load((folder / "data.yaml").read_text(encoding="utf-8"))
        assert set(data) == {"train", "val", "nc", "names"}
        self.names: dict[int, str] = data["names"]
        assert list(self.names) == list(range(data["nc"]))
        assert len(set(self.names.values())) == data["nc"]
        self.parts = {part: self._read(folder, data[part]) for part in ("train", "val")}
        images = {path for path in folder.glob("images/**/*") if path.is_file()}
        labels = {path for path in folder.glob("labels/**/*") if path.is_file()}
        expected = {folder / data[part] for part in ("train", "val")}
        assert {path.parent for path in images} <= expected
        assert len(labels) == len(images)
        assert {path.name for path in folder.iterdir()} == {"data.yaml", "images", "labels"}

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
        assert len(words) == 4
        x, y, width, height = (float(word) for word in words)
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
    assert files(tmp_path / "out") == files(tmp_path / "again")
    found = [name for part in layout.parts.values() for line in part.values() for name, _ in line]
    assert set(found) == {"big", "30"}


def test_boxes_and_contours_become_boxes(tmp_path: Path) -> None:
    lines = [[8, 12], [24, 12], [24, 36], [8, 36]]
    annotations = [
        *(contour(lines), box(40, 10, 100, 4, category="48Y"), box(40, 10, 8, 4, category=None)),
        *({"category": "synthetic"}, box(-9, -9, 3, 3, category="unseen")),
    ]
    write_sample(tmp_path / "data", "a", annotations)
    write_sample(tmp_path / "data", "b", [])
    export_dataset(load(compressed(tmp_path)), "yolo", tmp_path / "out", workers=1)
    layout = Layout(tmp_path / "out")
    assert layout.names == {0: "30B", 1: "48Y", 2: "synthetic", 3: "unseen"}
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
