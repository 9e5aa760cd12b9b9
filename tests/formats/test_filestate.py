from __future__ import annotations

import os
from pathlib import Path

import pytest

from limbo_compress.formats.filestate import FileState

SECOND = 10**9
READ = 1_700_000_001 * SECOND  # an odd second


@pytest.mark.parametrize(
    ("read", "now", "holds"),
    [
        (READ + 123_456_789, READ + 123_456_789, True),
        (READ + 123_456_789, READ + 123_456_700, True),  # a network filesystem rounds
        (READ + 123_456_789, READ, True),  # the fraction is lost, as on ext3
        (READ + 123_456_789, READ - SECOND, True),  # and the odd second, as on vfat
        (READ, READ + 123_456_789, True),
        (READ + 123_456_789, READ + 2 * SECOND, False),
        (READ, READ + SECOND, False),
        (READ + 123_456_789, READ + 623_456_789, False),
    ],
)
def test_a_file_is_as_it_was_if_its_time_is_the_same_but_for_rounding(
    tmp_path: Path, read: int, now: int, holds: bool
) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(b"abc")
    os.utime(path, ns=(now, now))
    assert FileState("image.png", 3, read, 0).holds(str(tmp_path)) is holds
    assert not FileState("image.png", 4, now, 0).holds(str(tmp_path))


def test_a_file_that_is_gone_is_not_as_it_was(tmp_path: Path) -> None:
    assert not FileState("image.png", 0, 0, 0).holds(str(tmp_path))
