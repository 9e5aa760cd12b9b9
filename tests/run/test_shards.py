from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from limbo_compress.run.shards import split

workers = st.integers(1, 100)


@given(st.integers(0, 5000), workers)
def test_shards_cover_each_row_once_in_order(rows: int, workers: int) -> None:
    shards = split([range(rows)], workers)
    assert [row for shard in shards for row in shard] == list(range(rows))


@given(st.lists(st.integers(1, 30), max_size=10), workers)
def test_shards_cover_the_missing_rows_only(lengths: list[int], workers: int) -> None:
    missing, at = [], 0
    for length in lengths:
        missing.append(range(at, at + length))
        at += length + 3
    done = [row for shard in split(missing, workers) for row in shard]
    assert done == [row for rows in missing for row in rows]


@given(st.integers(1, 10**4), workers)
def test_shards_are_bounded_and_never_grow(samples: int, workers: int) -> None:
    sizes = [len(shard) for shard in split([range(samples)], workers)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] == 1
    assert sizes[0] <= 32


def test_a_small_job_has_a_shard_for_each_worker() -> None:
    assert len(split([range(64)], 64)) == 64


def test_a_large_job_has_few_shards() -> None:
    assert len(split([range(100_000)], 2)) < 3200
