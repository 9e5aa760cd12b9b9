from __future__ import annotations

import mmap
import os
import shutil
from pathlib import Path

import pytest

from limbo_compress.output.filesystem import (
    free_bytes,
    is_safe_to_map,
    is_written_elsewhere,
    lock_for_writing,
    reserve,
)


@pytest.mark.parametrize(
    ("kind", "safe"),
    [("ext4", True), ("xfs", True), ("tmpfs", True), ("nfs4", False), ("fuse.sshfs", False),
     ("fuseblk", False), ("cifs", False), ("lustre", False), ("dvs", False), ("wekafs", False)],
)  # fmt: skip
def test_only_local_filesystems_are_safe_to_map(tmp_path: Path, kind: str, safe: bool) -> None:
    folder = tmp_path / "a b"
    folder.mkdir()
    mounts = tmp_path / "mounts"
    point = str(folder).replace(" ", "\\040")
    mounts.write_text(
        f"root / ext4 rw 0 0\nserver:/x {point} {kind} rw 0 0\nx {point}c nfs rw 0 0\n"
    )
    assert is_safe_to_map(str(folder), str(mounts)) is safe
    assert is_safe_to_map(str(tmp_path), str(mounts))
    assert is_safe_to_map(str(folder), str(tmp_path / "no such table"))


def test_reserved_space_is_allocated(tmp_path: Path) -> None:
    with open(tmp_path / "file", "w+b") as stream:
        stream.write(b"header")
        stream.flush()
        is_reserved = reserve(stream.fileno(), 1 << 20)
    status = (tmp_path / "file").stat()
    assert status.st_size == 1 << 20
    assert (status.st_blocks * 512 >= 1 << 20) == is_reserved
    assert (tmp_path / "file").read_bytes() == b"header".ljust(1 << 20, b"\0")


def test_a_filesystem_without_a_size_does_not_count_as_full() -> None:
    assert free_bytes("/proc") is None
    assert free_bytes("/no such folder") is None
    assert free_bytes(os.getcwd()) == shutil.disk_usage(os.getcwd()).free


def test_who_writes_a_file_is_seen_until_its_mapping_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(1 << 16))
    with open(path, "rb") as ours:
        assert not is_written_elsewhere(ours.fileno())
        with open(path, "r+b") as stream:
            assert lock_for_writing(stream.fileno())
            assert is_written_elsewhere(ours.fileno())
            mapping = mmap.mmap(stream.fileno(), 0)
        assert is_written_elsewhere(ours.fileno()), "the mapping is still there"
        mapping.close()
        assert not is_written_elsewhere(ours.fileno())
