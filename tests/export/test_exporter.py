"""What all formats have in common: workers, errors, sources, hostile input, interruptions."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from pycocotools.coco import COCO

from limbo_compress import (
    EXPORT_FORMATS,
    InputError,
    OutputError,
    UsageError,
    choose_rows,
    compress,
    concat,
    export_dataset,
    load,
)
from tests.annotations import box
from tests.export.sources import compressed, reference, visible_boxes, write_sample
from tests.frozen import damaged_outputs
from tests.jobs import Command, error_line, files, job, run, run_command, script, wait_until

HOSTILE = (
    *("<script>alert(1)</script>", "\"'`", "a\nb: c", "../../up", "/absolute", "..", "x" * 5000),
    *("\u202e48\u05d0", "null", "1e3", "- a", "{{x}}", "%2E", "\ud800", "\u2028", "\U0001f600"),
    *("", "\x00\x1b[31m"),
)
HARMLESS = {text: text.encode("utf-8", "backslashreplace").decode() for text in HOSTILE}


def failed(done: subprocess.CompletedProcess[str], code: int, folder: Path) -> str:
    """Check that a command failed with one line and left nothing; return the line."""
    assert not list(folder.glob(".export*"))
    return error_line(done, code)


def coco_of(out: Path, part: str = "default") -> Any:
    path = out / "annotations" / f"instances_{part}.json"
    return json.loads(path.read_text(encoding="utf-8"))


def rows(folder: Path, count: int, width: int = 224) -> Path:
    """Images without metadata that take no room on the disk."""
    shape = (count, width, width, 3)
    np.lib.format.open_memmap(folder / "x-images.npy", "w+", np.float16, shape).flush()
    return folder / "x"


@pytest.mark.parametrize("to", EXPORT_FORMATS)
@pytest.mark.parametrize("options", [{}, {"labels": {"48": "^48", "30": "^30"}, "split": 0.5}])
def test_the_number_of_workers_changes_no_byte(
    prefix: Path, tmp_path: Path, to: str, options: dict[str, Any]
) -> None:
    reports = [
        export_dataset(load(prefix), to, tmp_path / str(workers), workers=workers, **options)
        for workers in (1, 3)
    ]
    first, second = files(tmp_path / "1"), files(tmp_path / "3")
    if to.startswith("yolo"):  # they say where they are
        assert first.pop("data.yaml").replace(b"/1\n", b"/3\n") == second.pop("data.yaml")
    assert first == second
    assert first
    dataset, labels = load(prefix), options.get("labels", {"all": ""})
    assert dataset.metadata is not None
    rows = np.count_nonzero(dataset.labels(labels).any(axis=1)) if to == "imagefolder" else 12
    boxes = [box for sample in dataset.metadata for box in visible_boxes(sample)]
    patterns = "|".join(labels.values())
    labeled = [box for box in boxes if re.search(patterns, box["category"])]
    assert [report.rows for report in reports] == [rows, rows]
    assert reports[0].boxes == reports[1].boxes == (0 if to == "imagefolder" else len(labeled))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "3"]


def test_progress_counts_the_rows(prefix: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    dataset = load(prefix)
    export_dataset(dataset, "parquet", tmp_path / "out", progress=lambda *done: seen.append(done))
    assert seen[-1] == (12, 12)
    assert seen == sorted(seen)


def test_a_view_is_exported_in_its_order(prefix: Path, tmp_path: Path) -> None:
    dataset = load(prefix).select([7, 2, 5])
    export_dataset(dataset, "coco", tmp_path / "out", workers=1)
    images = coco_of(tmp_path / "out")["images"]
    assert [image["path"] for image in images] == list(dataset.paths)
    assert [image["id"] for image in images] == [0, 1, 2]


def test_several_prefixes_with_the_same_names(export: Command, tmp_path: Path) -> None:
    prefixes = []
    for name in ("first", "second"):
        write_sample(tmp_path / name / "data", "a", [box(1, 2, 3, 4, category=name)])
        prefixes.append(compressed(tmp_path / name))
    for to in EXPORT_FORMATS:
        done = export(*prefixes, "--to", to, "-o", to, "--quiet")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    coco = COCO(tmp_path / "coco" / "annotations" / "instances_default.json")
    found = [
        (coco.imgs[a["image_id"]]["path"], coco.cats[a["category_id"]]["name"])
        for a in coco.anns.values()
    ]
    expected = [(str(tmp_path / name / "data" / "a.json"), name) for name in ("first", "second")]
    assert found == expected
    assert len(list((tmp_path / "imagefolder" / "images").iterdir())) == 2


# Tiny objects, and those at the edges

DROPPED = [
    *(box(20, 20, 2.5, 2), box(20, 20, 2.5, 1.9), box(20, 20, 5, 5, category="48Y")),
    *(box(-3, 20, 5, 2.5), box(-3, 20, 5, 2.4)),  # 2 pixels of its width are inside
    *(box(0, 16, 16, 4), box(0, 16, 15.9, 4), box(58, 39, 4, 4), box(2, 2, 60, 44)),
]


@pytest.mark.parametrize("to", [to for to in EXPORT_FORMATS if to != "imagefolder"])
@pytest.mark.parametrize(
    ("options", "boxes", "dropped"),
    [
        ((), 9, 0),
        (("--min-box", 5), 7, 2),
        (("--edge-margin", 8), 5, 4),
        (("--min-box", 5, "--edge-margin", 8), 4, 5),
        (("--min-box", 5, "--labels", "big=^48"), 1, 0),
        (("--min-box", 1e6), 0, 9),
    ],
)
def test_small_objects_and_those_at_edges_are_dropped(
    export: Command, tmp_path: Path, to: str, options: tuple[Any, ...], boxes: int, dropped: int
) -> None:
    write_sample(tmp_path / "data", "a", [*DROPPED, {"category": "synthetic"}])
    write_sample(tmp_path / "data", "b", [])
    prefix = compressed(tmp_path)
    done = export(prefix, "--to", to, "-o", "out", *options)
    said = f"  {dropped} dropped" if dropped else ""
    assert (done.returncode, done.stderr) == (0, done.stderr)
    assert done.stdout == f"{tmp_path}/out  2 rows  {boxes} boxes{said}\n"
    assert "regions" not in done.stderr


def test_limits_are_in_pixels_of_the_picture(tmp_path: Path) -> None:
    """Here the source is twice as wide and high as the row."""
    write_sample(tmp_path / "data", "a", [box(20, 20, 4, 4), box(60, 60, 10, 10)], size=(128, 96))
    dataset = load(compressed(tmp_path))
    reports = [
        export_dataset(
            dataset, "coco", tmp_path / f"{source}", source=source, min_box=10, edge_margin=12
        )
        for source in (False, True)
    ]
    assert [(report.boxes, report.dropped) for report in reports] == [(1, 1), (2, 0)]
    images = coco_of(tmp_path / "False")
    assert [annotation["bbox"] for annotation in images["annotations"]] == [[30, 30, 5, 5]]
    assert images["images"][0]["tags"] == []


# Parts that are given


@pytest.mark.parametrize("to", EXPORT_FORMATS)
def test_given_parts_keep_their_rows(tmp_path: Path, to: str) -> None:
    parts = []
    for name, count in {"train": 3, "val": 2, "test": 1}.items():
        for number in range(count):
            found = [box(number, 2, 3, 4, category="30B")]
            write_sample(tmp_path / name / "data", f"image_{number}", found)
        parts.append(load(compressed(tmp_path / name)))
    train, val, test = parts
    views = train.select([2, 0]), val.select([1])
    report = export_dataset(views[0], to, tmp_path / "out", val=views[1], test=test, workers=1)
    assert report.rows == 4
    if to == "coco":
        for part, dataset in {"train": views[0], "val": views[1], "test": test}.items():
            images = coco_of(tmp_path / "out", part)["images"]
            assert [image["path"] for image in images] == list(dataset.paths)
    elif to == "parquet":
        table = pd.read_parquet(tmp_path / "out" / "annotations.parquet")
        expected = [(0, "train"), (1, "train"), (2, "val"), (3, "test")]
        assert list(zip(table["row"], table["split"], strict=True)) == expected
    else:
        names = [path.relative_to(tmp_path / "out").parts for path in (tmp_path / "out").rglob("*")]
        for part in ("train", "val", "test"):
            assert any(part in folders or f"{part}-000000.tar" in folders for folders in names)


# Errors


@pytest.mark.uniform
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["PREFIX"], "--to"),
        (["PREFIX", "--to", "coco"], "-o/--out"),
        (
            ["PREFIX", "--to", "csv", "-o", "out"],
            "argument --to: invalid choice: 'csv'",
        ),
        (["PREFIX", "--to", "coco", "-o", "out", "--workers", "0"], "--workers is 0"),
        (["PREFIX", "--to", "coco", "-o", "out", "--split", "1.5"], "--split is 1.5"),
        (["PREFIX", "--to", "coco", "-o", "out", "--split", "nan"], "--split is nan"),
        (["PREFIX", "--to", "coco", "-o", "out", "--split", "1", "--seed", "-1"], "--seed is -1"),
        (["PREFIX", "--to", "coco", "-o", "out", "--labels", "48"], "NAME=PATTERN"),
        (
            ["PREFIX", "--to", "coco", "-o", "out", "--labels", "a=b,a=c"],
            "--label 'a=c' is not a new NAME=PATTERN",
        ),
        (["PREFIX", "--to", "coco", "-o", "out", "--labels", "a=("], "not a regular expression"),
        (["PREFIX", "--to", "coco", "-o", "out", "--from", "there"], "invalid choice"),
        (["PREFIX", "--to", "coco", "-o", "out", "--val", "PREFIX"], "same rows are in train and"),
        (["PREFIX", "--to", "coco", "-o", "out", "--min-box", "-1"], "--min-box is -1"),
        (["PREFIX", "--to", "coco", "-o", "out", "--edge-margin", "nan"], "--edge-margin is nan"),
        (
            ["PREFIX", "--to", "imagefolder", "-o", "out", "--min-box", "1"],
            "--min-box drops objects",
        ),
        (["PREFIX", "--to", "coco", "-o", "out", "--shard-size", "1"], "--shard-size is for webd"),
        (["PREFIX", "--to", "webdataset", "-o", "out", "--shard-size", "0"], "--shard-size is 0"),
    ],
)
def test_a_usage_error_is_one_line(
    export: Command, prefix: Path, tmp_path: Path, arguments: list[str], expected: str
) -> None:
    done = export(*[prefix if word == "PREFIX" else word for word in arguments])
    assert expected in failed(done, 2, tmp_path)
    assert os.listdir(tmp_path) == []


def test_rows_keep_their_numbers(export: Command, prefix: Path, tmp_path: Path) -> None:
    flags = ("--to", "parquet", "--quiet")
    assert export(prefix, *flags, "-o", "all").returncode == 0
    whole = pd.read_parquet(tmp_path / "all" / "annotations.parquet")
    chosen = choose_rows(load(prefix), ["^48"], "2:", 3, seed=1).row_numbers.tolist()
    words = ("--where", "^48", "--rows", "2:", "--sample", 3, "--seed", 1)
    assert export(prefix, *flags, "-o", "some", *words).returncode == 0
    expected = whole[whole["row"].isin(chosen)].reset_index(drop=True)
    assert set(expected["row"]) == set(chosen)
    pd.testing.assert_frame_equal(
        pd.read_parquet(tmp_path / "some" / "annotations.parquet"), expected
    )


def test_rows_are_chosen_of_all_splits_together(
    export: Command, prefix: Path, tmp_path: Path
) -> None:
    for name in ("images.npy", "metadata.pickle"):
        shutil.copy(f"{prefix}-{name}", tmp_path / f"x-{name}")
    flags = (prefix, "--val", "x", "--to", "imagefolder", "--json")
    done = export(*flags, "-o", "out", "--rows", "10:14")
    found = sorted(path.parts[-3:] for path in (tmp_path / "out").rglob("*.png"))
    expected = zip(["train", "train", "val", "val"], range(10, 14), strict=True)
    assert found == [(part, "images", f"{row:06}.png") for part, row in expected]
    report = {"path": f"{tmp_path}/out", "rows": 4, "boxes": 0, "dropped": 0}
    report["without_matte"] = np.count_nonzero(~load(prefix).has_matte[[10, 11, 0, 1]])
    assert json.loads(done.stdout) == report
    assert "no row of the split val is chosen" in export(*flags, "-o", "b", "--rows", "5").stderr


def test_damaged_metadata_that_are_not_needed(tmp_path: Path) -> None:
    damaged_outputs(tmp_path)
    report = export_dataset(load(tmp_path / "out"), "imagefolder", tmp_path / "to", workers=1)
    assert (report.rows, report.without_matte) == (5, None)


def test_rows_that_there_are_not(prefix: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="these `rows` cannot be exported"):
        export_dataset(load(prefix), "coco", tmp_path / "out", rows=[12])
    assert os.listdir(tmp_path) == []
    assert export_dataset(load(prefix), "coco", tmp_path / "out", rows=[]).rows == 0


def test_a_label_for_each_flag_or_several_with_commas(
    export: Command, prefix: Path, tmp_path: Path
) -> None:
    for out, words in {
        "commas": ("--labels", "48=^48,30=^30"),
        "flags": ("--label", "48=^48", "--label", "30=^30"),
    }.items():
        assert export(prefix, "--to", "coco", "-o", out, *words).returncode == 0
    assert files(tmp_path / "commas") == files(tmp_path / "flags")
    twice = ("--label", "a=b", "--label", "a=c")
    done = export(prefix, "--to", "coco", "-o", "out", *twice)
    assert "--label 'a=c' is not a new NAME=PATTERN" in failed(done, 2, tmp_path)


@pytest.mark.uniform
@pytest.mark.parametrize("to", EXPORT_FORMATS)
def test_labels_that_no_row_has(export: Command, prefix: Path, tmp_path: Path, to: str) -> None:
    done = export(prefix, "--to", to, "-o", "out", "--quiet", "--labels", "none=x{1,2}y")
    assert "no row has any of the labels; the categories: 30, 30B, 48," in failed(done, 2, tmp_path)


def test_a_label_that_no_category_has_is_told(export: Command, prefix: Path) -> None:
    done = export(prefix, "--to", "yolo", "-o", "out", "--labels", "48=^48,no=^x{1,2}y")
    assert done.returncode == 0
    assert "limbo-export: labels: no category matches ^x{1,2}y; the nearest: " in done.stderr


@pytest.mark.parametrize("to", EXPORT_FORMATS)
def test_a_prefix_that_does_not_exist(export: Command, tmp_path: Path, to: str) -> None:
    line = failed(export("nowhere", "--to", to, "-o", "out"), 1, tmp_path)
    assert f"{tmp_path}/nowhere-*: there are no outputs of this prefix" in line
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("make", ["file", "folder", "link"])
def test_what_is_there_is_never_replaced(
    export: Command, prefix: Path, tmp_path: Path, make: str
) -> None:
    out = tmp_path / "out"
    if make == "file":
        out.touch()
    elif make == "folder":
        out.mkdir()
    else:
        out.symlink_to("nowhere")
    line = failed(export(prefix, "--to", "coco", "-o", "out"), 1, tmp_path)
    assert f"{out}: there is already something of this name; remove it, or" in line
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("out", ["no/such/folder", "x" * 256, "file/out"])
def test_a_place_that_cannot_be_written(
    export: Command, prefix: Path, tmp_path: Path, out: str
) -> None:
    (tmp_path / "file").touch()
    assert "cannot write it" in failed(export(prefix, "--to", "coco", "-o", out), 1, tmp_path)
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("to", EXPORT_FORMATS)
def test_without_metadata(export: Command, tmp_path: Path, to: str) -> None:
    done = export(rows(tmp_path, 3, 8), "--to", to, "-o", "out", "--quiet")
    if to in ("webdataset", "imagefolder"):
        assert (done.returncode, done.stderr) == (0, "")
        return
    missing = f"{tmp_path}/x-metadata.pickle: there is no such output"
    assert f"{missing}; compress them with --metadata\n" in failed(done, 1, tmp_path)
    done = export(tmp_path / "x", "--to", to, "-o", "out", "--labels", "a=b", "--quiet")
    assert missing in failed(done, 1, tmp_path)


def test_without_images(export: Command, tmp_path: Path) -> None:
    write_sample(tmp_path / "data", "a", [box(32, 24, 64, 48)], size=(128, 96))
    prefix = compressed(tmp_path)
    os.unlink(f"{prefix}-images.npy")
    for to in ("coco", "webdataset"):
        line = failed(export(prefix, "--to", to, "-o", "out"), 1, tmp_path)
        assert f"{prefix}-images.npy: there is no such output; compress them with --images" in line
        assert "--from source" in line
    line = failed(export(prefix, "--to", "parquet", "-o", "out"), 1, tmp_path)
    assert "the size of a row is not known; take the size of the source images" in line
    for to in EXPORT_FORMATS:
        done = export(prefix, "--to", to, "-o", to, "--from", "source", "--quiet")
        assert (done.returncode, done.stderr) == (0, "")
    table = pd.read_parquet(tmp_path / "parquet" / "annotations.parquet")
    assert table[["x", "width", "picture_width"]].to_numpy().tolist() == [[32, 64, 128]]


def test_metadata_without_regions_are_told(export: Command, campaign: Path, tmp_path: Path) -> None:
    compress(job(campaign, tmp_path, strip_regions=True))
    done = export("out", "--to", "coco", "-o", "coco")
    assert done.returncode == 0
    assert done.stdout == f"{tmp_path}/coco  12 rows  0 boxes\n"
    assert "limbo-export: no row has a box with a label: were the regions left out" in done.stderr


def test_one_of_the_prefixes_without_metadata(
    export: Command, prefix: Path, tmp_path: Path
) -> None:
    other = rows(tmp_path, 3, 8)
    line = failed(export(other, other, prefix, "--to", "coco", "-o", "out"), 1, tmp_path)
    assert "rows of 8 × 8 and 64 × 48 pixels cannot be joined" in line
    shutil.copy(f"{prefix}-images.npy", tmp_path / "y-images.npy")
    line = failed(export(prefix, "y", "--to", "coco", "-o", "out", "--quiet"), 1, tmp_path)
    assert f"{tmp_path}/y-metadata.pickle: there is no such output" in line


def test_damaged_metadata_are_one_line(export: Command, prefix: Path, tmp_path: Path) -> None:
    for name in ("images.npy", "metadata.pickle"):
        shutil.copy(f"{prefix}-{name}", tmp_path / f"x-{name}")
    with open(tmp_path / "x-metadata.pickle", "r+b") as stream:
        stream.seek(1000)
        stream.write(b"damaged")
    line = failed(export("x", "--to", "coco", "-o", "out", "--quiet"), 1, tmp_path)
    assert f"{tmp_path}/x-metadata.pickle: cannot read the metadata of row 0" in line


def test_files_of_the_reference(export: Command, tmp_path: Path) -> None:
    metadata = {"image": {"res": [64, 48]}, "annotations": [box(1, 2, 3, 4)]}
    prefix = reference(tmp_path, metadata, {})
    for to in EXPORT_FORMATS:
        done = export(prefix, "--to", to, "-o", to, "--labels", "30=^30", "--quiet")
        assert (done.returncode, done.stderr) == (0, "")
    line = failed(export(prefix, "--to", "coco", "-o", "out", "--from", "source"), 1, tmp_path)
    assert "it does not say the paths of its samples; compress them again" in line


@pytest.mark.parametrize("to", ["coco", "yolo", "parquet", "webdataset"])
def test_a_box_in_another_mode_is_one_line(export: Command, tmp_path: Path, to: str) -> None:
    write_sample(tmp_path / "data", "a", [])
    path = write_sample(tmp_path / "data", "b", [box(1, 2, 3, 4, mode="XYXY_ABS")])
    line = failed(export(compressed(tmp_path), "--to", to, "-o", "out"), 1, tmp_path)
    assert line == f"limbo-export: {path}: row 1: bbox_mode is 'XYXY_ABS', not 'XYWH_ABS'\n"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("to", ["coco", "yolo", "yolo-seg", "parquet", "webdataset"])
def test_a_box_without_a_mode_is_left_out(export: Command, tmp_path: Path, to: str) -> None:
    whole = [box(1, 2, 30, 40), {"category": "48"}]
    write_sample(tmp_path / "data", "a", whole)
    write_sample(tmp_path / "data", "b", [*whole, {"bbox": [9, 9, 30, 30], "category": "48"}])
    (tmp_path / "plain").mkdir()
    write_sample(tmp_path / "plain" / "data", "a", whole)
    write_sample(tmp_path / "plain" / "data", "b", whole)
    words = ("--to", to, "--label", "box=.", "-o")
    done = export(compressed(tmp_path), *words, "out")
    problem = "annotations with bbox but without bbox_mode are left out: rows 1"
    assert done.returncode == 0
    assert f"\nlimbo-export: {problem}\n" in done.stderr
    plain = export(compressed(tmp_path / "plain"), *words, "plain/out")
    assert (plain.returncode, "left out" in plain.stderr) == (0, False)
    kinds = (".txt", ".jpg", ".png")
    written = [
        {name: data for name, data in files(tmp_path / out).items() if name.endswith(kinds)}
        for out in ("out", "plain/out")
    ]
    assert written[0] == written[1]


@pytest.mark.parametrize("library", ["PIL", "pycocotools", "yaml"])
def test_a_missing_library_is_one_line(prefix: Path, tmp_path: Path, library: str) -> None:
    arguments = (library, "export", prefix, "--to", "yolo", "-o", "out")
    done = run_command(tmp_path, *arguments, module="tests.programs.without")
    assert f"needs the library {library}; pip install 'limbo-compress[export]'" in failed(
        done, 2, tmp_path
    )


def test_errors_of_the_function(prefix: Path, tmp_path: Path) -> None:
    dataset = load(prefix)
    with pytest.raises(UsageError, match="`to` is 'csv'"):
        export_dataset(dataset, "csv", tmp_path / "out")
    with pytest.raises(UsageError, match="`labels` names no label"):
        export_dataset(dataset, "coco", tmp_path / "out", labels={})
    with pytest.raises(UsageError, match="`test` is given without `val`"):
        export_dataset(dataset, "coco", tmp_path / "out", test=dataset)
    with pytest.raises(UsageError, match="`split` and `val` are two ways"):
        export_dataset(dataset, "coco", tmp_path / "out", split=0.5, val=dataset)
    with pytest.raises(OutputError, match="there is already something"):
        export_dataset(dataset, "coco", tmp_path)
    np.save(f"{tmp_path}/x-images.npy", np.zeros((1, 2, 2, 3), np.float16))
    with pytest.raises(InputError, match="there is no such output"):
        export_dataset(load(tmp_path / "x"), "coco", tmp_path / "out")


# Sources


def test_sources_are_linked(export: Command, tmp_path: Path) -> None:
    path = write_sample(tmp_path / "data", "a", [box(32, 24, 64, 48)], size=(128, 96))
    prefix = compressed(tmp_path)
    done = export(prefix, "--to", "coco", "-o", "out", "--from", "source", "--quiet")
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "out/images/000000.png").samefile(path.with_suffix(".png"))
    coco = coco_of(tmp_path / "out")
    assert coco["annotations"][0]["bbox"] == [32, 24, 64, 48]
    assert (coco["images"][0]["width"], coco["images"][0]["height"]) == (128, 96)


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="there is no second filesystem")
def test_sources_on_another_filesystem_are_copied(
    prefix: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("shm")
    if os.stat("/dev/shm").st_dev == os.stat(folder).st_dev:
        pytest.skip("there is no second filesystem")
    out = Path("/dev/shm") / f"limbo-export-{os.getpid()}"
    try:
        export_dataset(load(prefix), "yolo", out, source=True)
        for row, path in enumerate(load(prefix).paths):
            (found,) = out.glob(f"images/{row:06d}.*")
            expected = Path(path).parent / json.loads(Path(path).read_text())["image"]["filename"]
            assert found.read_bytes() == expected.read_bytes()
    finally:
        shutil.rmtree(out, ignore_errors=True)


def change_source(path: Path, how: str) -> None:
    image = path.with_suffix(".png")
    image.unlink()
    if how == "garbage":
        image.write_bytes(b"garbage")
    elif how == "pipe":
        os.mkfifo(image)


@pytest.mark.parametrize(
    ("how", "problem"),
    [
        ("gone", "cannot read the source image: No such file"),
        ("garbage", "no PNG or JPEG"),
        ("pipe", "not a regular file"),
    ],
)
def test_a_source_that_cannot_be_read(
    export: Command, tmp_path: Path, how: str, problem: str
) -> None:
    path = write_sample(tmp_path / "data", "a", [])
    prefix = compressed(tmp_path)
    change_source(path, how)
    done = export(prefix, "--to", "coco", "-o", "out", "--from", "source")
    line = failed(done, 1, tmp_path)
    assert line.startswith(f"limbo-export: {path.with_suffix('.png')}: ")
    assert problem in line


# Hostile input


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sample with hostile categories in a hostile folder."""
    folder = tmp_path_factory.mktemp("hostile")
    annotations = [box(1, 2, 3 + n, 4, category=text) for n, text in enumerate(HOSTILE)]
    data = os.path.join(os.fsencode(folder), b"data", b"<script>\n'\"\xff", "\u202eא".encode())
    provenance = {"license": HOSTILE[0], "uri": HOSTILE[2], "copyright": HOSTILE[13]}
    write_sample(Path(os.fsdecode(data)), "a", annotations, provenance=provenance)
    return compressed(folder)


