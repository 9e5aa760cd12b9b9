"""Tar shards, read by WebDataset."""

from __future__ import annotations

import gc
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset
from PIL import Image

from limbo_compress import export_dataset, load
from tests.export.sources import (
    box,
    compressed,
    contour,
    reference,
    visible_boxes,
    write_sample,
)
from tests.jobs import Command

# WebDataset leaves its shards to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def samples(folder: Path, part: str = "shard") -> list[dict[str, Any]]:
    shards = sorted(str(path) for path in folder.glob(f"{part}-*.tar"))
    found = list(webdataset.WebDataset(shards, shardshuffle=False).decode("pilrgb"))
    gc.collect()
    return found


def test_webdataset_decodes_pictures_and_annotations(
    export: Command, prefix: Path, tmp_path: Path
) -> None:
    done = export(prefix, "--to", "webdataset", "-o", "out")
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["shard-000000.tar"]
    dataset = load(prefix)
    found = samples(tmp_path / "out")
    assert [sample["json"]["row"] for sample in found] == list(range(12))
    for row, sample in enumerate(found):
        assert sample["__key__"] == f"{row:06d}"
        assert sample["png"].size == (64, 48)
        assert sample["json"]["path"] == dataset.paths[row]
        annotations = sample["json"]["annotations"]
        assert {a["category"] for a in annotations} == dataset.categories[row]
        boxes = visible_boxes(json.loads(Path(dataset.paths[row]).read_text()))
        assert len([a for a in annotations if a["box"]]) == len(boxes)
        assert len([a for a in annotations if a["segmentation"]]) == len(dataset.contours(row))


def test_parts_and_labels(prefix: Path, tmp_path: Path) -> None:
    labels = {"small": "^30", "big": "^48"}
    options: dict[str, Any] = {"labels": labels, "split": 0.5, "workers": 1}
    export_dataset(load(prefix), "webdataset", tmp_path / "out", **options)
    train, val = samples(tmp_path / "out", "train"), samples(tmp_path / "out", "val")
    assert (len(train), len(val)) == (6, 6)
    table = load(prefix).labels(labels)
    for sample in train + val:
        small, big = table[sample["json"]["row"]]
        assert sample["json"]["label"] == ("small" if small else "big" if big else None)


def test_many_rows_become_several_shards(tmp_path: Path) -> None:
    prefix = reference(tmp_path, size=(2, 1))
    Path(f"{prefix}-metadata.pickle").unlink()
    values = np.linspace(0, 1, 2001, dtype=np.float16)
    np.save(f"{prefix}-images.npy", np.tile(values[:, None, None, None], (1, 1, 2, 3)))
    export_dataset(load(prefix), "webdataset", tmp_path / "out", workers=2)
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == [f"shard-{number:06d}.tar" for number in range(3)]
    with tarfile.open(tmp_path / "out" / names[1]) as tar:
        assert len(tar.getnames()) == 2000
    found = samples(tmp_path / "out")
    assert [sample["__key__"] for sample in found] == [f"{row:06d}" for row in range(2001)]
    levels = [sample["png"].getpixel((0, 0))[0] for sample in found]
    assert levels == sorted(levels)
    assert (levels[0], levels[-1]) == (0, 255)
    assert found[0]["json"]["annotations"] == []


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_source_images_are_copied_byte_by_byte(tmp_path: Path, kind: str) -> None:
    path = write_sample(
        tmp_path / "data",
        "a",
        [box(32, 24, 64, 48), contour([[0, 0], [9, 0], [9, 9]])],
        size=(128, 96),
    )
    image = path.with_suffix(".png")
    stream = io.BytesIO()
    with Image.open(image) as picture:
        picture.save(stream, kind)
    image.write_bytes(stream.getvalue())
    export_dataset(load(compressed(tmp_path)), "webdataset", tmp_path / "out", source=True)
    suffix = {"JPEG": "jpg", "PNG": "png"}[kind]
    with tarfile.open(tmp_path / "out" / "shard-000000.tar") as tar:
        names = tar.getnames()
        assert names == [f"000000.{suffix}", "000000.json"]
        picture_bytes, record = (tar.extractfile(name).read() for name in names)  # type: ignore[union-attr]
    assert picture_bytes == stream.getvalue()
    assert json.loads(record)["annotations"][1]["box"] == [32, 24, 64, 48]
