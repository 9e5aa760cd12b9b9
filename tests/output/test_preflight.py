"""Outputs whose names are links, and names that cannot be given: known before any work."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from limbo_compress import Options, OutputError, compress
from tests import jobs
from tests.jobs import outputs
from tests.output.users import NOBODY, needs_root, run_as

NAMES = ("images.npy", "masks-m.npy", "metadata.pickle")


def job(campaign: Path, folder: Path, **change: Any) -> Options:
    return jobs.job(campaign, folder, **{"masks": (("m", "."),)} | change)


def run(campaign: Path, folder: Path, **change: Any) -> int:
    """Run a job with masks, and return how many samples were resumed."""
    return compress(job(campaign, folder, **change)).resumed


def is_refused(campaign: Path, folder: Path, problem: str, **change: Any) -> OutputError:
    """Check that a job is refused before its first sample, and that nothing is changed."""
    before = sorted(os.listdir(folder))

    def progress(done: int, total: int) -> None:
        raise AssertionError("work has begun")

    with pytest.raises(OutputError, match=problem) as caught:
        compress(job(campaign, folder, **change), progress)
    assert sorted(os.listdir(folder)) == before
    return caught.value


@pytest.fixture(scope="module")
def expected(campaign: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("expected")
    run(campaign, folder)
    return outputs(folder)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A folder on another filesystem, where there is one."""
    shm = "/dev/shm" if os.access("/dev/shm", os.W_OK) else tmp_path
    with tempfile.TemporaryDirectory(dir=shm) as folder:
        yield Path(folder)


@pytest.mark.parametrize("is_dangling", [True, False], ids=["dangling", "to a file"])
@pytest.mark.parametrize("linked", [("images.npy",), ("metadata.pickle",), NAMES])
def test_outputs_are_written_through_links(
    campaign: Path,
    tmp_path: Path,
    elsewhere: Path,
    expected: dict[str, bytes],
    linked: tuple[str, ...],
    is_dangling: bool,
) -> None:
    for name in linked:
        (tmp_path / f"out-{name}").symlink_to(elsewhere / f"real-{name}")
        if not is_dangling:
            (elsewhere / f"real-{name}").write_bytes(b"of an older run")
    run(campaign, tmp_path)
    assert outputs(tmp_path) == expected
    assert {p.name for p in tmp_path.iterdir() if p.is_symlink()} == {f"out-{n}" for n in linked}
    assert sorted(os.listdir(elsewhere)) == sorted(f"real-{name}" for name in linked)
    names = {f"out-{name}" for name in NAMES}
    assert {p.name for p in tmp_path.iterdir()} == names | {".out.state"}


def test_a_chain_of_relative_links_is_followed(
    campaign: Path, tmp_path: Path, expected: dict[str, bytes]
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "out-images.npy").symlink_to("second")
    (tmp_path / "second").symlink_to("data/real.npy")
    run(campaign, tmp_path)
    assert (tmp_path / "data/real.npy").read_bytes() == expected["images.npy"]
    assert os.readlink(tmp_path / "second") == "data/real.npy"


@pytest.mark.parametrize("prefix", ["to-folder", "to-nothing"])
def test_a_prefix_that_is_a_link_itself_is_only_a_name(
    campaign: Path, tmp_path: Path, expected: dict[str, bytes], prefix: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "to-folder").symlink_to("folder")
    (tmp_path / "to-nothing").symlink_to("nothing")
    run(campaign, tmp_path, prefix=str(tmp_path / prefix))
    assert outputs(tmp_path, prefix) == expected
    assert os.listdir(tmp_path / "folder") == []