def test_hostile_categories_are_names(hostile: Path, tmp_path: Path) -> None:
    for to in ("coco", "yolo", "parquet", "webdataset"):
        export_dataset(load(hostile), to, tmp_path / to, workers=1)
    coco = coco_of(tmp_path / "coco")
    expected = [HARMLESS[text] for text in load(hostile).classes]
    assert [category["name"] for category in coco["categories"]] == expected
    by_id = {category["id"]: category["name"] for category in coco["categories"]}
    widths = {by_id[a["category_id"]]: a["bbox"][2] - 3 for a in coco["annotations"]}
    assert widths == {HARMLESS[text]: n for n, text in enumerate(HOSTILE)}
    assert "<script>\n'\"\\udcff" in coco["images"][0]["path"]
    assert coco["images"][0]["provenance"]["license"] == HOSTILE[0]
    layout = yaml.safe_load((tmp_path / "yolo" / "data.yaml").read_text(encoding="utf-8"))
    assert list(layout["names"].values()) == expected
    table = pd.read_parquet(tmp_path / "parquet" / "annotations.parquet")
    assert sorted(table["category"]) == sorted(expected)


@pytest.mark.parametrize("to", EXPORT_FORMATS)
def test_hostile_labels_stay_inside(hostile: Path, tmp_path: Path, to: str) -> None:
    labels = dict.fromkeys(HOSTILE, ".")
    out = tmp_path / "deep" / "out"
    out.parent.mkdir()
    export_dataset(load(hostile), to, out, labels=labels, workers=1)
    assert os.listdir(tmp_path) == ["deep"]
    assert os.listdir(out.parent) == ["out"]
    if to == "imagefolder":
        names = ["%3Cscript%3Ealert%281%29%3C%2Fscript%3E", "CREDITS"]
        assert sorted(os.listdir(out)) == names
    if to == "yolo":
        layout = yaml.safe_load((out / "data.yaml").read_text(encoding="utf-8"))
        assert list(layout["names"].values()) == list(HARMLESS.values())


