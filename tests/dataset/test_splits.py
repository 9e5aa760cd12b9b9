"""Groups of rows, and splits and folds that keep them together."""

from __future__ import annotations

import hashlib
import pickle
import warnings
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from benchmarks.campaign import Campaign, write_campaign
from limbo_compress import Dataset, InputError, Options, UsageError, compress, concat, load
from tests.inspect.sets import write_set

SEEDS = 1000
# Two folders of a campaign with pairs, a flight, and photographs.
PATHS = [
    *(f"/d/campaign05/{n // 10:04}/background_{n:04}.json" for n in range(20)),
    *(f"/d/campaign05/{n // 10:04}/image_{n:04}.json" for n in range(20)),
    *(f"/d/campaign20/0000/image_{n:04}.json" for n in range(30)),
    *(f"/d/photographs/{n}.json" for n in range(10)),
]
ENV_MAPS = ["dawn", "dusk", "noon"]


def parameters(path: str, number: int) -> dict[str, Any]:
    if "campaign05" not in path:
        return {}
    return {"synthetic": {"parameters": {"/background/env_map": ENV_MAPS[number % 3]}}}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Rows of `PATHS`. Those of the flight come in sevens with one image."""
    images = np.zeros((len(PATHS), 2, 2, 3))
    images[:, 0, 0, 0] = np.arange(len(PATHS))
    images[40:70, 0, 0, 0] = 1000 + np.arange(30) // 7
    samples = [
        {"annotations": [{"category": "30B" if n % 4 else "48"}], **parameters(path, n)}
        for n, path in enumerate(PATHS)
    ]
    return load(write_set(tmp_path_factory.mktemp("set") / "s", images, samples, PATHS))


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Rows to be divided by arrays of their own."""
    return load(write_set(tmp_path_factory.mktemp("many") / "s", np.zeros((80, 1, 1, 3))))


def first_places(values: Iterable[Any]) -> list[int]:
    """Number values in the order in which they are first there."""
    listed = list(values)
    return [list(dict.fromkeys(listed)).index(value) for value in listed]


