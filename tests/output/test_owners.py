"""Work folders and links of other users: refused where anyone may write, used elsewhere."""

from __future__ import annotations

import json
import os
import shutil
import stat
import struct
import subprocess
import zlib
from pathlib import Path

import pytest

from limbo_compress import compress
from limbo_compress.formats.shard_record import ShardRecord, read_shard_records, write_shard_record
from tests import jobs
from tests.output.users import DAEMON, NOBODY, give, needs_root, run_as


def is_refused(done: subprocess.CompletedProcess[str], *texts: str) -> None:
    assert done.returncode == 1, done.stderr
    (line,) = done.stderr.splitlines()
    assert all(text in line for text in texts), line


def plant_work(shared: Path, user: int) -> Path:
    """Let a user leave unfinished work, whose shard records he has forged."""
    stop_before_publication(shared)
    folder, place = shared / "out" / ".test.partial", str(jobs.work_in(shared / "out", "test"))
    for part in list(read_shard_records(place)):
        write_shard_record(place, part, b"\x94" * part.metadata_bytes)
    folder.chmod(0o777)
    give(folder, user)
    return folder


def stop_before_publication(shared: Path) -> None:
    """Leave a work folder in which all samples are done."""
    change = {"prefix": str(shared / "out" / "test"), "images": False, "image_size": (224, 224)}
    jobs.stop_after(3, jobs.job(shared / "data", shared / "out", **change))


@needs_root
@pytest.mark.parametrize("user", [0, NOBODY])
def test_foreign_work_is_refused_where_anyone_may_write(shared: Path, user: int) -> None:
    folder = plant_work(shared, DAEMON)
    before = jobs.files(shared / "out")
    is_refused(
        run_as(user, shared), "unfinished work of the user daemon", "choose another --prefix"
    )
    assert jobs.files(shared / "out") == before
    shutil.rmtree(folder)
    assert run_as(user, shared).returncode == 0


@needs_root
def test_an_empty_foreign_work_folder_is_refused_too(shared: Path) -> None:
    """Its owner could fill it later."""
    folder = shared / "out" / ".test.partial"
    folder.mkdir()
    folder.chmod(0o777)
    os.chown(folder, DAEMON, DAEMON)
    is_refused(run_as(NOBODY, shared), "unfinished work of the user daemon")
    assert os.listdir(folder) == []


@needs_root
def test_an_own_work_folder_to_which_others_could_write_is_refused(shared: Path) -> None:
    folder = plant_work(shared, NOBODY)
    is_refused(run_as(NOBODY, shared), "others may have written to this work folder", "remove it")
    shutil.rmtree(folder)


@needs_root
def test_own_work_is_private_where_anyone_may_write_and_is_resumed(shared: Path) -> None:
    foreign = shared / "out" / "test-metadata.pickle"
    foreign.write_bytes(b"of root")
    assert run_as(NOBODY, shared).returncode == 1  # the folder is sticky
    folder = shared / "out" / ".test.partial"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert folder.stat().st_uid == NOBODY
    foreign.unlink()
    done = run_as(NOBODY, shared)
    assert done.returncode == 0
    assert "resuming: 3 of 3 samples" in done.stderr


@needs_root
def test_a_foreign_link_in_the_place_of_an_output_is_refused(shared: Path) -> None:
    precious = shared / "precious"
    precious.write_bytes(b"of nobody")
    give(precious, NOBODY)
    link = shared / "out" / "test-metadata.pickle"
    link.symlink_to(precious)
    os.chown(link, DAEMON, DAEMON, follow_symlinks=False)
    is_refused(run_as(NOBODY, shared), "a link of the user daemon", "test-metadata.pickle")
    assert precious.read_bytes() == b"of nobody"


@needs_root
def test_a_foreign_link_behind_an_own_one_is_refused(shared: Path) -> None:
    (shared / "precious").mkdir()
    give(shared / "precious", NOBODY)
    foreign, own = shared / "out" / "foreign", shared / "out" / "test-metadata.pickle"
    foreign.symlink_to(shared / "precious" / "file")
    own.symlink_to(foreign)
    os.chown(foreign, DAEMON, DAEMON, follow_symlinks=False)
    os.chown(own, NOBODY, NOBODY, follow_symlinks=False)
    is_refused(run_as(NOBODY, shared), "a link of the user daemon", "out/foreign")
    assert os.listdir(shared / "precious") == []


@needs_root
def test_an_own_link_is_followed(shared: Path) -> None:
    (shared / "elsewhere").mkdir()
    give(shared / "elsewhere", NOBODY)
    own = shared / "out" / "test-metadata.pickle"
    own.symlink_to(shared / "elsewhere" / "file")
    os.chown(own, NOBODY, NOBODY, follow_symlinks=False)
    assert run_as(NOBODY, shared).returncode == 0
    assert os.listdir(shared / "elsewhere") == ["file"]


