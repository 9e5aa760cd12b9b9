"""The table of samples, and the rows that it chooses."""

from __future__ import annotations

import math
import pickle
import struct
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbo_compress import Dataset, InputError, UsageError, concat, load
from limbo_compress.formats.facts import facts
from tests.jobs import error_line, run, script
from tests.pickles import indexed, without_facts

ROWS: list[dict[str, Any]] = [
    {"/text": "spruit_dawn_8k", "/int": 35, "/float": 1.5, "/bool": True, "/mixed": 1},
    {"/text": "old_depot_8k", "/int": -7, "/float": -0.0, "/mixed": "1"},
    {"/int": 0, "/float": 1e300, "/bool": False, "/mixed": True, "/sparse": 4},
    {"/text": "", "/int": 135, "/float": 35, "/mixed": 1.0, "/only here": "yes"},
]
values = st.one_of(
    st.booleans(),
    st.integers(),
    st.integers(-(2**66), 2**66),
    st.floats(),
    st.text(max_size=3),
    st.sampled_from([0, 0.0, -0.0, 1, 1.0, True, False, "1", "\ud800", 2**63, -(2**63), math.nan]),
)
parameters = st.dictionaries(st.sampled_from(["/a", "/b", "/c/\ud800", "x", ""]), values)


def sample(parameters: dict[str, Any], **sections: Any) -> dict[str, Any]:
    return {"synthetic": {"parameters": parameters}, **sections}


def written(folder: Path, data: bytes, name: str = "out") -> Dataset:
    (folder / f"{name}-metadata.pickle").write_bytes(data)
    return load(folder / name)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return written(tmp_path, indexed([sample(row) for row in ROWS]))


def same(one: Any, other: Any) -> bool:
    """Whether values are equal, of one type, and, of floats, the same bits."""
    if isinstance(one, float) and isinstance(other, float):
        return struct.pack("<d", one) == struct.pack("<d", other)
    return type(one) is type(other) and one == other


