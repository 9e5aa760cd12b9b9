"""Limbo's categories, and the sets of names that are used wherever categories are."""

from __future__ import annotations

import pickle
import subprocess
import sys
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.mixed import MixedCampaign, write_mixed
from limbo_compress import (
    Dataset,
    UsageError,
    choose_rows,
    compress,
    export_dataset,
    load,
    summarize,
    vocabulary,
)
from limbo_compress.vocabulary import BARREL_55G, CATEGORIES, CONTAINER, TYPE_30B, TYPE_48
from tests.annotations import box, contour, square
from tests.inspect.sets import write_set
from tests.jobs import error_line, job, run, script

# How many categories the pages of Limbo's documentation list for each campaign.
DOCUMENTED = {
    **{2: 3, 3: 3, 4: 3, 5: 3, 6: 2, 7: 47, 8: 50, 9: 52, 10: 43, 11: 45, 12: 47, 13: 48, 14: 46},
    **{15: 7, 16: 36, 17: 38, 18: 39, 19: 41, 20: 36},
}


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Outputs whose samples call one thing by several names; not to be changed."""
    folder = tmp_path_factory.mktemp("mixed")
    write_mixed(folder / "data", MixedCampaign(samples=24, size=(64, 48)))
    compress(job(folder / "data", folder))
    return folder / "out"


def written(folder: Path, *categories: str) -> Dataset:
    """A sample for each text of categories, with a tag and a box of each."""
    size, corners = {"image": {"res": [64, 48]}}, (4, 5, 20, 30)
    samples = [
        {
            "annotations": [
                annotation
                for name in names.split()
                for annotation in ({"category": name}, box(*corners, category=name))
            ],
            **size,
        }
        for names in categories
    ]
    return load(write_set(folder / "x", np.zeros((len(samples), 48, 64, 3)), samples))


def crowd() -> dict[str, Any]:
    """A sample as image_0001785 of campaign 4: 49 containers of type 48 in a row."""
    places = [(14.0 * number, 300.0, 13.0, 20.0) for number in range(49)]
    boxes = [box(*place, category="48") for place in places]
    contours = [contour(square(*place), category="48") for place in places]
    annotations = [*contours, *boxes, {"category": "synthetic"}]
    return {"annotations": annotations, "image": {"res": [720, 720]}}


def test_every_documented_category_is_in_the_table() -> None:
    campaigns = Counter(name for each in CATEGORIES.values() for name in each.campaigns)
    documented = {f"campaign{number}": count for number, count in DOCUMENTED.items()}
    assert campaigns == documented | {"ref": 6, "ref-2": 4}
    assert len(CATEGORIES) == 61
    assert all(each.name == name and each.what for name, each in CATEGORIES.items())
    assert CATEGORIES["48G"].campaigns[:3] == ("campaign9", "campaign12", "campaign13")
    assert CATEGORIES["48G"].source.endswith("/limbo-ml/user/blob/main/docs/campaign9.ipynb")


def test_sets_have_all_names_of_a_thing_and_no_other() -> None:
    assert {"48", "48G", "48X", "48Y"} == TYPE_48
    assert {"30", "30B"} == TYPE_30B  # without 30Boverpack
    assert {"barrel/55G", *(f"barrel/55G/{kind}" for kind in "ABCDEF")} == BARREL_55G
    assert TYPE_48 | TYPE_30B == CONTAINER
    parents = {each.parent for each in CATEGORIES.values()} - {None}
    assert parents == {"48", "30B", "barrel/55G"}
    assert frozenset().union(*vocabulary.NAMES.values()) <= CATEGORIES.keys()


def test_a_set_finds_what_literal_labels_miss(tmp_path: Path) -> None:
    dataset = load(write_set(tmp_path / "x", np.zeros((1, 48, 64, 3)), [crowd()]))
    literal = {"48G", "48X", "48Y"}
    told = "no sample has the category 48G or 48X or 48Y; the nearest: 48, .*leaves out 48, which"
    with pytest.warns(UserWarning, match=told) as found:
        assert dataset.labels(literal).tolist() == [[0]]
    assert [(warning.filename, len(found)) for warning in found] == [(__file__, 1)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # most names of the set are absent
        assert dataset.labels(TYPE_48).tolist() == [[1]]
        assert dataset.labels("@type-48").tolist() == [[1]]
        assert dataset.labels({"48": TYPE_48, "x": {"@type-48"}, "y": "8$"}).tolist() == [[1, 1, 1]]


def test_a_category_means_itself_though_it_looks_like_a_set(tmp_path: Path) -> None:
    metadata = [{"annotations": [{"category": name}]} for name in ("@odd", "48")]
    (tmp_path / "out-metadata.pickle").write_bytes(pickle.dumps(metadata))
    dataset = load(tmp_path / "out")
    assert dataset.labels(set(dataset.classes)).tolist() == [[1], [1]]
    assert dataset.labels({"a": {"@odd"}, "b": "@odd", "c": "@type-48"}).tolist() == [
        [1, 1, 0],
        [0, 0, 1],
    ]


def test_sets_work_wherever_categories_do(mixed: Path, tmp_path: Path) -> None:
    dataset = load(mixed)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name, names in vocabulary.NAMES.items():
            expected = [[float(not found.isdisjoint(names))] for found in dataset.categories]
            assert 0 < np.sum(expected) < 24
            for wanted in (f"@{name}", names, sorted(names), {"x": f"@{name}"}, {"x": names}):
                assert dataset.labels(wanted).tolist() == expected
            rows = np.flatnonzero(expected)
            assert choose_rows(dataset, [f"@{name}"]).row_numbers.tolist() == rows.tolist()
            assert dataset.where(f"@{name}").row_numbers.tolist() == rows.tolist()
            others = choose_rows(dataset, [f"!@{name}"]).row_numbers
            assert sorted({*rows, *others}) == list(range(24))
        labels = {"48": "@type-48", "barrel": ["barrel/wine", "@barrel-55g"], "other": "^b"}
        with pytest.warns(UserWarning, match="no sample has the category barrel/wine;"):
            table = dataset.labels(labels)
    named = [dataset.labels("@type-48"), dataset.labels("@barrel-55g"), dataset.labels({"": "^b"})]
    np.testing.assert_array_equal(table, np.hstack(named))


def test_classes_of_exports_may_be_sets(
    mixed: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("pycocotools", reason="needs the extra export")
    labels = {"48": TYPE_48, "30B": "@type-30b", "barrel": "@barrel-55g"}
    export_dataset(load(mixed), "yolo", tmp_path / "sets", labels=labels, workers=1)
    assert "which may mean the same" not in caplog.text
    export_dataset(load(mixed), "yolo", tmp_path / "one", labels={"48": {"48G", "48X", "48Y"}})
    assert "leaves out 48, which may mean the same: @type-48 has all of them" in caplog.text
    words = [f"--label={name}=@type-{name.lower()}" for name in ("48", "30B")]
    command = [script("limbo-export"), mixed, "--to", "yolo", "-o", "command", *words]
    done = run(*command, "--label", "barrel=@barrel-55g", cwd=tmp_path)
    assert done.returncode == 0
    texts = [
        {path.name: path.read_bytes() for path in (tmp_path / folder).rglob("*.txt")}
        for folder in ("sets", "command")
    ]
    assert texts[0] == texts[1]
    lines = [line for text in texts[0].values() for line in text.decode().splitlines()]
    assert {line.split()[0] for line in lines} == {"0", "1", "2"}


@pytest.mark.parametrize("name", ["@type48", "@", "@nothing", "@\n"])
def test_a_set_that_does_not_exist_is_one_line(mixed: Path, tmp_path: Path, name: str) -> None:
    dataset = load(mixed)
    for use in (
        lambda: dataset.labels(name),
        lambda: dataset.labels({"x": name, "48": TYPE_48}),
        lambda: dataset.labels({"48G", name}),
        lambda: choose_rows(dataset, [name]),
        lambda: choose_rows(dataset, [f"!{name}"]),
    ):
        with pytest.raises(UsageError, match=r"there is no set of categories @.*; the sets: @"):
            use()
    done = run(script("limbo-inspect"), mixed, "--where", name, cwd=tmp_path)
    assert "there is no set of categories @" in error_line(done, 2)


@pytest.mark.parametrize(
    ("wanted", "left_out"),
    [
        ({"48G"}, [("48", "@type-48")]),
        ({"48X"}, [("48", "@type-48")]),
        ({"48"}, [("48G", "@type-48")]),
        ({"a": "^48G$", "b": {"30"}}, [("30B", "@type-30b"), ("48", "@type-48")]),
        ({"barrel/55G/B"}, [("barrel/55G", "@barrel-55g")]),
        ({"a": "^48G$", "b": "^48$"}, []),
        ({"a": TYPE_48, "b": "48G"}, []),
        ({"30B", "30", "real"}, []),
        ("30Boverpack", []),
    ],
)
def test_names_that_are_left_out_are_told(
    tmp_path: Path, wanted: Any, left_out: list[tuple[str, str]]
) -> None:
    names = ("30", "30B", "30Boverpack", "48", "48G", "48 48X", "barrel/55G", "barrel/55G/B")
    dataset = written(tmp_path, *names, "real")
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        dataset.labels(wanted)
    problems = "; ".join(
        f"this leaves out {name}, which may mean the same: {names} has all of them"
        for name, names in left_out
    )
    assert [str(warning.message) for warning in found] == [f"labels: {problems}"] * bool(left_out)
    # Rows that have both names of a thing, as photographs do, leave nothing out.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset.select([4, 5]).labels({"48X", "48G"})


def test_a_set_of_which_there_is_nothing_is_told(tmp_path: Path) -> None:
    dataset = written(tmp_path, "real", "pallet")
    for wanted in (TYPE_48, "@type-48", {"x": "@type-48"}):
        with pytest.warns(UserWarning, match="no sample has the category 48 or 48G or 48X or 48Y;"):
            assert not dataset.labels(wanted).any()


def test_mixed_names_are_a_line_of_the_summary(mixed: Path, tmp_path: Path) -> None:
    summary = summarize(load(mixed))
    assert summary.mixed == summary.as_json()["mixed"]
    assert summary.mixed["@type-30b"] == ["30", "30B"]
    assert summary.mixed["@type-48"] == ["48", "48G", "48X", "48Y"]
    assert summary.mixed["@barrel-55g"][:2] == ["barrel/55G", "barrel/55G/A"]
    done = run(script("limbo-inspect"), mixed, cwd=tmp_path)
    assert "\n  several names of one thing: 30, 30B (@type-30b); 48, 48G, 48X, 48Y" in done.stdout
    plain = summarize(written(tmp_path, "30B", "30Boverpack", "48G", "48X", "barrel/wine"))
    assert plain.mixed == {}


def test_the_vocabulary_loads_nothing_heavy() -> None:
    program = "import sys, limbo_compress.vocabulary; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
