from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from limbo_compress.shards import shard_size, split


@given(st.integers(0, 5000), st.integers(1, 100))
def test_shards_cover_each_row_once_in_order(rows: int, size: int) -> None:
    shards = split([range(rows)], size)
    assert [row for shard in shards for row in shard] == list(range(rows))
    assert all(0 < len(shard) <= size for shard in shards)


@given(st.lists(st.integers(1, 30), max_size=10), st.integers(1, 7))
def test_shards_cover_the_gaps_only(lengths: list[int], size: int) -> None:
    gaps, at = [], 0
    for length in lengths:
        gaps.append(range(at, at + length))
        at += length + 3
    rows = [row for shard in split(gaps, size) for row in shard]
    assert rows == [row for gap in gaps for row in gap]


@given(st.integers(1, 10**7))
def test_shard_size_is_bounded(samples: int) -> None:
    assert 1 <= shard_size(samples) <= 32
    assert shard_size(samples) <= shard_size(samples + 1)


def test_a_small_job_still_has_work_for_many_workers() -> None:
    assert len(split([range(64)], shard_size(64))) == 64
