"""The gallery's files; what a browser makes of them is in `test_browser`."""

from __future__ import annotations

import json
import os
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from limbo_compress import InputError, OutputError, choose_rows, compress, load, write_gallery
from tests.frozen import damaged_outputs
from tests.inspect.sets import HOSTILE, write_set
from tests.jobs import Command, job

Image = pytest.importorskip("PIL.Image", reason="galleries need Pillow")

SCRIPT = re.compile(r"gallery\.receive\((\"[\w/]+\"),(\".*\")\);\n", re.ASCII)


def received(path: Path) -> Any:
    """What a script hands to the page. It must be nothing but a call with two texts."""
    match = SCRIPT.fullmatch(path.read_text("ascii"))
    assert match is not None
    name, text = map(json.loads, match.groups())
    assert path.parts[-1 - name.count("/") :] == (*f"{name}.js".split("/"),)
    return json.loads(text)


def pixels(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.asarray(image)


def written(prefix: Path, folder: Path, **chosen: Any) -> Path:
    rows = choose_rows(load(prefix), **chosen)
    assert write_gallery(rows, folder) == str(folder / "index.html")
    return folder


def restored(value: Any) -> Any:
    """Metadata as a page has them, with dicts again; other objects replace what is left out."""
    if isinstance(value, list):
        return list(map(restored, value))
    if isinstance(value, dict) and value.keys() == {"dict"}:
        return {key: restored(item) for key, item in value["dict"]}
    return value


def test_what_is_in_a_gallery(prefix: Path, tmp_path: Path) -> None:
    folder = written(prefix, tmp_path / "g", rows="2:")
    assert sorted(os.listdir(tmp_path)) == ["g"]
    assert sorted(os.listdir(folder)) == ["data", "gallery.css", "gallery.js", "index.html"]
    dataset = load(prefix)
    rows = received(folder / "data" / "rows.js")
    assert rows["numbers"] == list(range(2, 12))
    names = [{rows["categories"][n] for n in rows["sets"][each]} for each in rows["set"]]
    assert names == list(dataset.categories[2:])
    paths = [
        f"{rows['folders'][folder]}/{file}"
        for folder, file in zip(rows["folder"], rows["files"], strict=True)
    ]
    assert paths == dataset.paths[2:]
    renders = ["synthetic" in sample for sample in (dataset.metadata or [])[2:]]
    assert rows["kinds"] == [1 if is_render else 2 for is_render in renders]
    assert received(folder / "data" / "summary.js")["rows"] == 10
    assert len(list((folder / "data" / "pictures").iterdir())) == 10
    assert pixels(folder / "data" / "pictures" / "0.jpg").shape == (24, 32, 3)
    assert pixels(folder / "data" / "thumbs" / "0.jpg").shape == (108, 1440, 3)


def test_outlines_are_those_of_the_row(prefix: Path, tmp_path: Path) -> None:
    dataset = load(prefix)
    (folder,) = {written(prefix, tmp_path / "g")}
    details = received(folder / "data" / "details" / "0.js")
    assert len(details) == 12
    for row, found in enumerate(details):
        boxes = [[box.category, box.xyxy.tolist()] for box in dataset.boxes(row)]
        assert [box[0] for box in found["boxes"]] == [box[0] for box in boxes]
        np.testing.assert_allclose(
            [box[1] for box in found["boxes"]], [box[1] for box in boxes], atol=0.051
        )
        for (category, polygons), contour in zip(
            found["contours"], dataset.contours(row), strict=True
        ):
            assert category == contour.category
            for line, polygon in zip(polygons, contour.polygons, strict=True):
                points = np.array(line).reshape(-1, 2)
                is_tiny = np.ptp(polygon, axis=0).min() < 1
                assert (1 if is_tiny else 3) <= len(points) < len(polygon)
                for end in (np.min, np.max):
                    np.testing.assert_allclose(end(points, axis=0), end(polygon, axis=0), atol=0.31)
        assert list(found["masks"]) == ["all", "big"]


def test_a_mask_without_a_cryptomatte_is_not_empty(prefix: Path, tmp_path: Path) -> None:
    details = received(written(prefix, tmp_path / "g") / "data" / "details" / "0.js")
    for found, has_matte in zip(details, load(prefix).has_matte, strict=True):
        for outlines in found["masks"].values():
            assert (outlines is None) != has_matte


def test_rows_have_the_columns_of_the_table(prefix: Path, tmp_path: Path) -> None:
    columns = received(written(prefix, tmp_path / "g", rows="1:") / "data" / "rows.js")["columns"]
    dataset = load(prefix)[1:]
    table = dataset.table()
    found = {
        column["name"]: [None if id < 0 else column["values"][id] for id in column["ids"]]
        for column in columns
    }
    for name in set(table) - {"row", "path", "folder"}:
        values = [None if value != value else value for value in table[name].tolist()]
        if len(set(values)) > 1:
            assert found.pop(name) == values
    assert found == {}
    for column in columns:
        numbers = [value for value in column["values"] if not isinstance(value, str)]
        assert numbers == sorted(set(numbers))
    assert {"has_matte", "synthetic", "license", "width"} <= {column["name"] for column in columns}


def test_columns_of_mixed_values(tmp_path: Path) -> None:
    numbers = [2, 0.5, float("nan"), None, float("inf"), -3, 2, 2**53]
    mixed = [2, "b", True, None, "<b>", "a", 2**60, "b"]
    samples = [
        {"synthetic": {"parameters": {"/x": number, "/y": value, "/same": 1}}}
        for number, value in zip(numbers, mixed, strict=True)
    ]
    prefix = write_set(tmp_path / "x", np.zeros((len(samples), 8, 8, 3)), samples)
    columns = received(written(prefix, tmp_path / "g") / "data" / "rows.js")["columns"]
    assert columns == [
        {
            "name": "/x",
            "values": [-3, 0.5, 2, 2**53, {"number": "inf"}],
            "ids": [2, 1, -1, -1, 4, 0, 2, 3],
        },
        {
            "name": "/y",
            "values": [str(2**60), "2", "<b>", "a", "b", "true"],
            "ids": [1, 4, 5, -1, 2, 3, 0, 4],
        },
    ]


def test_damaged_metadata_without_a_table(tmp_path: Path) -> None:
    damaged_outputs(tmp_path)
    folder = written(tmp_path / "out", tmp_path / "g")
    assert received(folder / "data" / "rows.js")["columns"] == []
    (damaged,) = received(folder / "data" / "summary.js")["damaged"]
    problems = [row["problem"] for row in received(folder / "data" / "details" / "0.js")]
    assert [row for row, problem in enumerate(problems) if problem] == [int(damaged)]


def test_metadata_are_whole_but_for_points(prefix: Path, tmp_path: Path) -> None:
    metadata = load(prefix).metadata
    assert metadata is not None
    for found, sample in zip(
        received(written(prefix, tmp_path / "g") / "data" / "details" / "0.js"),
        metadata,
        strict=True,
    ):
        for annotation in sample["annotations"]:
            if "contours" in annotation:
                counts = [{"points": len(line)} for line in annotation["contours"]]
                annotation["contours"] = counts
        assert restored(found["metadata"]) == sample


def test_values_that_javascript_does_not_have(tmp_path: Path) -> None:
    nested: Any = "deep"
    for _ in range(300):
        nested = [nested]
    sample = {
        "numbers": [float("nan"), float("-inf"), 2**53, 2**53 + 1, -(2**60_000), 1e308],
        "nested": nested,
        "long": "y" * 30_000,
        "many": list(range(2000)),
        "keys": {str(key): key for key in range(2000)},
        "texts": {text: text for text in HOSTILE},
        "z" * 20_000 + "a": 1,
        "z" * 20_000 + "b": 2,
    }
    prefix = write_set(tmp_path / "x", np.zeros((1, 8, 8, 3)), [sample])
    (details,) = received(written(prefix, tmp_path / "g") / "data" / "details" / "0.js")
    pairs = details["metadata"]["dict"]
    assert pairs[-2:] == [[{"cut": "z" * 20_000, "length": 20_001}, number] for number in (1, 2)]
    found = dict(pairs[:-2])
    assert found["numbers"] == [
        *({"number": "nan"}, {"number": "-inf"}, 2**53),
        {"number": str(2**53 + 1)},
        {"number": "an integer of 60001 bits"},
        1e308,
    ]
    assert found["long"] == {"cut": "y" * 20_000, "length": 30_000}
    assert found["many"] == {"list": [*range(500)], "more": 1500}
    keys = [[str(key), key] for key in range(500)]
    assert found["keys"] == {"dict": keys, "more": 1500}
    assert restored(found["texts"]) == sample["texts"]
    assert '{"deep": 1}' in json.dumps(found["nested"])


def test_names_and_labels_are_data(tmp_path: Path, inspect: Command) -> None:
    samples = [
        {"annotations": [{"category": text}], "image": {"filename": text}} for text in HOSTILE
    ]
    usable = [text[:200].replace("\0", "").replace("\ud800", "\udcff") for text in HOSTILE]
    paths = [f"/data/{text}/{text}.json" for text in usable]
    prefix = write_set(tmp_path / "x", np.zeros((len(samples), 8, 8, 3)), samples, paths)
    done = inspect(prefix, "--html", "g")
    assert (done.returncode, done.stdout, done.stderr) == (0, "g/index.html\n", "")
    rows = received(tmp_path / "g" / "data" / "rows.js")
    assert set(rows["categories"]) == set(HOSTILE)
    assert rows["files"] == [path.rpartition("/")[2] for path in paths]
    assert received(tmp_path / "g" / "data" / "summary.js")["categories"].keys() == set(HOSTILE)
    page = (tmp_path / "g" / "index.html").read_text()
    assert "hacked" not in page
    assert "Content-Security-Policy" in page


@pytest.mark.parametrize("what", [{"metadata": False}, {"images": False, "masks": (("m", "."),)}])
def test_what_is_missing_is_left_out(campaign: Path, tmp_path: Path, what: dict[str, Any]) -> None:
    compress(job(campaign, tmp_path, **what))
    folder = written(tmp_path / "out", tmp_path / "g")
    rows = received(folder / "data" / "rows.js")
    assert len(rows["numbers"]) == 12
    assert (rows["categories"] == []) == (what.get("metadata") is False)


def test_metadata_without_an_index(prefix: Path, tmp_path: Path) -> None:
    samples = list(load(prefix).metadata or [])
    write_set(tmp_path / "x", np.zeros((12, 24, 32, 3)))
    (tmp_path / "x-metadata.pickle").write_bytes(pickle.dumps(samples))
    rows = received(written(tmp_path / "x", tmp_path / "g") / "data" / "rows.js")
    assert (rows["folders"], rows["files"]) == ([""], [""] * 12)
    assert set(rows["kinds"]) == {1, 2}


def test_metadata_alone_have_nothing_to_show(campaign: Path, tmp_path: Path) -> None:
    compress(job(campaign, tmp_path, images=False))
    with pytest.raises(InputError, match="nothing to show"):
        written(tmp_path / "out", tmp_path / "g")
    assert sorted(os.listdir(tmp_path)) == [".out.state", "out-metadata.pickle"]


def test_a_gallery_replaces_a_gallery_and_nothing_else(prefix: Path, tmp_path: Path) -> None:
    folder = written(prefix, tmp_path / "g")
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("g")
    for name in ("g", "empty", "link"):
        written(prefix, tmp_path / name, rows="3:5")
        assert received(tmp_path / name / "data" / "rows.js")["numbers"] == [3, 4]
    assert (tmp_path / "link").is_symlink()
    assert sorted(os.listdir(tmp_path)) == ["empty", "g", "link"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "index.html").write_text("<!doctype html>")
    (tmp_path / "file").touch()
    for name in ("mine", "file"):
        with pytest.raises(OutputError, match="something else than a gallery is there already"):
            written(prefix, tmp_path / name)
    with pytest.raises(OutputError, match=r"missing/g: cannot write it: No such file"):
        written(prefix, tmp_path / "missing" / "g")
    assert sorted(os.listdir(folder)) == ["data", "gallery.css", "gallery.js", "index.html"]
