"""Publication after a power cut, as filesystems leave names that were being changed."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from limbo_compress import Options, OutputError
from limbo_compress.output.publication import Publication
from limbo_compress.plan import Job, plan

NEW = {"images.npy": "images.npy", "metadata.pickle": "new.pickle"}


class PowerCutError(BaseException):
    """Nothing that follows is done."""


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """A job whose new outputs are complete in its work folder, over older ones."""
    job = plan(Options((str(tmp_path),), str(tmp_path / "out"), images=True, metadata=True), 3)
    os.makedirs(job.folder)
    for output, name in NEW.items():
        Path(job.final_path(output)).write_text("old")
        Path(job.folder, name).write_text("new")
    return job


def publish(job: Job, monkeypatch: pytest.MonkeyPatch, renames: int) -> None:
    """Begin to publish; the power fails after some renames of new files."""
    old = sum(map(os.path.lexists, map(job.real_path, NEW)))
    steps = iter([True] * (old + renames) + [False])

    def check() -> None:
        if not next(steps):
            raise PowerCutError

    with monkeypatch.context() as patched:
        patched.setattr(Publication, "settle", lambda _: False)
        with pytest.raises(PowerCutError):
            Publication(job, dict(NEW)).publish(check)


def texts(job: Job) -> list[str]:
    return [Path(job.final_path(output)).read_text() for output in NEW]


def test_a_file_with_both_names_is_published(job: Job) -> None:
    """On Btrfs the old name may come back, in another folder than the new one."""
    Publication(job, dict(NEW)).publish(lambda: None)
    for output, name in NEW.items():
        os.link(job.final_path(output), os.path.join(job.folder, name))
    found = Publication.read(job)
    assert found is not None
    assert found.settle()
    assert texts(job) == ["new", "new"]


def test_a_file_with_both_names_is_taken_back(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(job, monkeypatch, renames=1)
    os.link(job.final_path("images.npy"), os.path.join(job.folder, "images.npy"))
    for _ in range(2):
        found = Publication.read(job)
        assert (found is None) or not found.settle()
        assert texts(job) == ["old", "old"]
    assert Path(job.folder, "images.npy").read_text() == "new"


def test_an_older_output_with_both_names_is_returned(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was being set aside."""
    publish(job, monkeypatch, renames=-1)
    aside = os.path.join(job.folder, "older-images.npy")
    os.link(aside, job.final_path("images.npy"))
    found = Publication.read(job)
    assert found is not None
    assert not found.settle()
    assert texts(job) == ["old", "old"]
    assert not os.path.exists(aside)


def test_a_publication_whose_disk_is_gone_is_not_complete(
    tmp_path: Path, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "disk").mkdir()
    job = replace(job, links={"metadata.pickle": str(tmp_path / "disk" / "m.pickle")})
    os.makedirs(folder := job.work_folder("metadata.pickle"))
    Path(folder, "new.pickle").write_text("new")
    Path(job.final_path("metadata.pickle")).unlink()
    publish(job, monkeypatch, renames=1)
    (tmp_path / "disk").rename(tmp_path / "elsewhere")
    found = Publication.read(job)
    assert found is not None
    with pytest.raises(OutputError, match="its work is missing: mount its disk"):
        found.settle()
    (tmp_path / "elsewhere").rename(tmp_path / "disk")
    assert not found.settle()
    assert Path(job.final_path("images.npy")).read_text() == "old"


def test_a_run_that_was_taken_over_cannot_remove_what_was_published(job: Job) -> None:
    Publication(job, dict(NEW)).publish(lambda: None)
    os.link(job.final_path("images.npy"), os.path.join(job.folder, "images.npy"))
    os.rename(job.final_path("metadata.pickle"), os.path.join(job.folder, "new.pickle"))
    found = Publication.read(job)
    assert found is not None
    os.rename(job.folder, f"{job.root}/work-successor")
    with pytest.raises(OutputError):
        found.settle()
    assert Path(job.final_path("images.npy")).read_text() == "new"
