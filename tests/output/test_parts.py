from __future__ import annotations

from pathlib import Path

import pytest

from limbo_compress.errors import OutputError
from limbo_compress.output.parts import CopyRange, Part, SampleIssue, read_parts, write_part


@pytest.fixture
def copy_range(tmp_path: Path) -> CopyRange:
    part = Part(3, 5, metadata_bytes=4)
    write_part(str(tmp_path), part, b"abcd")
    (tmp_path / "all").write_bytes(b"0123456789")
    return CopyRange(part.path(str(tmp_path)), str(tmp_path / "all"), 2, 4)


def test_parts_are_read_back_in_row_order(tmp_path: Path) -> None:
    parts = [
        Part(0, 2, checksums={"images": 7}, failures=(SampleIssue(1, "x.json", "bad"),)),
        Part(2, 5),
    ]
    for part in reversed(parts):
        write_part(str(tmp_path), part)
    assert list(read_parts(str(tmp_path))) == parts


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