def test_groups_by_path(dataset: Dataset) -> None:
    folders = [path.rpartition("/")[0] for path in PATHS]
    assert dataset.groups("folder").tolist() == first_places(folders)
    pairs = [path.replace("background", "image") for path in PATHS]
    assert dataset.groups("pair").tolist() == first_places(pairs)
    blocks = [
        (folder, sorted(PATHS).index(path)) for folder, path in zip(folders, PATHS, strict=True)
    ]
    first = {folder: min(rank for other, rank in blocks if other == folder) for folder in folders}
    expected = [(folder, (rank - first[folder]) // 7) for folder, rank in blocks]
    assert dataset.groups("block:7").tolist() == first_places(expected)


def test_blocks_are_those_of_all_rows(dataset: Dataset) -> None:
    rows = np.arange(69, 40, -2)
    assert dataset[rows].groups("block:7").tolist() == first_places(
        dataset.groups("block:7")[rows].tolist()
    )


def test_a_row_without_a_value_is_a_group_of_its_own(dataset: Dataset) -> None:
    for by, unknown in (
        ("/background/env_map", 40),
        ("campaign", 10),
        ([None if "photo" in path else 1 for path in PATHS], 10),
        (np.array([np.nan if "photo" in path else 1 for path in PATHS]), 10),
    ):
        with pytest.warns(UserWarning, match=rf"{unknown} of 80 rows have no .*of its own"):
            groups = dataset.groups(by)
        sizes = np.bincount(groups)
        assert np.count_nonzero(sizes == 1) == unknown
        assert sizes[sizes > 1].sum() == 80 - unknown
    with pytest.raises(UsageError, match=r"10 of 10 rows have no campaign"):
        dataset[70:].groups("campaign")


def test_duplicates_by_pixels_and_by_checksums(dataset: Dataset, tmp_path: Path) -> None:
    groups = dataset.groups("duplicate")
    assert groups.tolist() == [*range(40), *(40 + np.arange(30) // 7), *range(45, 55)]
    write_campaign(tmp_path / "data", Campaign(samples=9, distinct=4, size=(40, 30)))
    for prefix in ("a", "b"):
        compress(
            Options(
                (str(tmp_path / "data"),),
                prefix=str(tmp_path / prefix),
                images=True,
                metadata=True,
                image_size=(8, 8),
            )
        )
    first, second = (load(tmp_path / prefix) for prefix in ("a", "b"))
    (tmp_path / "b-metadata.pickle").unlink()
    for both in (concat([first, second]), concat([first[[2, 1]], load(tmp_path / "b")])):
        numbers = [*first.row_numbers, *second.row_numbers][-len(both) :]
        if len(both) == 11:
            numbers = [2, 1, *range(9)]
        assert both.groups("duplicate").tolist() == first_places([n % 4 for n in numbers])


def test_rows_with_one_checksum_are_compared_by_their_pixels(tmp_path: Path) -> None:
    # Zeros, and the polynomial of CRC-32, which is a multiple of itself.
    polynomial = np.array([int(bit) for bit in f"{0x104C11DB7:b}"], np.uint8)
    images = np.zeros((3, 2, 2, 3), np.float16)
    images.view(np.uint8).reshape(3, -1)[1, :5] = np.packbits(polynomial, bitorder="little")
    assert len({zlib.crc32(image.tobytes()) for image in images}) == 1
    found = load(write_set(tmp_path / "s", images)).groups("duplicate")
    assert found[0] == found[2]
    assert found[0] != found[1]


def test_several_kinds_join_what_shares_a_group(dataset: Dataset) -> None:
    halves, thirds = np.arange(80) // 2, (np.arange(80) + 1) // 2
    assert set(dataset.groups((halves, thirds))) == {0}
    # 0-1 and 2-3 are joined by 1-2; 4-5 stays alone.
    found = dataset[:6].groups((["a", "a", "b", "b", "c", "c"], [0, 1, 1, 2, 3, 4]))
    assert found.tolist() == [0, 0, 0, 0, 1, 1]
    assert dataset.groups(("folder", "pair")).tolist() == dataset.groups("folder").tolist()


@given(st.lists(st.tuples(*[st.integers(0, 8)] * 3), min_size=1, max_size=40))
def test_joined_groups_are_components(many: Dataset, kinds: list[tuple[int, int, int]]) -> None:
    found = many[: len(kinds)].groups(tuple(map(list, zip(*kinds, strict=True))))
    reached = {0}
    for _ in kinds:
        reached |= {
            n
            for n, values in enumerate(kinds)
            if any(a == b for m in reached for a, b in zip(values, kinds[m], strict=True))
        }
    assert set(np.flatnonzero(found == found[0])) == reached


@pytest.mark.parametrize(
    ("by", "message"),
    [
        ("foldr", "no column foldr; the nearest: folder"),
        ("block:0", "no column block:0"),
        ("/no/such", r"no column /no/such; the nearest: .*/background/env_map"),
        ((), "names none"),
        ([1, 2], r"takes 80 values, not \(2,\)"),
        (3, r"takes 80 values, not \(\)"),
        (np.array([[1]] * 80 + [None], object)[:80], "takes a value for each row"),
    ],
)
def test_what_is_not_a_group_is_refused(dataset: Dataset, by: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        dataset.groups(by)


def test_groups_need_what_tells_them(many: Dataset, dataset: Dataset) -> None:
    for by in ("folder", "pair", "block:3"):
        with pytest.raises(InputError):
            many.groups(by)
    assert dataset[[]].groups("pair").tolist() == []


def check(parts: Sequence[Dataset], groups: NDArray[np.intp]) -> None:
    """Check that no group is in two parts."""
    found = [set(groups[part.row_numbers].tolist()) for part in parts]
    assert sum(map(len, found)) == len(set().union(*found))


@pytest.mark.parametrize(
    "by", ["folder", "pair", "block:5", "duplicate", "/background/env_map", ("pair", "duplicate")]
)
@pytest.mark.filterwarnings("ignore:groups|split")
def test_no_seed_leaks(dataset: Dataset, by: Any) -> None:
    groups, labels = dataset.groups(by), dataset.labels({"30B"})[:, 0]
    largest, distinct = np.bincount(groups).max(), set()
    for seed in range(SEEDS):
        train, val = dataset.split(0.75, groups=groups, stratify=labels, seed=seed)
        check([train, val], groups)
        assert sorted([*train.row_numbers, *val.row_numbers]) == list(range(80))
        assert abs(len(train) - 60) <= largest
        assert abs(labels[train.row_numbers].sum() - 0.75 * labels.sum()) <= largest
        distinct.add(tuple(val.row_numbers))
    assert len(distinct) > 1


Numbers = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 2)), min_size=3, max_size=80)


@given(Numbers, st.lists(st.integers(1, 9), min_size=2, max_size=4), st.integers(0, 2**40))
@pytest.mark.filterwarnings("ignore:split")
def test_any_split(
    many: Dataset, rows: list[tuple[int, int]], weights: list[int], seed: int
) -> None:
    groups, labels = np.array(rows).T
    dataset = many[: len(rows)]
    shares = [weight / sum(weights) for weight in weights]
    if len(set(groups)) < len(shares):
        with pytest.raises(UsageError, match=r"which cannot be divided into"):
            dataset.split(*shares, groups=groups, seed=seed)
        return
    for stratify in (None, labels):
        split = dataset.split(*shares, groups=groups, stratify=stratify, seed=seed)
        check(split, groups)
        assert min(map(len, split)) > 0
        assert sorted(np.concatenate([part.row_numbers for part in split])) == [*range(len(rows))]
        assert split.groups == tuple(len(set(groups[part.row_numbers])) for part in split)
        assert sum(split.asked) == len(rows)
        again = dataset.split(*shares, groups=groups, stratify=stratify, seed=seed)
        assert [[*part.row_numbers] for part in split] == [[*part.row_numbers] for part in again]


@given(Numbers, st.integers(2, 5), st.booleans(), st.integers(0, 2**32))
@pytest.mark.filterwarnings("ignore:folds")
def test_folds_evaluate_on_each_row_once(
    many: Dataset, rows: list[tuple[int, int]], k: int, with_groups: bool, seed: int
) -> None:
    groups, labels = np.array(rows).T
    dataset = many[: len(rows)]
    if len(rows) < k or (with_groups and len(set(groups)) < k):
        with pytest.raises(UsageError, match=r"folds takes|cannot be divided"):
            dataset.folds(k, groups=groups if with_groups else None)
        return
    folds = dataset.folds(k, seed, labels, groups if with_groups else None)
    assert len(folds) == k
    evaluated = np.concatenate([val.row_numbers for _, val in folds])
    assert sorted(evaluated) == list(range(len(rows)))
    for train, val in folds:
        assert sorted([*train.row_numbers, *val.row_numbers]) == list(range(len(rows)))
        if with_groups:
            check([train, val], groups)
        else:
            assert abs(len(val) - len(rows) / k) < 1
            of_labels = np.bincount(labels[val.row_numbers], minlength=3)
            assert (abs(of_labels - np.bincount(labels, minlength=3) / k) < 1 + 1e-9).all()


def test_several_fractions(many: Dataset) -> None:
    assert [len(part) for part in many.split(0.7, 0.15, 0.15)] == [56, 12, 12]
    train, val = many.split(0.5, 0.25, groups=np.arange(80) // 4)
    assert (len(train), len(val)) == (40, 20)
    train, val = many.split(0.5, 0.25, seed=3, stratify=np.arange(80) % 5)
    assert (len(train), len(val)) == (40, 20)
    assert not {*train.row_numbers} & {*val.row_numbers}
    np.testing.assert_array_equal(
        train.row_numbers, many.split(0.5, seed=3, stratify=np.arange(80) % 5)[0].row_numbers
    )
    assert len(many.split(0.5, 0.5, 1e-10, 1e-10)) == 4
    for fractions in ((), (0.5, 0.6), (0.5, 0), (0.5, 1), (0.5, -0.1), (0.7, "0.3"), (0.5, None)):
        with pytest.raises(UsageError, match=r"split takes a fraction from 0 to 1, or several"):
            many.split(*fractions)


def test_a_split_says_its_sizes(many: Dataset) -> None:
    split = many.split(0.8, groups=np.arange(80) // 8)
    assert split.describe() == str(split) == "64 + 16 rows, asked for 64 + 16; 8 + 2 groups"
    assert str(many.split(0.8)) == "64 + 16 rows, asked for 64 + 16"
    again = pickle.loads(pickle.dumps(split))
    assert str(again) == str(split)
    assert [[*part.row_numbers] for part in again] == [[*part.row_numbers] for part in split]


def test_a_group_that_is_too_large_is_told(many: Dataset) -> None:
    groups = np.maximum(0, np.arange(80) - 60)
    told = r"have 61 \+ 19 rows instead of 40 \+ 40: the largest of 20 groups has 61"
    with pytest.warns(UserWarning, match=told):
        assert len(many.split(0.5, groups=groups)[0]) == 61
    with pytest.raises(UsageError, match="80 rows are in 1 group, which cannot be divided into 2"):
        many.split(0.8, groups=np.zeros(80))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        many.split(0.8, groups=np.arange(80) // 10)


@pytest.mark.parametrize(
    ("sizes", "shares", "best"),
    [
        ((14, 20, 37), (0.8, 0.2), [14, 57]),
        ((9, 5, 6, 8, 5), (0.5, 0.5), [16, 17]),
        ((8, 33, 9, 21, 1), (0.7, 0.15, 0.15), [9, 9, 54]),
    ],
)
@pytest.mark.filterwarnings("ignore:split")
def test_few_groups_are_divided_as_near_as_possible(
    many: Dataset, sizes: tuple[int, ...], shares: tuple[float, ...], best: list[int]
) -> None:
    groups = np.repeat(np.arange(len(sizes)), sizes)
    for seed in range(20):
        split = many[: len(groups)].split(*shares, groups=groups, seed=seed)
        assert sorted(map(len, split)) == best


def test_what_fractions_leave_over_may_be_empty(many: Dataset) -> None:
    with pytest.warns(UserWarning, match=r"have 40 \+ 40 \+ 0 rows instead of 40 \+ 16 \+ 24"):
        split = many.split(0.5, 0.2, groups=np.arange(80) // 40)
    assert str(split) == "40 + 40 rows, asked for 40 + 16; 1 + 1 groups"


@given(st.integers(2, 80), st.lists(st.integers(1, 9), min_size=1, max_size=10))
def test_a_split_without_groups_has_the_sizes_asked_for(
    many: Dataset, rows: int, weights: list[int]
) -> None:
    dataset = many[:rows]
    for fractions in ([weight / sum(weights) for weight in weights], [0.1] * len(weights)):
        split = dataset.split(*fractions)
        assert split.asked == tuple(map(len, split))
    for train, val in (folds := dataset.folds(min(rows, 5))):
        assert (len(train), len(val)) in [each.asked for each in folds]
    assert all(fold.asked == tuple(map(len, fold)) for fold in folds)


def test_folds_speak_of_folds(many: Dataset) -> None:
    with pytest.raises(UsageError, match="folds takes a seed of 0 or more, not -1"):
        many.folds(4, seed=-1)
    with pytest.warns(UserWarning, match=r"^folds: the parts have"):
        many.folds(2, groups=np.maximum(0, np.arange(80) - 60))


def test_missing_values_of_pandas_are_no_values(many: Dataset) -> None:
    pandas = pytest.importorskip("pandas")
    values = pandas.Series(["a", None, "a", "b", None], dtype="string")
    for by in (values, values.array, list(values)):
        with pytest.warns(UserWarning, match="2 of 5 rows have no value"):
            assert many[:5].groups(by).tolist() == [0, 1, 0, 2, 3]


def digest(datasets: Sequence[Dataset]) -> str:
    rows = [part.row_numbers.astype("<i8").tobytes() for part in datasets]
    return hashlib.sha256(b"|".join(rows)).hexdigest()[:16]


PINNED_ROWS = [5, 10, 15, 37, 50, 63, 64, 68]  # as before there were groups
PINNED = {
    "split": "dcdecfd84b9fcd1c",
    "stratified": "71ca8b068fb7c6c8",
    "groups": "e0600835e90f9ae9",
    "both": "cdd53f027a8b242f",
    "folds": "8f38c844cb3fa1f2",
    "folds of groups": "d5805253136bc928",
}


def test_a_seed_gives_the_same_rows_everywhere(many: Dataset) -> None:
    groups, labels = np.arange(80) ** 2 % 23, np.arange(80) % 3
    assert many.split(0.9, seed=5)[1].row_numbers.tolist() == PINNED_ROWS
    found = {
        "split": digest(many.split(0.8)),
        "stratified": digest(many.split(0.7, 0.15, 0.15, seed=1, stratify=labels)),
        "groups": digest(many.split(0.8, seed=2, groups=groups)),
        "both": digest(many.split(0.7, 0.15, 0.15, seed=3, groups=groups, stratify=labels)),
        "folds": digest([val for _, val in many.folds(4, stratify=labels)]),
        "folds of groups": digest(
            [val for _, val in many.folds(4, seed=2**40, stratify=labels, groups=groups)]
        ),
    }
    assert found == PINNED


def test_folds_are_as_even_as_those_of_scikit_learn(many: Dataset) -> None:
    from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

    random = np.random.RandomState(0)
    for case in range(20):
        groups = np.repeat(np.arange(20), random.randint(1, 8, 20))[:80]
        labels = (random.random_sample(len(groups)) < random.random_sample(20)[groups]).astype(int)
        dataset = many[: len(groups)]
        for stratify, theirs in ((None, GroupKFold(4)), (labels, StratifiedGroupKFold(4))):
            folds = dataset.folds(4, seed=case, groups=groups, stratify=stratify)
            ours = [(train.row_numbers, val.row_numbers) for train, val in folds]
            spread, share = [], []
            for each in (ours, [*theirs.split(groups, labels, groups)]):
                for train, val in each:
                    assert not {*groups[train]} & {*groups[val]}
                assert sorted(np.concatenate([val for _, val in each])) == [*range(len(groups))]
                spread.append(np.ptp([len(val) for _, val in each]))
                share.append(np.ptp([labels[val].sum() for _, val in each]))
            if stratify is None:
                assert spread[0] <= spread[1] + 1
            else:
                assert spread[0] + share[0] <= spread[1] + share[1] + 4
