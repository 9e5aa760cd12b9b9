"""What earlier versions and the reference wrote (tests/frozen/README.md)."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import socket
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from pyarrow.parquet import read_table

from limbo_compress import EXPORT_FORMATS, export_dataset, load
from tests.frozen.record import FLAGS, MASKS, SOURCE, checksums
from tests.jobs import Command, error_line, files, outputs, run, script

FROZEN = Path(__file__).parent / "frozen"
# The number of rows and of boxes of each prefix.
OURS = {
    "0.1.0/out": (5, 6),
    "0.1.0/stripped": (5, 0),
    "index-2/out": (5, 6),
    "index-2/stripped": (5, 0),
    "index-2-facts/out": (5, 6),
    "index-2-facts/stripped": (5, 0),
}
REFERENCE = {"limbo-ml-0.4.0/out": (12, 23)}
WITHOUT_IMAGES = ["limbo-ml-0.4.0/stripped"]
UNFINISHED = ["0.1.0"]
# Their paths, which other systems do not have, lead to the samples from wherever they are.
has_proc = pytest.mark.skipif(not os.path.isdir("/proc/self/cwd"), reason="there is no /proc")


def run_script(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run one of the other commands where the frozen files are."""
    return run(script(name), *arguments, "--quiet", cwd=FROZEN)


def test_no_frozen_file_has_changed() -> None:
    assert checksums() == (FROZEN / "SHA256SUMS").read_text()


@pytest.mark.parametrize("prefix", [*OURS, *REFERENCE, *WITHOUT_IMAGES])
def test_frozen_outputs_load(prefix: str) -> None:
    dataset = load(FROZEN / prefix)
    metadata = (FROZEN / f"{prefix}-metadata.pickle").read_bytes()
    assert dataset.metadata is not None
    assert list(dataset.metadata) == pickle.loads(metadata)
    name = Path(prefix).name
    arrays = {path.name: np.load(path) for path in FROZEN.glob(f"{prefix}-*.npy")}
    images = arrays.pop(f"{name}-images.npy", None)
    if images is not None:
        np.testing.assert_array_equal(dataset.images, images, strict=True)
    assert {f"{name}-masks-{mask}.npy" for mask in dataset.masks} == set(arrays)
    for mask, found in dataset.masks.items():
        np.testing.assert_array_equal(found, arrays[f"{name}-masks-{mask}.npy"], strict=True)


@has_proc
@pytest.mark.parametrize("prefix", OURS)
def test_frozen_outputs_are_as_their_sources(prefix: str) -> None:
    done = run_script("limbo-inspect", prefix, "--verify", "all")
    assert done.returncode == 0, done.stderr
    assert f"{OURS[prefix][0]} are the same, 0 differ, 0 are gone" in done.stdout


def test_outputs_of_the_reference_do_not_say_what_their_sources_are() -> None:
    done = run_script("limbo-inspect", *REFERENCE, "--verify")
    assert "it does not say the paths of its samples" in error_line(done)


@pytest.mark.parametrize("prefix", [*OURS, *REFERENCE, *WITHOUT_IMAGES])
def test_frozen_outputs_have_a_summary(prefix: str) -> None:
    done = run_script("limbo-inspect", prefix, "--json")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)["summary"]
    assert (summary["total"], summary["damaged"]) == (len(load(FROZEN / prefix)), {})


@pytest.mark.parametrize("to", EXPORT_FORMATS)
@pytest.mark.parametrize("prefix", [*OURS, *REFERENCE])
def test_frozen_outputs_are_exported(tmp_path: Path, prefix: str, to: str) -> None:
    out = tmp_path / "exported"
    export_dataset(load(FROZEN / prefix), to, out, workers=1)
    rows, boxes = (OURS | REFERENCE)[prefix]
    if to == "coco":
        found = json.loads((out / "annotations" / "instances_default.json").read_text())
        assert (len(found["images"]), len(found["annotations"])) == (rows, boxes)
    elif to == "parquet":
        found = read_table(out / "annotations.parquet").to_pylist()
        assert sum(None not in (line["x"], line["category"]) for line in found) == boxes
    elif to == "webdataset":
        with tarfile.open(out / "shard-000000.tar") as shard:
            assert sum(name.endswith(".png") for name in shard.getnames()) == rows
    else:
        assert sum(path.suffix == ".png" for path in out.rglob("*")) == rows
        labels = [path.read_text() for path in (out / "labels").rglob("*.txt")]
        assert sum(text.count("\n") for text in labels) == (boxes if "yolo" in to else 0)


@pytest.mark.parametrize("name", ["out", "stripped"])
def test_every_kind_of_index_gives_the_same_table(name: str) -> None:
    new = load(FROZEN / "index-2-facts" / name)
    for version in ("0.1.0", "index-2"):
        old = load(FROZEN / version / name)
        assert old.columns == new.columns
        for column, values in new.table().items():
            np.testing.assert_array_equal(old.table([column])[column], values, strict=True)
    assert sum(new.has_matte) == 3


