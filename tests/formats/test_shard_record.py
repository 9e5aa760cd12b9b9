from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from limbo_compress.errors import OutputError
from limbo_compress.formats.filestate import FileState
from limbo_compress.formats.index import Entry
from limbo_compress.formats.shard_record import (
    SampleIssue,
    ShardRecord,
    has_its_metadata,
    read_edges,
    read_shard_records,
    write_shard_record,
)
from limbo_compress.output.assemble import CopyRange
from limbo_compress.output.lock import Lock


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[str]:
    """A work folder whose lock the run "a" holds."""
    folder = str(tmp_path / "work")
    with Lock(folder, "a"):
        yield folder


def entry(fragment: bytes, *categories: str) -> Entry:
    return Entry.of(fragment, {"annotations": [{"category": name} for name in categories]})


@pytest.fixture
def copy_range(folder: str, tmp_path: Path) -> CopyRange:
    part = ShardRecord(3, 5, "a", (entry(b"a"), entry(b"bcd")))
    write_shard_record(folder, part, b"abcd")
    (tmp_path / "all").write_bytes(b"0123456789")
    return CopyRange(part.path(folder), str(tmp_path / "all"), 2, 4)


def test_parts_are_read_back_in_row_order(folder: str) -> None:
    files = ((FileState("x.json", 3, 4, 7), FileState("\udcff.png", 5, 6, 8)),)
    entries = (entry(b"abc", "30B", "\ud800"),)
    issues = (SampleIssue(1, "x.json", "bad"),)
    parts = [
        ShardRecord(0, 2, "a", entries, checksums={"images": (7,)}, failures=issues),
        ShardRecord(2, 5, "a", warnings=(SampleIssue(3, "y.json", "odd"),), files=files),
    ]
    for part in reversed(parts):
        write_shard_record(folder, part, b"abc"[: part.metadata_bytes])
    assert list(read_shard_records(folder)) == parts


@pytest.mark.parametrize("metadata", [b"abcd", b"ab", b""])
def test_a_part_with_more_or_less_metadata_than_its_entries_is_left_out(
    folder: str, metadata: bytes
) -> None:
    write_shard_record(folder, ShardRecord(0, 2, "a", (entry(b"a"), entry(b"bc"))), metadata)
    assert list(read_shard_records(folder)) == []


@pytest.mark.parametrize("time", [b"Infinity", b"NaN", b"1.5", b'"1"', b"1" + 99 * b"0"])
def test_a_part_whose_time_is_no_integer_is_left_out(folder: str, time: bytes) -> None:
    part = ShardRecord(0, 1, "a", files=((FileState("x.json", 3, -7654321, 9),),))
    write_shard_record(folder, part)
    assert list(read_shard_records(folder)) == [part]
    path = Path(part.path(folder))
    record = path.read_bytes()[9:-1].replace(b"-7654321", time)
    path.write_bytes(b"%08x %b\n" % (zlib.crc32(record), record))
    assert list(read_shard_records(folder)) == []


def test_other_metadata_than_those_of_the_entries_are_noticed(folder: str) -> None:
    part = ShardRecord(0, 2, "a", (entry(b"a"), entry(b"bc")), edge_bytes=2)
    for metadata in (b"abc", b"abx"):
        write_shard_record(folder, part, metadata, b"xy")
        assert list(read_shard_records(folder)) == [part]
        assert read_edges(folder, part) == b"xy"
        assert has_its_metadata(folder, part) == (metadata == b"abc")


def test_a_copy_may_be_repeated(copy_range: CopyRange) -> None:
    for _ in range(2):
        copy_range.copy()
        assert Path(copy_range.target).read_bytes() == b"01abcd6789"


@pytest.mark.parametrize("found", [b"abc", b""])
def test_a_truncated_part_file_is_an_error(copy_range: CopyRange, found: bytes) -> None:
    Path(copy_range.source).write_bytes(found)
    with pytest.raises(OutputError, match="shorter than what was written") as caught:
        copy_range.copy()
    assert caught.value.path == copy_range.source
