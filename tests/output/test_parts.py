from __future__ import annotations

from pathlib import Path

import pytest

from limbo_compress.errors import OutputError
from limbo_compress.output.parts import CopyRange, Part, SampleIssue, read_parts, write_part


@pytest.fixture
def join(tmp_path: Path) -> CopyRange:
    part = Part(3, 5, metadata_bytes=4)
    write_part(str(tmp_path), part, b"abcd")
    (tmp_path / "all").write_bytes(b"0123456789")
    return CopyRange(part.path(str(tmp_path)), str(tmp_path / "all"), 2, 4)


def test_parts_are_read_back_in_the_order_of_their_rows(tmp_path: Path) -> None:
    parts = [
        Part(0, 2, checksums={"images": 7}, failures=(SampleIssue(1, "x.json", "bad"),)),
        Part(2, 5),
    ]
    for part in reversed(parts):
        write_part(str(tmp_path), part)
    assert list(read_parts(str(tmp_path))) == parts


def test_a_join_copies_to_its_place_once_or_twice(join: CopyRange) -> None:
    for _ in range(2):
        join.copy()
        assert Path(join.target).read_bytes() == b"01abcd6789"


@pytest.mark.parametrize("found", [b"abc", b""])
def test_a_part_that_became_shorter_is_an_error(join: CopyRange, found: bytes) -> None:
    Path(join.source).write_bytes(found)
    with pytest.raises(OutputError, match="shorter than what was written") as caught:
        join.copy()
    assert caught.value.path == join.source
