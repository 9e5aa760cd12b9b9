"""Which rows the commands take."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbo_compress import InputError, UsageError, choose_rows, load

ends = st.none() | st.integers(-20, 20)


def test_all_rows_without_conditions(prefix: Path) -> None:
    chosen = choose_rows(load([prefix, prefix]))
    assert chosen.row_numbers.tolist() == list(range(24))
    assert len(chosen) == 24


@given(ends, ends, st.none() | st.integers(1, 5))
def test_rows_are_those_of_a_slice_in_python(
    prefix: Path, start: int | None, stop: int | None, step: int | None
) -> None:
    texts = ["" if number is None else str(number) for number in (start, stop, step)]
    expected = list(range(12))[start:stop:step]
    for text in {":".join(texts), ":".join(texts if step else texts[:2])}:
        if expected:
            chosen = choose_rows(load(prefix), rows=text)
            assert chosen.row_numbers.tolist() == expected
            paths = load(prefix).paths
            assert list(chosen.paths) == [paths[row] for row in expected]
        else:
            with pytest.raises(InputError, match="none of the 12 rows"):
                choose_rows(load(prefix), rows=text)


@pytest.mark.parametrize(("text", "row"), [("0", 0), ("11", 11), ("-1", 11), ("-12", 0)])
def test_a_single_row(prefix: Path, text: str, row: int) -> None:
    assert choose_rows(load(prefix), rows=text).row_numbers.tolist() == [row]


@pytest.mark.parametrize(
    "text", ["12", "-13", "a", "", "1:2:3:4", "1.5", "::0", "::-1", "9" * 5000, "1,2", "²"]
)
def test_rows_that_make_no_sense(prefix: Path, text: str) -> None:
    with pytest.raises(UsageError) as caught:
        choose_rows(load(prefix), rows=text)
    assert len(str(caught.value)) < 200


def test_categories_by_regular_expressions(prefix: Path) -> None:
    categories = list(load(prefix).categories)
    for pattern, wanted in {"^48[GX]": {"48G", "48X"}, "real": {"real"}}.items():
        expected = [row for row, found in enumerate(categories) if wanted & found]
        others = sorted(set(range(12)) - set(expected))
        assert expected
        assert others
        assert choose_rows(load(prefix), [pattern]).row_numbers.tolist() == expected
        assert choose_rows(load(prefix), [f"!{pattern}"]).row_numbers.tolist() == others
    both = choose_rows(load(prefix), ["30B", "!48G"], rows="2:").row_numbers.tolist()
    assert both == [
        row
        for row, found in enumerate(categories)
        if row > 1 and any("30B" in name for name in found) and "48G" not in found
    ]
    with pytest.raises(UsageError, match=r"'\(' is not a regular expression"):
        choose_rows(load(prefix), ["("])


def test_a_sample_depends_on_its_seed_only(prefix: Path) -> None:
    first = choose_rows(load(prefix), sample=5, seed=3).row_numbers
    np.testing.assert_array_equal(first, choose_rows(load(prefix), sample=5, seed=3).row_numbers)
    assert len(set(first.tolist())) == 5
    assert first.tolist() == sorted(first.tolist())
    assert (
        len(
            {tuple(choose_rows(load(prefix), sample=5, seed=seed).row_numbers) for seed in range(9)}
        )
        > 1
    )
    assert choose_rows(load(prefix), sample=99).row_numbers.tolist() == list(range(12))
    assert set(choose_rows(load(prefix), rows="3:7", sample=2).row_numbers) <= {3, 4, 5, 6}
    for count, seed in ((0, 0), (1, -1)):
        with pytest.raises(UsageError, match="sample"):
            choose_rows(load(prefix), sample=count, seed=seed)
