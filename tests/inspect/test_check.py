"""Outputs against their checksums: damage of any kind is found, and nothing else."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from random import Random

import numpy as np
import pytest

from limbo_compress import check, compress, load
from tests import failing
from tests.jobs import MASKS, Command, error_line, job, run_on_terminal, script
from tests.programs.bitflips import flips

FROZEN = Path(__file__).parents[1] / "frozen"


@pytest.fixture
def copy(prefix: Path, tmp_path: Path) -> Path:
    """A copy of the outputs, which a test may change."""
    for path in prefix.parent.glob(f"{prefix.name}-*"):
        shutil.copy(path, tmp_path)
    return tmp_path / prefix.name


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 4
    path.write_bytes(content)


@pytest.mark.uniform
def test_every_flipped_bit_is_found(copy: Path) -> None:
    found = list(flips(copy, 90, Random(1)))
    assert len(found) == 90
    assert [place for place, what in found if not what] == []


def test_whole_outputs_hold(prefix: Path, inspect: Command) -> None:
    done = inspect(prefix, "--check")
    assert (done.returncode, done.stderr) == (0, "")
    size = sum(path.stat().st_size for path in prefix.parent.iterdir())
    assert done.stdout.startswith("compared 12 rows with their checksums (4 files, ")
    assert done.stdout.endswith(" bytes): all hold\n")
    report = check(load(prefix))
    assert (report.rows, report.unchecked, report.findings) == (12, {}, ())
    assert 0.8 * size < report.bytes < size


@pytest.mark.uniform
def test_rows_that_rotted_are_named(copy: Path, inspect: Command) -> None:
    images = np.load(f"{copy}-images.npy", mmap_mode="r+")
    images[7, 3, 3] += 1
    images[[2, 3]] = images[[3, 2]]
    images.flush()
    metadata = Path(f"{copy}-metadata.pickle")
    flip(metadata, metadata.read_bytes().index(b"image_0000009"))
    done = inspect(copy, "--check")
    assert done.returncode == 1
    *rows, last = done.stdout.splitlines()
    what = "it differs from its checksum"
    assert rows == [
        *(f"row {row}: {what}: {copy}-images.npy" for row in (2, 3, 7)),
        f"row 9: {what}: {metadata}",
    ]
    assert last.endswith("2 files are DAMAGED")
    assert [found.row for found in check(load(copy)[[9, 3, 3, 0]]).findings] == [3, 9]
    found = json.loads(inspect(copy, "--check", "--json", "--rows", ":4").stdout)["check"]
    assert [(each["row"], each["path"]) for each in found["findings"]] == [
        (2, f"{copy}-images.npy"),
        (3, f"{copy}-images.npy"),
    ]


@pytest.mark.uniform
def test_a_long_set_is_checked_by_many_tasks(prefix: Path) -> None:
    many = load([prefix] * 200)
    done: list[int] = []
    report = check(many, lambda rows, _: done.append(rows), workers=2)
    assert (report.rows, report.findings, done[-1]) == (2400, (), 2400)
    assert len(done) > 2


def test_rows_larger_than_a_block(data: Path, tmp_path: Path) -> None:
    compress(job(data, tmp_path, image_size=(640, 480)))
    path = tmp_path / "out-images.npy"
    assert check(load(tmp_path / "out")).findings == ()
    flip(path, path.stat().st_size - 1)
    assert [found.row for found in check(load(tmp_path / "out")).findings] == [11]


def test_what_cannot_be_read_is_no_array_of_other_metadata(copy: Path, inspect: Command) -> None:
    env = failing.fail_once(copy.parent, "-images.npy", errno.EIO, call="preadv", at=0)
    done = inspect(copy, "--check", env=env)
    assert (done.returncode, done.stderr) == (1, "")
    assert failing.happened(env)
    first, last = done.stdout.splitlines()
    assert first == f"it cannot be read: Input/output error: {copy}-images.npy"
    assert last.endswith(": 1 files are DAMAGED")


def test_an_array_of_other_metadata_is_one_line(
    data: Path, tmp_path: Path, copy: Path, inspect: Command
) -> None:
    (tmp_path / "other").mkdir()
    compress(job(data, tmp_path / "other", masks={"all": "^30", "big": "."}))
    shutil.copy(tmp_path / "other" / "out-masks-all.npy", f"{copy}-masks-all.npy")
    done = inspect(copy, "--check")
    assert done.returncode == 1
    assert f"{copy}-masks-all.npy" in done.stdout
    assert "-images.npy" not in done.stdout


def test_a_missing_array_is_a_finding(copy: Path, inspect: Command) -> None:
    os.unlink(f"{copy}-masks-big.npy")
    done = inspect(copy, "--check")
    assert done.returncode == 1
    assert done.stdout.startswith("it is missing or its header is damaged")


@pytest.mark.uniform
def test_an_array_without_checksums_is_said(data: Path, tmp_path: Path, inspect: Command) -> None:
    compress(job(data, tmp_path))
    compress(job(data, tmp_path, images=False, metadata=False, masks=MASKS))
    done = inspect("out", "--check")
    assert (done.returncode, done.stderr) == (0, "")
    for name in ("masks-all", "masks-big"):
        line = f"no checksum for {name}: the metadata were written without it"
        assert f"{line}: {tmp_path}/out-{name}.npy\n" in done.stdout
    assert "(2 files, " in done.stdout


@pytest.mark.parametrize(
    ("outputs", "said", "rows"),
    [
        ("0.1.0/out", "no checksum for images: the metadata were written by version 0.1.0", 5),
        ("limbo-ml-0.4.0/out", "no checksums: there is no index, so all of it was read", 0),
    ],
)
def test_older_outputs_say_what_cannot_be_checked(
    inspect: Command, outputs: str, said: str, rows: int
) -> None:
    done = inspect(FROZEN / outputs, "--check")
    assert (done.returncode, done.stderr) == (0, "")
    assert said in done.stdout
    assert f"compared {rows} rows with their checksums" in done.stdout


@pytest.mark.parametrize("outputs", ["0.1.0/out", "limbo-ml-0.4.0/out"])
def test_damage_of_older_metadata_is_found(tmp_path: Path, inspect: Command, outputs: str) -> None:
    metadata = tmp_path / "x-metadata.pickle"
    content = (FROZEN / f"{outputs}-metadata.pickle").read_bytes()
    metadata.write_bytes(content[: len(content) // 2] + content[len(content) // 2 + 1 :])
    done = inspect("x", "--check")
    assert done.returncode == 1
    assert str(metadata) in done.stdout + done.stderr


@pytest.mark.uniform
def test_a_flipped_magic_does_not_hide_the_index(copy: Path, inspect: Command) -> None:
    metadata = Path(f"{copy}-metadata.pickle")
    start = metadata.read_bytes().rindex(b"limboidx")
    for at in range(start, start + 8):
        flip(metadata, at)
        done = inspect(copy, "--check", "--quiet")
        assert done.returncode == 1
        assert f"its index is damaged: {metadata}\n" in done.stdout
        flip(metadata, at)
    assert inspect(copy, "--check", "--quiet").returncode == 0


def test_there_is_a_bar(prefix: Path, tmp_path: Path) -> None:
    assert "12/12" in run_on_terminal(tmp_path, script("limbo-inspect"), prefix, "--check")


def test_no_outputs(inspect: Command) -> None:
    assert "there are no outputs of this prefix" in error_line(inspect("none", "--check"))
