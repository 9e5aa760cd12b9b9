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
from tests.annotations import box, contour, square
from tests.export.sources import compressed, hugging_face, reference, visible_boxes, write_sample
from tests.jobs import Command

# WebDataset leaves its shards to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

# The same in every row.
KEYS = dict.fromkeys(("row", "width", "height"), int) | dict.fromkeys(
    ("label", "path", "campaign", "provenance", "annotations"), str
)


def samples(folder: Path, part: str = "shard") -> list[dict[str, Any]]:
    shards = sorted(str(path) for path in folder.glob(f"{part}-*.tar"))
    found = list(webdataset.WebDataset(shards, shardshuffle=False).decode("pilrgb"))
    for sample in found:
        assert sample["json"].keys() == KEYS.keys()
        assert all(type(sample["json"][key]) is kind for key, kind in KEYS.items())
        for key in ("annotations", "provenance"):
            sample["json"][key] = json.loads(sample["json"][key])
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
        assert sample["json"]["label"] == ("small" if small else "big" if big else "")


def test_many_rows_become_several_shards(tmp_path: Path) -> None:
    prefix = reference(tmp_path, size=(2, 1))
    Path(f"{prefix}-metadata.pickle").unlink()
    values = np.linspace(0, 1, 2001, dtype=np.float16)
    np.save(f"{prefix}-images.npy", np.tile(values[:, None, None, None], (1, 1, 2, 3)))
    export_dataset(load(prefix), "webdataset", tmp_path / "out", workers=2)
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == [f"shard-{number:06d}.tar" for number in range(3)]
    with tarfile.open(tmp_path / "out" / names[1]) as tar:
        assert len(tar.getnames()) == 2001
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
        *names, credit = tar.getnames()
        assert (names, credit) == ([f"000000.{suffix}", "000000.json"], "CREDITS")
        picture_bytes, record = (tar.extractfile(name).read() for name in names)  # type: ignore[union-attr]
    assert picture_bytes == stream.getvalue()
    annotations = json.loads(json.loads(record)["annotations"])
    assert annotations[1]["box"] == [32, 24, 64, 48]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("shard_size", [4, None])
def test_hugging_face_reads_rows_of_all_kinds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shard_size: int | None
) -> None:
    """It takes the types of the first five rows, which have neither boxes nor provenance here."""
    datasets = hugging_face(tmp_path, monkeypatch)
    for name in "abcdef":
        write_sample(tmp_path / "data", name, [])
    outline, hole = square(8, 8, 32, 32), square(16, 16, 16, 16)
    write_sample(tmp_path / "data", "g", [box(1, 2, 3, 4.5)], provenance={"license": "CC0"})
    write_sample(tmp_path / "data", "h", [contour(outline, hole), {"category": "synthetic"}])
    write_sample(tmp_path / "data", "i", [contour(outline)], provenance={"uri": "somewhere"})
    dataset = load(compressed(tmp_path))
    export_dataset(dataset, "webdataset", tmp_path / "out", shard_size=shard_size, split=0.7)
    count = len(list((tmp_path / "out").iterdir()))
    assert count == (3 if shard_size else 2)
    found = datasets.load_dataset("webdataset", data_dir=str(tmp_path / "out"))
    rows = {row["json"]["row"]: row for part in found.values() for row in part}
    assert {name: len(part) for name, part in found.items()} == {"train": 6, "validation": 3}
    for number, row in rows.items():
        assert row["png"].size == (64, 48)
        record = row["json"]
        annotations = json.loads(record["annotations"])
        expected = [xyxy.tolist() for _, xyxy in dataset.boxes(number)]
        boxes = [(x, y, x + w, y + h) for x, y, w, h in (a["box"] for a in annotations if a["box"])]
        assert number >= 7 or boxes == [tuple(xyxy) for xyxy in expected]
    assert json.loads(rows[6]["json"]["provenance"]) == {"license": "CC0"}
    assert json.loads(rows[8]["json"]["provenance"]) == {"uri": "somewhere"}
    kinds = [
        type(json.loads(rows[row]["json"]["annotations"])[0]["segmentation"]) for row in (6, 7, 8)
    ]
    assert kinds == [type(None), dict, list]


def test_shards_of_a_size_feed_two_workers(export: Command, prefix: Path, tmp_path: Path) -> None:
    done = export(prefix, "--to", "webdataset", "-o", "out", "--shard-size", 5)
    assert done.returncode == 0, done.stderr
    shards = sorted((tmp_path / "out").iterdir())
    assert [path.name for path in shards] == [f"shard-{number:06d}.tar" for number in range(3)]
    rows = []
    for shard in shards:
        with tarfile.open(shard) as tar:
            rows.append(len(tar.getnames()) // 2)
    assert rows == [5, 5, 2]
    assert [sample["json"]["row"] for sample in samples(tmp_path / "out")] == list(range(12))
