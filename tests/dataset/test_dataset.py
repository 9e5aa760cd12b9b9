"""Data sets: views of rows, labels, several prefixes, other processes, files that are replaced."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from limbo_compress import Dataset, InputError, LimboError, UsageError, compress, concat, load
from limbo_compress.dataset.splits import split_rows
from limbo_compress.dataset.srgb import srgb8
from limbo_compress.formats import geometry
from tests.jobs import MASKS, job


@pytest.fixture
def dataset(prefix: Path) -> Dataset:
    return load(prefix)


@pytest.fixture(scope="module")
def images(prefix: Path) -> NDArray[np.float16]:
    values: NDArray[np.float16] = np.load(f"{prefix}-images.npy")
    return values


@pytest.fixture(scope="module")
def samples(prefix: Path) -> list[dict[str, Any]]:
    with open(f"{prefix}-metadata.pickle", "rb") as stream:
        found: list[dict[str, Any]] = pickle.load(stream)
    return found


Check = Callable[[Dataset, Any], None]


@pytest.fixture(scope="module")
def check_rows(prefix: Path, images: NDArray[np.float16], samples: list[dict[str, Any]]) -> Check:
    """Check that a data set has certain rows in all outputs."""

    def check(found: Dataset, rows: Any) -> None:
        assert len(found) == len(rows)
        assert found.images is not None
        np.testing.assert_array_equal(np.asarray(found.images), images[rows])
        for mask in found.masks:
            expected = np.load(f"{prefix}-masks-{mask}.npy")[rows]
            np.testing.assert_array_equal(np.asarray(found.masks[mask]), expected)
        chosen = [samples[row] for row in rows]
        assert found.metadata is not None
        assert list(found.metadata) == chosen
        files = [os.path.basename(path) for path in found.paths]
        assert files == [sample["image"]["filename"][:-4] + ".json" for sample in chosen]
        categories = [{each["category"] for each in sample["annotations"]} for sample in chosen]
        assert list(found.categories) == categories

    return check


def test_all_rows(dataset: Dataset, check_rows: Check) -> None:
    check_rows(dataset, range(12))
    assert isinstance(dataset.images, np.memmap)
    assert isinstance(dataset.masks["big"], np.memmap)
    assert list(dataset.masks) == ["all", "big"]
    assert "images, masks-all, masks-big, metadata" in repr(dataset)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([3, 1, 1, -1], [3, 1, 1, 11]),
        (slice(2, 5), [2, 3, 4]),
        (slice(None, None, -4), [11, 7, 3]),
        (np.arange(12) % 5 == 0, [0, 5, 10]),
        ([True] + [False] * 11, [0]),
        ([], []),
        (np.zeros(12, bool), []),
        (range(4, 6), [4, 5]),
    ],
)
def test_selected_rows(dataset: Dataset, check_rows: Check, rows: Any, expected: list[int]) -> None:
    selected = dataset.select(rows)
    check_rows(selected, expected)
    check_rows(pickle.loads(pickle.dumps(selected)), expected)
    again = selected.select(slice(None, None, -1))
    check_rows(again, expected[::-1])


def test_selecting_reads_nothing(dataset: Dataset) -> None:
    assert isinstance(dataset.select(slice(3, 7)).images, np.memmap)
    rows = dataset.select([5, 2]).images
    assert rows is not None
    assert rows.shape == (2, 24, 32, 3)
    assert rows.dtype == np.float16


def test_selected_rows_calculate_like_an_array(
    dataset: Dataset, images: NDArray[np.float16]
) -> None:
    rows: Any = dataset.select([7, 2]).images
    expected = images[[7, 2]]
    np.testing.assert_array_equal(rows * 2, expected * 2)
    np.testing.assert_array_equal(expected - rows, np.zeros_like(expected))
    np.testing.assert_array_equal(rows == rows[0], expected == expected[0])
    assert np.mean(rows) == np.mean(expected)
    assert not hasattr(rows, "mean")
    with pytest.raises(LimboError, match=r"np\.asarray"):
        rows.mean()
    with pytest.raises(LimboError, match=r"np\.asarray"):
        rows += 1


def test_a_data_set_is_indexed_and_iterated(
    dataset: Dataset, images: NDArray[np.float16], samples: list[dict[str, Any]], check_rows: Check
) -> None:
    sample = dataset[-1]
    np.testing.assert_array_equal(sample.image, images[-1])
    np.testing.assert_array_equal(sample.masks["big"], dataset.masks["big"][-1])
    assert sample.metadata == samples[-1]
    assert [found.metadata for found in dataset] == samples
    for rows in (slice(2, 5), [2, 3, 4], np.arange(12) // 3 == 1):
        check_rows(dataset[rows], np.arange(12)[rows].tolist())
    with pytest.raises(IndexError):
        dataset[12]


def test_a_notebook_shows_a_small_sheet(dataset: Dataset, tmp_path: Path) -> None:
    assert dataset.images is not None
    shown = dataset._repr_html_()
    assert shown.count("<img ") == 8
    assert ", ".join(sorted(dataset.categories[0])) in shown
    assert f"{len(dataset)} rows" in shown
    image = cv2.imdecode(
        np.frombuffer(b64decode(shown.split("base64,")[1].split('"')[0]), np.uint8),
        cv2.IMREAD_COLOR_RGB,
    )
    assert image is not None
    assert image.shape == (84, 112, 3)
    expected = srgb8(dataset.images[0])
    assert abs(image.mean() - expected.mean()) < 3
    (tmp_path / "x-metadata.pickle").write_bytes(pickle.dumps([{"<b>": 1}]))
    assert "<img" not in load(tmp_path / "x")._repr_html_()


def test_shared_rows_are_known_by_their_files(
    dataset: Dataset, prefix: Path, tmp_path: Path
) -> None:
    for path in prefix.parent.glob(f"{prefix.name}-*"):
        (tmp_path / path.name.replace(prefix.name, "linked", 1)).symlink_to(path)
    linked = load(tmp_path / "linked")
    for other in (dataset, linked, load(f"{prefix.parent}/./{prefix.name}")):
        assert dataset.select([2, 3, 4]).shares_rows(concat([other.select([9]), other.select([4])]))
        assert not dataset.select([2, 3, 4]).shares_rows(other.select([1, 9]))


@pytest.mark.parametrize("rows", [None, [0, 5], slice(2, 9)])
def test_arrays_are_cheap_to_pickle(dataset: Dataset, rows: Any) -> None:
    view = dataset if rows is None else dataset.select(rows)
    for array in (view.images, view.masks["big"]):
        pickled = pickle.dumps(array)
        assert len(pickled) < 2000
        np.testing.assert_array_equal(pickle.loads(pickled), array)
    assert dataset.images is not None
    for part in (dataset.images[3:5], dataset.images[:], dataset.images[4:][1:2]):
        assert len(pickle.dumps(part)) < 2000
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(part)), part)
    reshaped = dataset.images[:2]
    reshaped.shape = (4, 12, 32, 3)
    others: list[Any] = [
        *(dataset.images[0], dataset.images[:, 2:9], dataset.images[::2], dataset.images[::-1]),
        *(dataset.images * 2, dataset.images[3:5].copy(), dataset.images[:0], reshaped),
        *(dataset.images.view(np.uint16), dataset.images.mean(axis=0), dataset.images[..., 0]),
    ]
    for other in others:
        again = pickle.loads(pickle.dumps(other))
        assert (again.shape, again.dtype) == (other.shape, other.dtype)
        np.testing.assert_array_equal(again, other)
    items: Any
    for items in (dataset.metadata, dataset.categories):
        assert pickle.loads(pickle.dumps(items))[2] == items[2]


def test_selected_rows_are_indexed_like_an_array(
    dataset: Dataset, images: NDArray[np.float16]
) -> None:
    order = [7, 2, 9, 2]
    rows, expected = dataset.select(order).images, images[order]
    assert rows is not None
    keys: list[Any] = [
        *(0, -1, np.int64(2), slice(1, 3), [3, 0, 3], np.array([True, False, True, True])),
        *((1, 5), (slice(0, 2), 5, 6), ([1, 2], ..., 0), ..., (..., 1), None, (None, 2)),
        *(([0, 1], [2, 3]), (slice(0, 3), [2, 3]), (3, slice(None), [0, 1]), (), []),
        *(([0, 1], slice(None), 2), (3, [0, 1], slice(None), [0, 1]), ([0, 1], None, 3)),
        *(np.array([[0, 1], [3, 2]]), (np.array([[0, 1], [3, 2]]), 5), True),
        *((True, 0), (False, 0), np.True_, expected > 0.5),
    ]
    for key in keys:
        np.testing.assert_array_equal(rows[key], expected[key])
    np.testing.assert_array_equal(list(rows), expected)
    with pytest.raises(IndexError):
        rows[4]


@pytest.mark.parametrize(
    "rows", [[12], [-13], [0.5], np.ones(11, bool), np.ones((12, 1), bool), [[1, 2]], 3, "all"]
)
def test_rows_that_are_not_there_cannot_be_selected(dataset: Dataset, rows: Any) -> None:
    with pytest.raises(UsageError):
        dataset.select(rows)


def test_labels_are_those_of_the_tutorial(dataset: Dataset, samples: list[dict[str, Any]]) -> None:
    categories = [{a["category"] for a in sample["annotations"]} for sample in samples]
    big = {"48G", "48X", "48Y"}
    labels = dataset.labels(big)
    assert labels.dtype == np.float32
    np.testing.assert_array_equal(labels, [[float(bool(big & found))] for found in categories])
    np.testing.assert_array_equal(dataset.labels("30B"), [["30B" in c] for c in categories])
    two = dataset.labels({"48": r"^48", "B": r"B$"})
    expected = [
        [any(c.startswith("48") for c in found), any(c.endswith("B") for c in found)]
        for found in categories
    ]
    np.testing.assert_array_equal(two, np.array(expected, np.float32))
    np.testing.assert_array_equal(dataset.select([4, 0]).labels(big), labels[[4, 0]])
    assert dataset.select([]).labels(big).shape == (0, 1)
    with pytest.warns(UserWarning, match="no sample has the category no such category"):
        assert not dataset.labels({"no such category"}).any()


def test_categories_are_counted(dataset: Dataset, samples: list[dict[str, Any]]) -> None:
    categories = [{a["category"] for a in sample["annotations"]} for sample in samples]
    names = sorted(set().union(*categories))
    counts = {name: sum(name in found for found in categories) for name in names}
    assert list(dataset.count().items()) == list(counts.items())
    assert dataset.select([3]).count() == dict.fromkeys(sorted(categories[3]), 1)
    assert dataset.select([]).count() == {}


def test_a_bad_expression_is_named(dataset: Dataset) -> None:
    with pytest.raises(UsageError, match=r"'\(' is not a regular expression"):
        dataset.labels({"x": "("})
    wrong: Any
    for wrong in (np.zeros(12), [1, 2], {1}, None, 7, {"48G", 1}, set(), {}, np.array(["48G"])):
        with pytest.raises(UsageError, match=r"names (of categories|no label)"):
            dataset.labels(wrong)


def test_labels_that_nothing_has_are_told(dataset: Dataset) -> None:
    for wanted, told in (
        ({"48Z"}, "no sample has the category 48Z; the nearest: 48"),
        ({"30b", "48G"}, "no sample has the category 30b; the nearest: 30B, 30"),
        (["^48"], r"no sample has the category \^48; the nearest: 48"),
        ({"a": "^84", "b": "^48"}, r"no category matches \^84; the nearest: 48"),
    ):
        with pytest.warns(UserWarning, match=told) as warnings:
            dataset.labels(wanted)
        assert len(warnings) == 1
    few = dataset.select([0])  # what other rows have is no mistake
    assert not few.labels(set(dataset.classes) - dataset.categories[0]).any()


@given(st.lists(st.integers(0, 4), max_size=60), st.floats(0, 1), st.integers(0, 2**32), st.data())
def test_a_split_keeps_the_balance(
    strata: list[int], fraction: float, seed: int, data: st.DataObject
) -> None:
    ids = np.array(strata, np.intp)
    first, second = split_rows(ids, fraction, seed)
    assert len(first) == round(fraction * len(ids))
    assert sorted([*first, *second]) == list(range(len(ids)))
    for stratum in set(strata):
        wanted = fraction * strata.count(stratum)
        assert abs(np.count_nonzero(ids[first] == stratum) - wanted) < 1 + 1e-9
    again = split_rows(ids, fraction, seed)
    np.testing.assert_array_equal(first, again[0])


def test_a_split_depends_on_its_seed(dataset: Dataset) -> None:
    train, test = dataset.split(0.75, seed=1)
    assert (len(train), len(test)) == (9, 3)
    assert sorted([*train.paths, *test.paths]) == list(dataset.paths)
    others = {tuple(dataset.split(0.75, seed=seed)[0].paths) for seed in range(9)}
    assert len(others) > 1


def test_a_split_by_labels(dataset: Dataset) -> None:
    labels = dataset.labels({"real"})  # three photographs in twelve
    for stratify in (labels, labels[:, 0], ["real" if label else "" for label in labels[:, 0]]):
        train, test = dataset.split(2 / 3, stratify=stratify)
        assert (train.labels("real").sum(), test.labels("real").sum()) == (2, 1)
    train, test = dataset.split(0.5, stratify=dataset.categories)
    for category in dataset.classes:
        assert abs(train.labels(category).sum() - test.labels(category).sum()) <= 3
    with pytest.raises(UsageError, match="stratify takes labels"):
        dataset.split(0.5, stratify=np.array([{1}] * 12))
    empty = dataset.select([])
    assert [len(part) for part in empty.split(0.5, stratify=empty.labels("real"))] == [0, 0]


@pytest.mark.parametrize(
    "arguments", [(1.1,), (-0.1,), (float("nan"),), ("0.8",), (0.5, -1), (0.5, 0, [1, 2])]
)
def test_an_impossible_split_is_refused(dataset: Dataset, arguments: Any) -> None:
    with pytest.raises(UsageError, match=r"(split|stratify) takes"):
        dataset.split(*arguments)


def test_prefixes_are_joined(dataset: Dataset, prefix: Path, check_rows: Check) -> None:
    expected = [*range(12), *range(12)]
    for joined in (load([prefix, str(prefix)]), concat([dataset, dataset])):
        check_rows(joined, expected)
        assert joined.count()["synthetic"] == 2 * dataset.count()["synthetic"]
    part = concat([dataset.select([3, 1]), dataset.select(slice(8, None)), dataset])
    rows = [3, 1, 8, 9, 10, 11, *range(12)]
    check_rows(part, rows)
    check_rows(pickle.loads(pickle.dumps(part)), rows)
    check_rows(part.select([-1, 2]), [11, 8])


def test_prefixes_that_do_not_match_say_so_where_it_matters(
    prefix: Path, campaign: Path, tmp_path: Path
) -> None:
    compress(job(campaign, tmp_path, image_size=(16, 16), masks=MASKS[:1]))
    compress(job(campaign, tmp_path, prefix=str(tmp_path / "bare"), images=False))
    joined = load([prefix, tmp_path / "out"])
    assert len(joined.labels("30B")) == 24
    with pytest.raises(InputError, match=r"16 × 16 and 32 × 24 pixels cannot be joined"):
        joined.images  # noqa: B018
    with pytest.raises(InputError, match=r"out-masks-big.npy: there is no such output"):
        joined.masks["big"]
    with pytest.raises(InputError, match=r"bare-images.npy: there is no such output"):
        load([prefix, tmp_path / "bare"]).images  # noqa: B018


def test_nothing_cannot_be_joined() -> None:
    for join in (load, concat):
        with pytest.raises(UsageError, match="at least one"):
            join([])


def test_outputs_that_are_not_there(prefix: Path, campaign: Path, tmp_path: Path) -> None:
    compress(job(campaign, tmp_path, metadata=False))
    dataset = load(tmp_path / "out")
    assert dataset.metadata is None
    assert dict(dataset.masks) == {}
    for use in (lambda: dataset.paths[0], lambda: dataset.labels("x"), lambda: dataset.boxes(0)):
        with pytest.raises(InputError, match=r"out-metadata.pickle: there is no such output"):
            use()
    compress(job(campaign, tmp_path, prefix=str(tmp_path / "bare"), images=False))
    bare = load(tmp_path / "bare")
    assert bare.images is None
    assert len(bare) == 12
    with pytest.raises(InputError, match="the size of a row is not known"):
        bare.boxes(0)


def test_a_pickled_data_set_is_small(dataset: Dataset) -> None:
    assert len(pickle.dumps(dataset)) < 1000
    selected = dataset.select(np.zeros(1000, int))
    assert len(pickle.dumps(selected)) < 10_000


def _sum_rows(dataset: Dataset, rows: list[int]) -> tuple[float, list[str]]:
    assert dataset.images is not None
    assert dataset.metadata is not None
    total = np.asarray(dataset.images[rows], np.float64).sum()
    return float(total), [json.dumps(dataset.metadata[row]) for row in rows]


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_other_processes_open_it_for_themselves(dataset: Dataset, method: str) -> None:
    with multiprocessing.get_context(method).Pool(2) as pool:
        tasks = [(dataset, [1, 5]), (dataset.select([3, 8, 4]), [2, 0])] * 3
        assert pool.starmap(_sum_rows, tasks) == [_sum_rows(*task) for task in tasks]


def test_a_set_that_was_compressed_anew_is_noticed(campaign: Path, tmp_path: Path) -> None:
    uses: list[Callable[[Dataset], object]] = [
        lambda found: found.images,
        lambda found: found.masks["big"],
        lambda found: list(found.metadata or []),
        lambda found: found.labels("30B"),
        lambda found: found.boxes(0),
    ]
    compress(job(campaign, tmp_path, masks=MASKS))
    dataset = load(tmp_path / "out")
    data = pickle.dumps(dataset)
    compress(job(campaign, tmp_path, masks=MASKS, start=1))
    unpickled = pickle.loads(data)
    for found in (dataset, unpickled):
        for use in uses:
            with pytest.raises(InputError, match="replaced or removed since it was opened; load"):
                use(found)
    assert len(load(tmp_path / "out")) == 11


def test_files_that_are_added_do_not_matter(campaign: Path, tmp_path: Path) -> None:
    compress(job(campaign, tmp_path))
    data = pickle.dumps(load(tmp_path / "out"))
    compress(job(campaign, tmp_path, images=False, metadata=False, masks=MASKS))
    dataset = pickle.loads(data)
    assert dict(dataset.masks) == {}
    assert dataset.images is not None
    assert len(dataset.metadata or []) == 12
    assert list(load(tmp_path / "out").masks) == ["all", "big"]


def test_a_prefix_may_be_relative(
    prefix: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(prefix.parent)
    dataset = load("out")
    monkeypatch.chdir(tmp_path)
    assert len(pickle.loads(pickle.dumps(dataset)).images) == 12


def test_boxes_of_the_index_are_those_of_the_metadata(campaign: Path, tmp_path: Path) -> None:
    compress(job(campaign, tmp_path))
    dataset = load(tmp_path / "out")
    assert dataset.metadata is not None
    expected = [geometry.boxes(sample, dataset.row_size, print) for sample in dataset.metadata]
    assert any(expected)
    path = tmp_path / "out-metadata.pickle"
    data = bytearray(path.read_bytes())
    data[10] ^= 1  # in the metadata of the first row, which are not read
    path.write_bytes(data)
    damaged = load(tmp_path / "out")
    with pytest.raises(InputError, match="damaged"):
        damaged.abridged[0]
    found = [damaged.boxes(row) for row in range(len(damaged))]
    assert [[(box.category, box.xyxy.tobytes()) for box in boxes] for boxes in found] == [
        [(box.category, box.xyxy.tobytes()) for box in boxes] for boxes in expected
    ]


def test_boxes_are_in_the_pixels_of_rows_of_another_job(campaign: Path, tmp_path: Path) -> None:
    compress(job(campaign, tmp_path))
    compress(job(campaign, tmp_path, images=False, image_size=(64, 48), masks={"x": "."}))
    (tmp_path / "out-masks-x.npy").unlink()
    dataset = load(tmp_path / "out")
    assert dataset.metadata is not None
    for row, sample in enumerate(dataset.metadata):
        expected = [box.xyxy.tobytes() for box in geometry.boxes(sample, (32, 24), print)]
        assert [box.xyxy.tobytes() for box in dataset.boxes(row)] == expected


def test_tags_are_no_classes_of_boxes(campaign: Path, tmp_path: Path) -> None:
    compress(job(campaign, tmp_path))
    dataset = load(tmp_path / "out")
    annotations = [item for sample in dataset.metadata or () for item in sample["annotations"]]
    with_box = {item["category"] for item in annotations if "bbox" in item or "contours" in item}
    assert dataset.box_classes == tuple(sorted(with_box))
    assert set(dataset.box_classes) < set(dataset.classes)
    compress(job(campaign, tmp_path, prefix=str(tmp_path / "tags"), strip_regions=True))
    stripped = load(tmp_path / "tags")
    assert stripped.box_classes == stripped.classes == dataset.classes