def assert_equal(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert list(one) == list(other)
    for name, found in one.items():
        assert found.dtype == other[name].dtype, name
        assert all(map(same, found.tolist(), other[name].tolist())), name


@given(st.lists(parameters, max_size=6), st.data())
def test_every_kind_of_metadata_gives_the_same_exact_values(
    rows: list[dict[str, Any]], data: st.DataObject
) -> None:
    samples = list(map(sample, rows))
    with tempfile.TemporaryDirectory() as folder:
        new = written(Path(folder), indexed(samples), "new")
        old = written(Path(folder), without_facts(indexed(samples)), "old")
        reference = written(Path(folder), pickle.dumps(samples, 3), "reference")
        chosen = data.draw(st.lists(st.integers(0, max(0, len(rows) - 1)), max_size=4))
        chosen = chosen if rows else []
        for name in sorted({name for row in samples for name in facts(row)}):
            found = new.column(name).values()
            expected = [facts(row).get(name) for row in samples]
            assert all(map(same, found, expected)), (found, expected)
        assert_equal(new.table(), old.table())
        assert_equal(new[chosen].table(), old[chosen].table())
        names = [name for name in new.columns if name in reference.columns]
        assert set(new.columns) - set(names) == {"path", "folder", "campaign"}
        assert_equal(new.table(names), reference.table(names))


@given(st.lists(parameters, max_size=4), st.lists(parameters, max_size=4))
def test_prefixes_are_one_table(first: list[dict[str, Any]], second: list[dict[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        samples = list(map(sample, first)), list(map(sample, second))
        for name, each in zip("ab", samples, strict=True):
            written(Path(folder), indexed(each), name)
        both = concat([load(Path(folder, name)) for name in "ab"])
        whole = written(Path(folder), indexed([*samples[0], *samples[1]]), "whole")
        names = [name for name in whole.columns if name != "path"]
        assert [name for name in both.columns if name != "path"] == names
        assert_equal(both.table(names), whole.table(names))


def test_columns_have_the_type_of_their_values(dataset: Dataset) -> None:
    table = dataset.table()
    assert list(table) == [
        *("row", "path", "folder", "campaign", "synthetic", "has_matte", "boxes", "contours"),
        *("/bool", "/float", "/int", "/mixed", "/only here", "/sparse", "/text"),
    ]
    assert table["/int"].dtype == np.int64
    assert table["/int"].tolist() == [35, -7, 0, 135]
    assert table["/float"].dtype == np.float64
    assert table["/float"].tolist() == [1.5, -0.0, 1e300, 35]
    assert table["/sparse"].dtype == np.float64
    np.testing.assert_array_equal(table["/sparse"], [np.nan, np.nan, 4, np.nan])
    assert table["/bool"].tolist() == [True, None, False, None]
    assert table["/text"].tolist() == ["spruit_dawn_8k", "old_depot_8k", None, ""]
    assert table["/mixed"].tolist() == ["1", "1", "true", "1.0"]
    assert table["synthetic"].dtype == bool
    assert dataset[[0, 2]].table(["/bool"])["/bool"].dtype == bool
    assert dataset[[3]].table(["/sparse", "/text"])["/sparse"].dtype == np.float64
    assert "/sparse" not in dataset[[3]].columns


def test_integers_that_a_float_cannot_hold_are_text(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"/a": 2**53 + 1, "/b": 2**63, "/c": 2**53 + 1},
        {"/a": 2**53, "/b": 1, "/c": 0.5},
        {},
    ]
    dataset = written(tmp_path, indexed([sample(row) for row in rows]))
    assert dataset[:2].table(["/a"])["/a"].tolist() == [2**53 + 1, 2**53]
    assert dataset.table(["/a"])["/a"].tolist() == ["9007199254740993", "9007199254740992", None]
    assert dataset.table(["/b"])["/b"].tolist() == ["9223372036854775808", "1", None]
    assert dataset.table(["/c"])["/c"].tolist() == ["9007199254740993", "0.5", None]
    assert pa.table(dataset.table()).num_rows == 3


def test_pandas_and_arrow_take_a_table(dataset: Dataset, prefix: Path) -> None:
    for each in (dataset, dataset[:0], load(prefix)):
        table = each.table()
        frame = pd.DataFrame(table)
        assert (list(frame), len(frame)) == (list(each.columns), len(each))
        assert pa.table(table).to_pydict()["path"] == list(each.paths)


def test_paths_and_campaigns(tmp_path: Path) -> None:
    paths = {
        "/x/campaign3/0001/a.json": "campaign3",
        "/x/campaign3/ref-2/a.json": "ref-2",
        "/x/campaign-17/0/é.json": "campaign-17",
        "/x/campaign/ref/campaignX/a.json": "ref",
        "/x/preference/0/a.json": None,
        "/x.json": None,
    }
    ordered = sorted(paths)
    data = indexed([{}] * len(paths), ordered)
    for dataset in (written(tmp_path, data), load(tmp_path / "out", root={"/x": "/y/campaign5"})):
        table = dataset.table(["path", "folder", "campaign"])
        assert table["path"].tolist() == list(dataset.paths)
        folders = [path.rpartition("/")[0] or "/" for path in dataset.paths]
        assert table["folder"].tolist() == folders
    assert table["campaign"].tolist() == [
        paths[path] or ("campaign5" if path.startswith("/x/") else None) for path in ordered
    ]


def test_a_folder_that_moved_keeps_its_campaign(tmp_path: Path) -> None:
    written(tmp_path, indexed([{}], ["/x/campaign3/0001/a.json"]))
    moved = load(tmp_path / "out", root={"/x/campaign3": "/mnt/ref/c3"})
    assert moved.paths[0] == "/mnt/ref/c3/0001/a.json"
    assert moved.campaigns[0] == moved.table(["campaign"])["campaign"][0] == "campaign3"


def test_a_column_that_no_row_has_is_named(dataset: Dataset) -> None:
    with pytest.raises(UsageError, match="no column /txet; the nearest: /text, "):
        dataset.table(["/txet"])
    assert dataset.table([]) == {}
    with pytest.raises(UsageError, match="no column boxs; the nearest: boxes, "):
        dataset.table("boxs")
    # What any table may have is there, without values.
    assert dataset.table(["license"])["license"].tolist() == [None] * 4
    assert np.isnan(dataset.table(["width"])["width"]).all()


def test_metadata_without_an_index_have_no_paths(tmp_path: Path) -> None:
    dataset = written(tmp_path, pickle.dumps([{}]))
    with pytest.raises(InputError, match="does not say the paths"):
        dataset.table(["path"])


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        (["/text=spruit.*"], [0]),
        (["/text=.*8k"], [0, 1]),
        (["/text!=.*8k"], [2, 3]),
        (["/text="], [3]),
        (["/text=.*"], [0, 1, 3]),
        (["/int=35"], [0]),
        (["/int=35.0"], [0]),
        (["/int!=35"], [1, 2, 3]),
        (["/int=.*5"], [0, 3]),
        (["/int<0"], [1]),
        (["/int<=0", "/float>=1e300"], [2]),
        (["/int>-0.5"], [0, 2, 3]),
        (["/int<1" + 400 * "0"], [0, 1, 2, 3]),
        (["/float<1" + 400 * "0"], [0, 1, 2, 3]),
        (["/float=0"], [1]),
        (["/float=35"], [3]),
        (["/sparse<5"], [2]),
        (["/sparse!=4"], [0, 1, 3]),
        (["/bool=true"], [0]),
        (["/bool!=0"], [0, 1, 3]),
        (["/bool!=true"], [1, 2, 3]),
        (["/mixed=1"], [0, 1, 3]),
        (["/mixed=^1$"], [0, 1]),
        (["/mixed>0.5"], [0, 3]),
        (["/only here=yes"], [3]),
        (["row>=2"], [2, 3]),
        (["boxes=0", "row!=1"], [0, 2, 3]),
        (["license!=CC"], [0, 1, 2, 3]),
        (["path=.*/1.json"], [1]),
        (["path=/1.json"], []),
        ([], [0, 1, 2, 3]),
    ],
)
def test_rows_are_chosen_by_the_table(
    dataset: Dataset, conditions: list[str], expected: list[int]
) -> None:
    with warnings.catch_warnings(action="ignore"):
        assert dataset.where(*conditions).row_numbers.tolist() == expected
        # Those of a selection are those of its rows.
        backwards = dataset[::-1].where(*conditions).row_numbers.tolist()
    assert backwards == expected[::-1]


def test_64_bits_are_compared_exactly(tmp_path: Path) -> None:
    rows = [{"/a": each} for each in (2**63 - 1, -(2**63), 2**63, 2**70, math.nan, math.inf)]
    dataset = written(tmp_path, indexed([sample(row) for row in rows]))
    for condition, expected in {
        f"/a={2**63 - 1}": [0],
        f"/a={2**63}": [2],
        f"/a<{2**63}": [0, 1],
        f"/a>{2**63 - 1}": [5],
        "/a<-9.3e18": [],
        "/a!=x": [0, 1, 2, 3, 4, 5],
        "/a=NaN": [4],
    }.items():
        with warnings.catch_warnings(action="ignore"):
            assert dataset.where(condition).row_numbers.tolist() == expected, condition


@pytest.mark.parametrize(
    ("condition", "problem"),
    [
        ("/txet=a", "there is no column /txet; the nearest: /text"),
        ("/text<3", "/text<3: it compares numbers only"),
        ("/bool>0", "/bool>0: it compares numbers only"),
        ("/bool=yes", "/bool=yes: it is true or false"),
        ("/int<abc", "/int<abc: it compares numbers only"),
        ("/int<", "/int<: it compares numbers only"),
        ("/text=(", r"\( is not a regular expression"),
        ("!/int=3", "!/int=3 makes no sense; write /int!=VALUE"),
    ],
)
def test_conditions_that_make_no_sense(dataset: Dataset, condition: str, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        dataset.where(condition)


def test_conditions_that_no_row_meets_are_named(dataset: Dataset) -> None:
    with pytest.warns(UserWarning, match="where /int=36: no row has such a value"):
        assert len(dataset.where("/int=36")) == 0
    with pytest.warns(UserWarning, match="where /int!=36: no row has such a value"):
        assert len(dataset.where("/int!=36")) == len(dataset)
    with pytest.warns(UserWarning, match="where 48: no category matches 48"):
        assert len(dataset.where("48")) == 0


def test_whether_a_row_has_a_matte(prefix: Path) -> None:
    dataset = load(prefix)
    expected = ["cryptomatte" in sample.get("synthetic", {}) for sample in dataset.metadata or ()]
    assert dataset.has_matte.dtype == bool
    assert dataset.has_matte.tolist() == expected
    assert 0 < sum(expected) < len(expected)
    assert dataset[:0].has_matte.dtype == bool


def test_numbers_of_boxes_and_contours_are_those_of_the_data_set(prefix: Path) -> None:
    dataset = load(prefix)
    table = dataset.table(["boxes", "contours"])
    rows = range(len(dataset))
    assert table["boxes"].tolist() == [len(dataset.boxes(row)) for row in rows]
    assert table["contours"].tolist() == [len(dataset.contours(row)) for row in rows]


def test_damaged_metadata_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "out-metadata.pickle").write_bytes(
        pickle.dumps([{"synthetic": {"parameters": {3: 4}}}])
    )
    with pytest.raises(InputError, match="cannot read it"):
        load(tmp_path / "out").table()


def test_the_commands_choose_by_the_table(prefix: Path) -> None:
    expected = len(load(prefix).where("synthetic=true", "/camera/focal>=50"))
    where = ("--where", "synthetic=true", "--where", "/camera/focal>=50")
    done = run(script("limbo-inspect"), *where, prefix)
    assert f"rows: 12, {expected} chosen" in done.stdout
    assert "there is no column /x" in error_line(
        run(script("limbo-inspect"), "--where", "/x=1", prefix), 2
    )