@pytest.mark.parametrize(
    "metadata",
    [
        {"annotations": 7, "image": {"res": [64, 48]}},
        {"annotations": [box(1, 2, 3, float("nan"))], "image": {"res": [64, 48]}},
        {"annotations": [box(1, 2, 3, 4)], "image": {"res": [0, 0]}},
        {"annotations": [box(1, 2, 3, 4)]},
        {"annotations": [{"contours": [[[1, 2], [3]]], "contour_mode": "XY_ABS"}]},
    ],
)
def test_metadata_that_cannot_be_right(tmp_path: Path, metadata: dict[str, Any]) -> None:
    prefix = reference(tmp_path, metadata)
    with pytest.raises(InputError, match="row 0: "):
        export_dataset(load(prefix), "coco", tmp_path / "out", workers=1)
    assert not (tmp_path / "out").exists()


def test_metadata_of_any_kind_are_no_obstacle(tmp_path: Path) -> None:
    samples: list[dict[str, Any]] = [
        {},
        {"annotations": [{"category": ["30B"]}, {"category": 30}, 7, None]},
        {"annotations": [{"contours": [], "contour_mode": "XY_ABS"}], "image": {"res": [64, 48]}},
        {"provenance": 7, "image": []},
        {"provenance": {"license": None, "uri": 7}},
    ]
    for to in EXPORT_FORMATS:
        export_dataset(load(reference(tmp_path, *samples)), to, tmp_path / to, workers=1)
    coco = coco_of(tmp_path / "coco")
    assert (len(coco["images"]), coco["annotations"], coco["licenses"]) == (5, [], [])