@needs_root
def test_a_work_folder_planted_beside_the_end_of_a_link_is_refused(shared: Path) -> None:
    """Unfinished outputs are next to the file to which a link leads; the plan says where."""
    from limbo_compress.plan import plan

    (shared / "mine").mkdir()
    give(shared / "mine", NOBODY)
    (shared / "mine" / "test-metadata.pickle").symlink_to(shared / "out" / "real")
    os.chown(shared / "mine" / "test-metadata.pickle", NOBODY, NOBODY, follow_symlinks=False)
    prefix = str(shared / "mine" / "test")
    job = plan(jobs.job(shared / "data", shared, images=False, prefix=prefix), 3)
    (planted,) = job.linked_roots
    precious = shared / "precious"
    precious.mkdir()
    (precious / "file").touch()
    give(precious, NOBODY)
    os.symlink(precious, planted)
    done = run_as(NOBODY, shared, "--prefix", prefix)
    is_refused(done, planted)
    assert os.listdir(precious) == ["file"]


@needs_root
def test_a_colleague_of_the_group_resumes(shared: Path) -> None:
    (shared / "out").chmod(0o2775)
    os.chown(shared / "out", DAEMON, NOBODY)
    stop_before_publication(shared)
    give(shared / "out" / ".test.partial", DAEMON)
    for path in (shared / "out" / ".test.partial").rglob("*"):
        path.chmod(0o775 if path.is_dir() else 0o664)
        os.chown(path, DAEMON, NOBODY)
    (shared / "out" / ".test.partial").chmod(0o775)
    os.chown(shared / "out" / ".test.partial", DAEMON, NOBODY)
    done = run_as(2, shared, group=NOBODY)
    assert done.returncode == 0, done.stderr
    assert "resuming: 3 of 3 samples" in done.stderr


@needs_root
@pytest.mark.parametrize(
    ("tag", "number", "is_open"),
    [(0x02, DAEMON, True), (0x02, NOBODY, False), (0x08, DAEMON, True), (0x08, NOBODY, False)],
    ids=["user", "own user", "group", "own group"],
)
def test_an_access_list_may_let_others_write(
    shared: Path, tag: int, number: int, is_open: bool
) -> None:
    entries = sorted([(0x01, 7, -1), (tag, 7, number), (0x04, 7, -1), (0x10, 7, -1), (0x20, 5, -1)])
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
    (shared / "out").chmod(0o775)
    give(shared / "out", NOBODY)
    try:
        os.setxattr(shared / "out", "system.posix_acl_access", acl)
    except OSError:
        pytest.skip("this filesystem has no access lists")
    folder = shared / "out" / ".test.partial"
    folder.mkdir(0o777)
    folder.chmod(0o777)
    os.chown(folder, DAEMON, DAEMON)
    done = run_as(NOBODY, shared)
    if is_open:
        is_refused(done, "unfinished work of the user daemon")
    else:
        assert done.returncode == 0, done.stderr


@needs_root
def test_a_mount_that_gives_all_to_one_user_is_used_by_everyone(shared: Path) -> None:
    """As `uid=` and root squashing do: there, owners tell nothing apart."""
    if shutil.which("bindfs") is None:
        pytest.skip("bindfs is not installed")
    out = shared / "out"
    mount = ("bindfs", "--force-user=daemon", "--perms=a+rwX", out, out)
    if jobs.run(*mount).returncode:
        pytest.skip("mounting is not possible here")
    try:
        for _ in range(2):
            done = run_as(NOBODY, shared)
            assert done.returncode == 0, done.stderr
    finally:
        jobs.run("umount", out, check=True)


@pytest.mark.parametrize("run", ["../../elsewhere", "x/../rows-000000000-000000012-x", "", 7, []])
def test_a_part_whose_run_is_no_plain_name_is_ignored(
    campaign: Path, tmp_path: Path, run: object
) -> None:
    jobs.stop_after(3, jobs.job(campaign, tmp_path))
    folder = str(jobs.work_in(tmp_path))
    before = list(read_shard_records(folder))
    write_shard_record(folder, ShardRecord(0, 12, "x"))
    path = Path(ShardRecord(0, 12, "x").path(folder))
    record = json.dumps(vars(ShardRecord(0, 12, "x")) | {"run": run}).encode()
    path.write_bytes(b"%08x %b\n" % (zlib.crc32(record), record))
    assert list(read_shard_records(folder)) == before
    report = compress(jobs.job(campaign, tmp_path))
    assert (report.samples, report.resumed) == (12, sum(p.stop - p.start for p in before))
