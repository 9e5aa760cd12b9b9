"""Parquet, read by pandas and DuckDB."""

from __future__ import annotations

import json
from pathlib import Path

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
    assert [file.name for file in (tmp_path / "out").iterdir()] == [path.name]
    table = pd.read_parquet(path)
    same = duckdb.execute(f"select * from '{path}'").df()
    pd.testing.assert_frame_equal(table, same, check_dtype=False)
    assert sorted(table["row"].unique()) == list(range(12))
    dataset = load(prefix)
    for row, found in table.groupby("row"):
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
    table = f"'{tmp_path}/out/*.parquet'"
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


def test_labels_choose_annotations(prefix: Path, tmp_path: Path) -> None:
    labels = {"big": "^48.$", "kind": "^(real|synthetic)$"}
    export_dataset(load(prefix), "parquet", tmp_path / "out", labels=labels, workers=1)
    table = pd.read_parquet(tmp_path / "out")
    expected = {"real": "kind", "synthetic": "kind"} | dict.fromkeys(("48G", "48X", "48Y"), "big")
    found = dict(zip(table["category"], table["label"], strict=True))
    assert found == {category: expected[category] for category in found}
    assert set(found.values()) == {"big", "kind"}


def test_files_of_the_reference_have_no_paths(tmp_path: Path) -> None:
    metadata = {"image": {"res": [64, 48]}, "annotations": [box(1, 2, 3, 4)]}
    prefix = reference(tmp_path, metadata, metadata)
    export_dataset(load(prefix), "parquet", tmp_path / "out", workers=1)
    table = pd.read_parquet(tmp_path / "out")
    assert table[["row", "x", "width"]].to_numpy().tolist() == [[0, 1, 3], [1, 1, 3]]
    assert table["path"].isna().all()
    assert table["campaign"].isna().all()


def test_no_annotation_at_all_is_an_empty_table(tmp_path: Path) -> None:
    export_dataset(load(reference(tmp_path, {})), "parquet", tmp_path / "out", workers=1)
    table = pd.read_parquet(tmp_path / "out")
    assert len(table) == 0
    assert "has_contour" in table.columns
