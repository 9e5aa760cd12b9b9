"""Space for the outputs: reserved where the filesystem can, and what is missing is named."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from limbo_compress import Options, OutputError, compress
from limbo_compress.options import WriteRows
from limbo_compress.output.allocate import create_files, is_there, open_files
from limbo_compress.plan import Job, plan
from tests import jobs
from tests.jobs import outputs

Mount = Callable[..., Path]


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mount]:
    """Mounts a small filesystem that lives in memory, where that is allowed."""
    mounted: list[Path] = []

    def mount_one(options: str, kind: str = "tmpfs") -> Path:
        folder = tmp_path / f"disk-{len(mounted)}"
        folder.mkdir()
        command = ("mount", "-t", kind, "-o", options, kind, folder)
        if os.geteuid() or jobs.run(*command).returncode:
            pytest.skip("mounting is not possible here")
        mounted.append(folder)
        return folder

    yield mount_one
    for folder in mounted:
        jobs.run("umount", folder, check=True)


def created(folder: Path, how: WriteRows = "auto") -> Job:
    """Create the files of a job in a folder."""
    options = Options((str(folder),), str(folder / "out"), images=True, write_rows=how)
    job = plan(options, 10)
    Path(job.folder).mkdir(parents=True)
    create_files(job)
    return opened(job)


def opened(job: Job) -> Job:
    """Open the files of a job, as they are while it runs, and close them."""
    files: dict[str, int] = {}
    job = open_files(job, files)
    for file in files.values():
        os.close(file)
    return job


@pytest.mark.parametrize("how", ["mmap", "pwrite"])
def test_rows_are_written_as_asked(tmp_path: Path, how: WriteRows) -> None:
    assert ("images" in created(tmp_path, how).mapped) == (how == "mmap")


def test_rows_are_mapped_where_space_is_reserved(mount: Mount) -> None:
    job = created(mount("size=64m"))
    (array,) = job.arrays
    assert job.mapped == {"images"}
    assert os.stat(job.work_path("images.npy")).st_blocks * 512 >= array.file_bytes


def test_rows_are_not_mapped_where_space_cannot_be_reserved(mount: Mount) -> None:
    job = created(mount("rw", "ramfs"))
    (array,) = job.arrays
    assert job.mapped == frozenset()
    assert os.path.getsize(job.work_path("images.npy")) == array.file_bytes


def test_files_of_an_earlier_run_are_kept(tmp_path: Path) -> None:
    job = created(tmp_path)
    with open(job.work_path("images.npy"), "r+b") as stream:
        stream.seek(1000)
        stream.write(b"a row")
    content = Path(job.work_path("images.npy")).read_bytes()
    assert opened(replace(job, mapped=frozenset())).mapped == job.mapped
    assert Path(job.work_path("images.npy")).read_bytes() == content


@pytest.mark.parametrize("size", [0, 10, 1 << 20])
def test_files_of_another_size_are_not_those_of_an_earlier_run(tmp_path: Path, size: int) -> None:
    job = created(tmp_path)
    (array,) = job.arrays
    assert is_there(job, array)
    Path(job.work_path("images.npy")).write_bytes(b"x" * size)
    assert not is_there(job, array)


def test_the_space_is_counted_on_the_filesystem_of_each_output(
    campaign: Path, tmp_path: Path, mount: Mount
) -> None:
    disk = mount("size=64k")
    options = jobs.job(campaign, tmp_path, image_size=(64, 48))
    (tmp_path / "out-images.npy").symlink_to(disk / "real")
    with pytest.raises(OutputError, match="not enough space: 221,312 bytes needed") as caught:
        compress(options)
    assert caught.value.path == str(disk)
    assert os.listdir(disk) == []
    assert os.listdir(tmp_path / "disk-0") == []
    jobs.run("mount", "-o", "remount,size=1m", disk, check=True)
    compress(options)
    assert os.listdir(disk) == ["real"]


def test_missing_inodes_are_named(campaign: Path, mount: Mount) -> None:
    disk = mount("size=64m,nr_inodes=6")
    with pytest.raises(OutputError, match="no inodes are left"):
        compress(jobs.job(campaign, disk))
    assert outputs(disk) == {}


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_limit_on_file_sizes_is_named_before_the_work(campaign: Path, tmp_path: Path) -> None:
    def progress(done: int, total: int) -> None:
        raise AssertionError("work has begun")

    with (
        file_size_limit(20_000),
        pytest.raises(OutputError, match=r"File too large \(ulimit -f allows 20,000 bytes\)"),
    ):
        compress(jobs.job(campaign, tmp_path), progress)
    assert os.listdir(tmp_path) == []
    compress(jobs.job(campaign, tmp_path))
    assert outputs(tmp_path).keys() == {"images.npy", "metadata.pickle"}