@has_proc
@pytest.mark.parametrize(
    "prefix", [prefix for prefix in (*OURS, *REFERENCE) if not prefix.startswith("index-2-")]
)
def test_frozen_outputs_grow_by_a_full_run(tmp_path: Path, prefix: str) -> None:
    for path in FROZEN.glob(f"{prefix}-*"):
        shutil.copy(path, tmp_path / path.name.replace(Path(prefix).name, "out", 1))
    shutil.copytree(FROZEN / "samples", tmp_path / "samples")
    command = (sys.executable, "-m", "limbo_compress", "--prefix")
    whole = run(*command, "whole", *FLAGS, *MASKS, "--", SOURCE, cwd=tmp_path)
    done = run(*command, "out", *FLAGS, *MASKS, "--", SOURCE, cwd=tmp_path)
    assert (whole.returncode, done.returncode) == (0, 0), whole.stderr + done.stderr
    is_newer = prefix.startswith("index-2")
    reason = "have no table of samples" if is_newer else "do not say how they were made"
    assert f"so all samples are done: they {reason}" in done.stderr
    assert "nothing can be copied" not in whole.stderr
    assert "copied" not in done.stdout
    assert outputs(tmp_path) == outputs(tmp_path, "whole")


@pytest.fixture(params=UNFINISHED)
def work(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The work folder of an older version whose run died long ago, next to its samples."""
    shutil.copytree(FROZEN / "samples", tmp_path / "samples")
    folder = Path(shutil.copytree(FROZEN / request.param / "unfinished", tmp_path / ".out.partial"))
    os.utime(lock_of(folder), (0, 0))
    return folder


def lock_of(work: Path) -> Path:
    (lock,) = (work / "lock").iterdir()
    return lock


# The command that the run had been given.
COMMAND = ("--prefix", "out", "--wait", "0", *FLAGS, *MASKS)


@has_proc
@pytest.mark.parametrize("flags", [(), ("--partition", "0/2")])
def test_unfinished_work_of_an_older_version_is_refused(
    work: Path, command: Command, flags: tuple[str, ...]
) -> None:
    before = files(work)
    line = error_line(command(*COMMAND, *flags, "--", SOURCE), 2)
    assert f"{work}: unfinished work of an older version" in line
    assert "`format`" not in line
    # Both ways out; a partition must not discard what others did.
    assert "finish it with that version" in line
    assert "--fresh" in line
    assert outputs(work.parent) == {}
    kept = files(work)
    assert {name: kept[name] for name in before if not name.startswith("lock/")} == {
        name: content for name, content in before.items() if not name.startswith("lock/")
    }


@has_proc
def test_fresh_starts_over_where_an_older_version_was_at_work(work: Path, command: Command) -> None:
    done = command(*COMMAND, "--fresh", "--", SOURCE)
    assert done.returncode == 0, done.stderr
    assert "already done" not in done.stderr
    assert not work.exists()
    assert len(load(work.parent / "out")) == OURS["0.1.0/out"][0]


@has_proc
def test_the_status_does_not_hide_the_work_of_an_older_version(
    work: Path, command: Command
) -> None:
    before = files(work)
    done = command("--status", "--prefix", "out")
    assert (done.stdout + done.stderr).startswith(("limbo-compress: ", str(work)))
    assert "there is no unfinished work" not in done.stdout
    assert files(work) == before


@has_proc
@pytest.mark.parametrize("flags", [(), ("--fresh",), ("--partition", "0/2")])
@pytest.mark.parametrize("place", ["here", "elsewhere"])
def test_a_living_run_of_an_older_version_keeps_others_out(
    work: Path, command: Command, place: str, flags: tuple[str, ...]
) -> None:
    lock = lock_of(work)
    if place == "here":
        stat = Path("/proc/self/stat").read_text()
        living = {
            "host": socket.gethostname(),
            "boot": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
            "namespace": os.readlink("/proc/self/ns/pid"),
            "pid": os.getpid(),
            "started": stat.rpartition(")")[2].split()[19],
        }
        lock.write_text(json.dumps(json.loads(lock.read_text()) | living))
    else:
        os.utime(lock)
    before = files(work)
    line = error_line(command(*COMMAND, *flags, "--", SOURCE))
    holder = json.loads(lock.read_text())
    who = f"process {holder['pid']} on {holder['host']}"
    verb, way_out = ("is", "wait for it") if place == "here" else ("may be", "set --wait to 60")
    assert f"another run {verb} at work on this prefix: {who}; {way_out}" in line
    assert files(work) == before
    assert outputs(work.parent) == {}