def test_a_prefix_below_a_linked_folder(
    campaign: Path, tmp_path: Path, expected: dict[str, bytes]
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    run(campaign, tmp_path, prefix=str(tmp_path / "link" / "out"))
    assert outputs(tmp_path / "folder") == expected


def test_a_linked_output_is_resumed_beside_its_file(
    campaign: Path, tmp_path: Path, elsewhere: Path, expected: dict[str, bytes]
) -> None:
    (tmp_path / "out-images.npy").symlink_to(elsewhere / "real")
    jobs.stop_after(6, job(campaign, tmp_path))
    (unfinished,) = elsewhere.glob(".real.*.partial/work-*/images.npy")
    assert unfinished.stat().st_size == len(expected["images.npy"])
    assert run(campaign, tmp_path) == 6
    assert outputs(tmp_path) == expected
    assert os.listdir(elsewhere) == ["real"]


def test_a_linked_output_of_a_job_that_fails_leaves_nothing(
    campaign: Path, tmp_path: Path, elsewhere: Path
) -> None:
    (tmp_path / "out-images.npy").symlink_to(elsewhere / "real")
    jobs.stop_after(0, job(campaign, tmp_path))
    assert os.listdir(elsewhere) == []
    assert os.listdir(tmp_path) == ["out-images.npy"]


def test_two_prefixes_linked_to_one_file_work_apart(
    campaign: Path, tmp_path: Path, expected: dict[str, bytes]
) -> None:
    for prefix in ("a", "b"):
        (tmp_path / f"{prefix}-images.npy").symlink_to(tmp_path / "real")
        jobs.stop_after(6, job(campaign, tmp_path, prefix=str(tmp_path / prefix)))
    for prefix in ("a", "b"):
        assert run(campaign, tmp_path, prefix=str(tmp_path / prefix)) == 6
        assert outputs(tmp_path, prefix) == expected


OBSTACLES: dict[str, tuple[Callable[[Path], object], str]] = {
    "folder": (lambda path: path.mkdir(), "a folder already has the name of this output"),
    "pipe": (
        lambda path: os.mkfifo(path),
        "what is not a regular file already has",
    ),
    "link to a folder": (
        lambda path: path.symlink_to(path.parent),
        "a folder already has the name",
    ),
    "link to a device": (
        lambda path: path.symlink_to("/dev/null"),
        "what is not a regular file already has",
    ),
    "link to itself": (lambda path: path.symlink_to(path), "Too many levels of symbolic links"),
    "link into a missing folder": (
        lambda path: path.symlink_to(path.parent / "missing" / "file"),
        "no such folder, though an output is a link to it",
    ),
    "link to another output": (
        lambda path: path.symlink_to(path.parent / "out-masks-m.npy"),
        "are to be written there",
    ),
}


@pytest.mark.parametrize("obstacle", OBSTACLES)
@pytest.mark.parametrize("name", ["images.npy", "metadata.pickle"])
def test_obstacles_are_named_before_the_work(
    campaign: Path, tmp_path: Path, obstacle: str, name: str
) -> None:
    make, problem = OBSTACLES[obstacle]
    make(tmp_path / f"out-{name}")
    is_refused(campaign, tmp_path, problem)


@pytest.mark.parametrize(
    "change",
    [{"prefix": "p" * 245}, {"masks": (("m" * 242, "."),)}, {"prefix": "ö" * 122}],
    ids=["prefix", "mask", "bytes, not letters"],
)
def test_names_that_are_too_long_are_refused(
    campaign: Path, tmp_path: Path, change: dict[str, Any]
) -> None:
    prefix = str(tmp_path / change.get("prefix", "out"))
    is_refused(campaign, tmp_path, "the filesystem allows 255", **change | {"prefix": prefix})


def test_the_longest_names_are_written(campaign: Path, tmp_path: Path) -> None:
    run(campaign, tmp_path, prefix=str(tmp_path / ("p" * (255 - len("-metadata.pickle")))))
    assert max(len(name) for name in os.listdir(tmp_path)) == 255


def test_a_linked_work_folder_is_refused(campaign: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / ".out.partial").symlink_to("folder")
    is_refused(campaign, tmp_path, "the work folder is a symbolic link; remove the link")


def test_an_obstacle_that_comes_later_lets_nothing_be_published(
    campaign: Path, tmp_path: Path, expected: dict[str, bytes]
) -> None:
    run(campaign, tmp_path)
    before = outputs(tmp_path)

    def progress(done: int, total: int) -> None:
        if done == total:
            (tmp_path / "out-masks-m.npy").unlink()
            (tmp_path / "out-masks-m.npy").mkdir()

    with pytest.raises(OutputError, match="a folder already has the name"):
        compress(job(campaign, tmp_path, strip_regions=True), progress)
    (tmp_path / "out-masks-m.npy").rmdir()
    assert outputs(tmp_path) == {n: before[n] for n in ("images.npy", "metadata.pickle")}
    assert run(campaign, tmp_path, strip_regions=True) == 12
    assert outputs(tmp_path)["images.npy"] == expected["images.npy"]


@needs_root
def test_a_foreign_file_in_a_sticky_folder_keeps_the_work(shared: Path) -> None:
    """It cannot be replaced, which the rename says; then the work is resumed."""
    foreign = shared / "out" / "test-metadata.pickle"
    foreign.write_bytes(b"of root")
    done = run_as(NOBODY, shared)
    assert done.returncode == 1
    line = done.stderr.splitlines()[-1]
    assert "test-metadata.pickle: cannot write it: Operation not permitted" in line
    assert "finished work is kept" in line
    foreign.unlink()
    done = run_as(NOBODY, shared)
    assert done.returncode == 0
    assert "resuming: 3 of 3 samples were already done" in done.stderr


@needs_root
def test_an_own_file_in_a_sticky_folder_is_replaced(shared: Path) -> None:
    for _ in range(2):
        done = run_as(NOBODY, shared)
        assert done.returncode == 0, done.stderr


@needs_root
def test_a_foreign_file_in_an_open_folder_is_replaced(shared: Path) -> None:
    (shared / "out").chmod(0o777)
    (shared / "out" / "test-metadata.pickle").write_bytes(b"of root")
    (shared / "out" / "test-metadata.pickle").chmod(0o444)
    done = run_as(NOBODY, shared)
    assert done.returncode == 0, done.stderr


@needs_root
def test_a_link_into_a_folder_that_cannot_be_written(shared: Path) -> None:
    (shared / "out").chmod(0o777)
    (shared / "closed").mkdir()
    link = shared / "out" / "test-metadata.pickle"
    link.symlink_to(shared / "closed" / "real")
    os.chown(link, NOBODY, NOBODY, follow_symlinks=False)
    done = run_as(NOBODY, shared)
    assert done.returncode == 1
    assert f"{shared}/closed: cannot write to the folder of an output" in done.stderr
    assert os.listdir(shared / "out") == ["test-metadata.pickle"]