# Interruptions


@pytest.fixture
def running(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """The command in the middle of a long export."""
    prefix = rows(tmp_path, 50_000)
    command = (script("limbo-export"), prefix, "--to", "imagefolder", "-o", tmp_path / "out")
    process = subprocess.Popen([*command, "--workers", "2"], stderr=subprocess.PIPE, text=True)
    wait_until(lambda: bool(list(tmp_path.glob(".export-*/images/*"))), "the first picture")
    yield process
    process.kill()
    process.wait()
    assert process.stderr is not None
    process.stderr.close()


def test_a_signal_leaves_nothing(running: subprocess.Popen[str], tmp_path: Path) -> None:
    running.send_signal(signal.SIGTERM)
    _, errors = running.communicate(timeout=60)
    assert running.returncode == 143
    assert errors == "limbo-export: stopped by SIGTERM\n"
    assert os.listdir(tmp_path) == ["x-images.npy"]


def test_a_full_disk_leaves_nothing(prefix: Path, tmp_path: Path) -> None:
    line = f"ulimit -f 1; exec {script('limbo-export')} {prefix} --to coco -o out"
    done = run("bash", "-c", line, cwd=tmp_path, env={"PYTHONDONTWRITEBYTECODE": "1"})
    assert "cannot write it: File too large (ulimit -f allows 1,024 bytes)" in failed(
        done, 1, tmp_path
    )
    assert os.listdir(tmp_path) == []


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    peaks = []
    for count in (100, 1500):  # 30 MB and 450 MB
        folder = tmp_path / str(count)
        folder.mkdir()
        arguments = (rows(folder, count), "--to", "webdataset", "-o", "out", "--workers", 1)
        done = run_command(folder, *arguments, module="tests.export.memory")
        assert done.returncode == 0, done.stderr
        peaks.append([int(word) for word in done.stdout.splitlines()[-1].split()[1:]])
    (small, small_worker), (large, large_worker) = peaks
    assert large - small < 60_000
    assert large_worker - small_worker < 60_000


def test_a_category_has_one_number_in_exports_of_all_views(prefix: Path, tmp_path: Path) -> None:
    dataset = load(prefix)
    train, val = dataset.split(0.5)
    few = concat([val.select([1]), train.select([0])])
    for number, view in enumerate([train, few, pickle.loads(pickle.dumps(val))]):
        coco, yolo = tmp_path / f"coco-{number}", tmp_path / f"yolo-{number}"
        export_dataset(view, "coco", coco, workers=1)
        export_dataset(view, "yolo", yolo, workers=1)
        written = coco_of(coco)
        categories = {found["id"]: found["name"] for found in written["categories"]}
        assert categories == dict(enumerate(dataset.box_classes, 1))
        names = yaml.safe_load((yolo / "data.yaml").read_text())["names"]
        assert names == dict(enumerate(dataset.box_classes))
        assert view.metadata is not None
        for row in range(len(view)):
            lines = (yolo / "labels" / f"{row:06d}.txt").read_text().splitlines()
            annotations = [a for a in written["annotations"] if a["image_id"] == row]
            found = visible_boxes(view.metadata[row])
            expected = Counter(box["category"] for box in found)
            assert Counter(names[int(line.split()[0])] for line in lines) == expected
            assert Counter(categories[a["category_id"]] for a in annotations) == expected


def test_a_split_by_groups(prefix: Path, tmp_path: Path) -> None:
    dataset = load(prefix)
    groups = np.array([0, 0, 0, 1, 1, 2, 2, 2, 3, 3, 4, 4])
    rows = [0, 1, 2, 3, 5, 8, 9]
    for chosen in (range(12), rows):
        out = tmp_path / str(len(chosen))
        export_dataset(dataset, "coco", out, split=0.5, split_by=groups, rows=list(chosen))
        train, val = (
            {image["id"] for image in coco_of(out, part)["images"]} for part in ("train", "val")
        )
        assert train | val == set(chosen)
        assert train
        assert val
        assert not set(groups[list(train)]) & set(groups[list(val)])
        if len(chosen) == 12:
            expected, _ = dataset.split(0.5, groups=groups)
            assert sorted(train) == expected.row_numbers.tolist()


def test_groups_of_a_split_are_those_of_chosen_rows(
    prefix: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dataset, column = load(prefix), "/background/env_map"
    kinds = dataset.column(column).values()
    unknown = [row for row, value in enumerate(kinds) if value is None]
    chosen = [row for row in range(12) if row not in unknown[1:]]
    export_dataset(dataset, "coco", tmp_path / "a", split=0.5, split_by=column, rows=chosen)
    assert f"1 of {len(chosen)} rows have no /background/env_map" in caplog.text
    for by in (column, kinds):
        with pytest.raises(UsageError, match=f"{len(unknown)} of {len(unknown)} rows have no"):
            export_dataset(dataset, "coco", tmp_path / "b", split=0.5, split_by=by, rows=unknown)
    with pytest.raises(UsageError, match=r"takes 12 values, not \(2,\)"):
        export_dataset(dataset, "coco", tmp_path / "b", split=0.5, split_by=[1] * 2, rows=[0, 5])


@pytest.mark.uniform
def test_groups_of_a_split_on_a_command_line(prefix: Path, export: Command, tmp_path: Path) -> None:
    flags = (prefix, "--to", "parquet", "-o", "out", "--split", 0.5)
    line = failed(export(*flags, "--split-by", "folder"), 2, tmp_path)
    assert "the 12 rows are in 1 group, which cannot be divided into 2 parts" in line
    line = failed(export(*flags, "--split-by", "duplicates"), 2, tmp_path)
    assert "there is no column duplicates" in line
    assert "--split-by is folder, campaign, pair, duplicate, block:N" in line
    line = failed(export(*flags[:-2], "--split-by", "folder"), 2, tmp_path)
    assert "--split-by is given without --split" in line
    done = export(*flags, "--split-by", "/background/env_map")
    assert done.returncode == 0
    assert "3 of 12 rows have no /background/env_map, and each of them is a group" in done.stderr
    assert "rows instead of 6 + 6: the largest of 4 groups has 9" in done.stderr
    flags = (*flags[:4], "out2", *flags[5:])
    assert export(*flags, "--split-by", "pair", "--split-by", "block:3").returncode == 0
    table = pd.read_parquet(tmp_path / "out2" / "annotations.parquet")
    assert set(table.groupby(table["row"] // 3)["split"].nunique()) == {1}
