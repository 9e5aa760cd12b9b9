from __future__ import annotations

from pathlib import Path

import pytest

from limbo_compress.output.filesystem import is_safe_to_map


@pytest.mark.parametrize(
    ("kind", "safe"),
    [("ext4", True), ("xfs", True), ("tmpfs", True), ("nfs4", False), ("fuse.sshfs", False),
     ("fuseblk", False), ("cifs", False), ("lustre", False)],
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
