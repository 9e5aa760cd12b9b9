"""Parquet, read by pandas and DuckDB."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd

from limbo_compress import export_dataset, load
from tests.annotations import box, contour, square
from tests.export.sources import compressed, distinct, reference, visible_boxes, write_sample
from tests.jobs import Command


def test_pandas_and_duckdb_read_the_same_table(
    export: Command, prefix: Path, tmp_path: Path
) -> None:
    done = export(prefix, "--to", "parquet", "-o", "out", "--split", "0.75")
    assert done.returncode == 0, done.stderr
    path = tmp_path / "out" / "annotations.parquet"
    names = ["annotations.parquet", "samples.parquet"]
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == names
    table: Any = pd.read_parquet(path)
    same = duckdb.execute(f"select * from '{path}'").df()
    pd.testing.assert_frame_equal(table, same, check_dtype=False)
    assert sorted(table["row"].unique()) == list(range(12))
    dataset = load(prefix)
    for row in range(12):
        found = table[table["row"] == row]
        metadata = json.loads(Path(dataset.paths[row]).read_text())
        objects = found[found["x"].notna()]
        assert len(objects) == len(visible_boxes(metadata))
        assert objects["has_contour"].sum() == len(distinct(metadata, "contours"))
        assert set(found["category"]) == dataset.categories[row]
        assert set(found["path"]) == {dataset.paths[row]}
        assert found["split"].nunique() == 1
    assert table.groupby("row")["split"].first().value_counts().to_dict() == {"train": 9, "val": 3}


def test_columns(tmp_path: Path) -> None:
    annotations = [
        *(contour(square(8, 12, 16, 24)), box(8, 12, 16, 24), box(40, 10, 8, 4, category=None)),
        {"category": "real"},
    ]
    write_sample(tmp_path / "data" / "campaign17" / "0049", "a", annotations)
    write_sample(tmp_path / "data" / "campaign17" / "0049", "b", [])
    export_dataset(load(compressed(tmp_path)), "parquet", tmp_path / "out", workers=1)
    columns = "campaign, category, label, x, y, width, height, area, has_contour"
    table = f"'{tmp_path}/out/annotations.parquet'"
    assert duckdb.execute(f"select {columns} from {table}").fetchall() == [
        ("campaign17", "30B", "30B", 8, 12, 16, 24, 384, True),
        ("campaign17", None, None, 40, 10, 8, 4, 32, False),
        ("campaign17", "real", "real", None, None, None, None, None, False),
    ]
    types = dict(
        duckdb.execute(f"select column_name, column_type from (describe from {table})").fetchall()
    )
    assert types["row"] == "BIGINT"
    assert types["has_contour"] == "BOOLEAN"
    assert {types[name] for name in ("x", "y", "width", "height", "area")} == {"DOUBLE"}


def test_samples_have_the_columns_of_the_table(prefix: Path, tmp_path: Path) -> None:
    dataset = load(prefix)
    rows = [1, 4, 5, 8, 11]
    export_dataset(dataset, "parquet", tmp_path / "out", rows=rows, split=0.6, workers=1)
    samples = pd.read_parquet(tmp_path / "out" / "samples.parquet")
    assert samples["row"].tolist() == rows
    expected = dataset.select(rows).table()
    assert list(samples.columns) == ["row", "split", *(name for name in expected if name != "row")]
    for name, values in expected.items():
        found = [None if pd.isna(value) else value for value in samples[name]]
        assert found == [None if pd.isna(value) else value for value in values.tolist()], name
    assert samples["split"].value_counts().to_dict() == {"train": 3, "val": 2}
    annotations = pd.read_parquet(tmp_path / "out" / "annotations.parquet")
    joined = annotations.merge(samples, on="row", suffixes=("", "_of_sample"))
    assert len(joined) == len(annotations)
    assert (joined["split"] == joined["split_of_sample"]).all()
    assert (joined["path"] == joined["path_of_sample"]).all()
    assert joined["campaign"].equals(joined["campaign_of_sample"])


def test_samples_of_different_types(tmp_path: Path) -> None:
    odd = [1, "\ud800", True, None, float("nan"), 2**70]
    for number, value in enumerate(odd):
        parameters = {"/mixed": value, "/number": number % 2 or None, "/is": bool(number) or None}
        synthetic = {"parameters": parameters | ({"/rare": "x"} if number == 3 else {})}
        write_sample(tmp_path / "data", str(number), [], synthetic=synthetic)
    export_dataset(load(compressed(tmp_path)), "parquet", tmp_path / "out", workers=1)
    samples = pd.read_parquet(tmp_path / "out" / "samples.parquet")
    assert samples["split"].isna().all()
    assert samples["/mixed"].isna().tolist() == [False] * 3 + [True, False, False]
    assert samples["/mixed"].tolist()[:3] == ["1", "\\ud800", "true"]
    types = dict(
        duckdb.execute(
            f"select column_name, column_type from (describe from '{tmp_path}/out/samples.parquet')"
        ).fetchall()
    )
    assert (types["/number"], types["/is"], types["has_matte"]) == ("DOUBLE", "BOOLEAN", "BOOLEAN")
    assert (types["split"], types["/rare"], types["row"]) == ("VARCHAR", "VARCHAR", "BIGINT")
    assert samples["/number"].isna().tolist() == [True, False] * 3
    assert samples["/rare"].dropna().to_dict() == {3: "x"}


def test_labels_choose_annotations(prefix: Path, tmp_path: Path) -> None:
    labels = {"big": "^48.$", "kind": "^(real|synthetic)$"}
    export_dataset(load(prefix), "parquet", tmp_path / "out", labels=labels, workers=1)
    table = pd.read_parquet(tmp_path / "out" / "annotations.parquet")
    expected = {"real": "kind", "synthetic": "kind"} | dict.fromkeys(("48G", "48X", "48Y"), "big")
    found = dict(zip(table["category"], table["label"], strict=True))
    assert found == {category: expected[category] for category in found}
    assert set(found.values()) == {"big", "kind"}


def test_files_of_the_reference_have_no_paths(tmp_path: Path) -> None:
    metadata = {"image": {"res": [64, 48]}, "annotations": [box(1, 2, 3, 4)]}
    prefix = reference(tmp_path, metadata, metadata)
    export_dataset(load(prefix), "parquet", tmp_path / "out", workers=1)
    table = pd.read_parquet(tmp_path / "out" / "annotations.parquet")
    assert table[["row", "x", "width"]].to_numpy().tolist() == [[0, 1, 3], [1, 1, 3]]
    assert table["path"].isna().all()
    assert table["campaign"].isna().all()


def test_no_annotation_at_all_is_an_empty_table(tmp_path: Path) -> None:
    export_dataset(load(reference(tmp_path, {})), "parquet", tmp_path / "out", workers=1)
    table = pd.read_parquet(tmp_path / "out" / "annotations.parquet")
    assert len(table) == 0
    assert "has_contour" in table.columns
