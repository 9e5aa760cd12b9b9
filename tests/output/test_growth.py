"""Outputs that are up to date, and those that grow, through the public API and the real command."""

from __future__ import annotations

import errno
import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from limbo_compress import Options, OutputError, Report, compress, load
from tests import failing, jobs
from tests.jobs import outputs, run_command, stop_after
from tests.jpegs import noisy
from tests.pickles import without_facts

STATE = ".out.state"
MASKS = (("m", "."),)


def job(data: Path, **change: Any) -> Options:
    return jobs.job(data, data.parent, **{"masks": MASKS} | change)


def from_scratch(data: Path, folder: Path, **change: Any) -> dict[str, bytes]:
    """The outputs of one run over the same paths, where there were none."""
    folder = folder / "scratch"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    compress(jobs.job(data, folder, **{"masks": MASKS} | change))
    return outputs(folder)


def grow(data: Path, **change: Any) -> tuple[int, int]:
    """Run a job, compare its outputs with those from scratch; return what it copied and made."""
    report = compress(job(data, **change))
    neutral = {"workers", "fresh", "partition", "write_rows"}
    kept = {name: value for name, value in change.items() if name not in neutral}
    assert outputs(data.parent) == from_scratch(data, data.parent, **kept)
    assert report.copied + report.made == (0 if report.is_up_to_date else report.samples)
    return report.copied, report.made


def samples_of(data: Path) -> list[Path]:
    return sorted(data.rglob("*.json"))


def _rename(path: Path) -> None:
    path.rename(path.with_name("renamed.json"))


def is_up_to_date(options: Options) -> bool:
    report: Report = compress(options)
    return report.is_up_to_date and not report.written


def change_image(data: Path) -> None:
    """Exchange the images of two samples that keep their metadata."""
    one, other = (path.with_suffix(".png") for path in samples_of(data)[:2])
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)


def test_the_same_command_again_does_nothing(data: Path) -> None:
    flags = ["--prefix", "out", "--images", "--metadata", "--image-size", "32", "24", "--", data]
    assert "up to date" not in run_command(data.parent, *flags).stdout
    before = {path: path.stat().st_ino for path in data.parent.iterdir()}
    done = run_command(data.parent, *flags)
    assert (done.returncode, done.stdout, done.stderr) == (0, "out: up to date\n", "")
    assert {path: path.stat().st_ino for path in data.parent.iterdir()} == before
    report = json.loads(run_command(data.parent, "--json", *flags).stdout)
    assert report["is_up_to_date"]
    assert (report["samples"], report["copied"], report["made"]) == (12, 0, 0)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda data: samples_of(data)[3].unlink(), (11, 0)),
        (change_image, (10, 2)),
        (lambda data: samples_of(data)[0].touch(), (12, 0)),
        (lambda data: _rename(samples_of(data)[0]), (11, 1)),
        (lambda data: (data.parent / STATE).unlink(), (12, 0)),
        (lambda data: (data.parent / STATE).write_bytes(b"damaged"), (12, 0)),
    ],
)
def test_only_what_changed_is_made(
    data: Path, change: Callable[[Path], object], expected: tuple[int, int]
) -> None:
    compress(job(data))
    change(data)
    assert grow(data) == expected
    assert is_up_to_date(job(data))


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ({"end": 7}, {}, (7, 5)),
        ({"start": 4}, {"end": 6}, (2, 4)),
        ({}, {"start": 2, "end": 9}, (7, 0)),
        ({"end": 12}, {}, (12, 0)),
    ],
)
def test_another_range_copies_what_both_have(
    data: Path, first: dict[str, int], second: dict[str, int], expected: tuple[int, int]
) -> None:
    compress(job(data, **first))
    assert grow(data, **second) == expected


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"image_size": (16, 12)}, "`image_size` was [32, 24]"),
        ({"strip_regions": True}, "`strip_regions` was False"),
        ({"masks": (("m", "^48"),)}, "`masks` was [['m', '.']]"),
        ({"max_pixels": 2 * 10**6}, "`max_pixels` was 179000000"),
        ({"fresh": True}, ""),
    ],
)
def test_another_job_copies_nothing(
    data: Path, change: dict[str, Any], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    compress(job(data))
    assert grow(data, **change) == (0, 12)
    assert said in caplog.text


@pytest.mark.parametrize("place", [0, 1, 2, "stop"])
def test_metadata_whose_ends_are_damaged_are_made_anew(data: Path, place: int | str) -> None:
    compress(job(data))
    path = data.parent / "out-metadata.pickle"
    content = bytearray(path.read_bytes())
    with path.open("rb") as stream:
        pickle.load(stream)
        content[stream.tell() - 1 if isinstance(place, str) else place] ^= 4
    path.write_bytes(content)
    assert grow(data) == (0, 12)


def test_a_list_of_failures_that_is_damaged_is_named(
    data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    compress(job(data))
    (data.parent / "out-failures.jsonl").write_text("nothing of JSON\n")
    assert grow(data) == (0, 12)
    assert "out-failures.jsonl is damaged" in caplog.text


def test_a_time_that_does_not_fit_is_compared_by_contents(data: Path) -> None:
    late = samples_of(data)[0]
    os.utime(late, (0, 10_413_792_000))  # in the year 2300
    if late.stat().st_mtime_ns < 2**63:
        pytest.skip("this filesystem keeps no such time")
    compress(job(data))
    assert not is_up_to_date(job(data))
    assert grow(data) == (12, 0)


def test_a_campaign_that_has_moved_is_compared_by_its_contents(data: Path) -> None:
    compress(job(data))
    moved = data.rename(data.parent / "moved")
    change_image(moved)
    assert grow(moved) == (10, 2)


@pytest.mark.parametrize("change", [{"workers": 2}, {"write_rows": "pwrite"}])
def test_growing_gives_the_same_bytes_in_every_way(data: Path, change: dict[str, Any]) -> None:
    compress(job(data, end=5))
    assert grow(data, **change) == (5, 7)


def test_partitions_grow(data: Path) -> None:
    compress(job(data, end=5))
    reports = [compress(job(data, partition=f"{number}/2")) for number in range(2)]
    assert [(report.copied, report.made) for report in reports] == [(5, 1), (0, 6)]
    assert outputs(data.parent) == from_scratch(data, data.parent, end=5)
    assert grow(data) == (5, 7)
    assert compress(job(data, partition="0/2")).is_up_to_date


@pytest.mark.parametrize("done", [3, 8, 12])
def test_a_growing_run_resumes(data: Path, done: int) -> None:
    compress(job(data, end=7))
    older = outputs(data.parent)
    stop_after(done, job(data))
    assert outputs(data.parent) == older
    assert grow(data) == (7, 5)


@pytest.mark.parametrize("name", ["images.npy", "masks-m.npy", "metadata.pickle"])
def test_a_row_that_rotted_is_made_anew(
    data: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    compress(job(data, end=9))
    path = data.parent / f"out-{name}"
    content = bytearray(path.read_bytes())
    content[300] ^= 4
    path.write_bytes(content)
    assert grow(data) == (8, 4)
    assert "damaged rows of the existing outputs were made anew: 1, such as row 0" in caplog.text


@pytest.mark.parametrize(
    ("name", "call", "fault", "copied", "said"),
    [
        ("images.npy", "read", {"role": "coordinator", "at": 0}, 0, "they cannot be read"),
        ("metadata.pickle", "pread", {"role": "coordinator", "at": 0}, 0, "they cannot be read"),
        ("images.npy", "read", {"role": "worker", "at": 1}, 6, "made anew: 1, such as row 0"),
        ("metadata.pickle", "read", {"role": "worker", "at": 1}, 6, "made anew: 1, such as row 0"),
    ],
)
def test_what_cannot_be_read_is_made_anew(
    data: Path, name: str, call: str, fault: dict[str, object], copied: int, said: str
) -> None:
    compress(job(data, end=7))
    do = f"fail {errno.EIO}"
    library = failing.build(data.parent)
    env = failing.watch(library, data.parent, f"*/out-{name}", calls=call, do=do, **fault)
    flags = ("--images", "--mask", "m", ".", "--image-size", 32, 24, "--metadata", "--workers", 1)
    done = run_command(data.parent, "--prefix", "out", *flags, data, env=env)
    assert done.returncode == 0
    assert failing.happened(env)
    assert said in done.stderr
    assert (f"copied {copied}, made {12 - copied}" in done.stdout) == bool(copied)
    assert outputs(data.parent) == from_scratch(data, data.parent)


@pytest.mark.parametrize(
    ("name", "said"), [("images.npy", "is missing"), ("metadata.pickle", ""), ("masks-m.npy", "is")]
)
def test_outputs_that_are_missing_are_made(
    data: Path, name: str, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    compress(job(data))
    (data.parent / f"out-{name}").unlink()
    assert grow(data) == (0, 12)
    assert said in caplog.text


def test_linked_outputs_grow(data: Path) -> None:
    elsewhere = data.parent / "elsewhere"
    elsewhere.mkdir()
    (data.parent / "out-images.npy").symlink_to(elsewhere / "i.npy")
    compress(job(data, end=5))
    assert grow(data) == (5, 7)
    assert (data.parent / "out-images.npy").is_symlink()


def test_left_out_samples_are_tried_again_and_nothing_is_published_if_they_are_bad(
    data: Path,
) -> None:
    broken = samples_of(data)[4]
    text = broken.read_text()
    broken.write_text("{")
    compress(job(data, on_error="skip"))
    before = outputs(data.parent), (data.parent / "out-images.npy").stat().st_ino
    report = compress(job(data, on_error="skip"))
    assert report.is_up_to_date
    assert [issue.row for issue in report.failures] == [4]
    assert (outputs(data.parent), (data.parent / "out-images.npy").stat().st_ino) == before
    assert not (data.parent / ".out.partial").exists()
    broken.write_text("[]")
    assert grow(data, on_error="skip") == (11, 0)
    broken.write_text(text)
    assert grow(data, on_error="skip") == (11, 1)


def test_metadata_that_stay_are_never_next_to_arrays_that_they_do_not_describe(data: Path) -> None:
    compress(job(data))
    before = outputs(data.parent)
    for change, said in (
        ({"image_size": (16, 12)}, "`image_size` was"),
        ({"images": False, "masks": (("m", "^48"),)}, "`masks` was"),
    ):
        with pytest.raises(OutputError, match=f"metadata belong to other arrays: {said}"):
            compress(job(data, metadata=False, **change))
    compress(job(data, metadata=False))
    change_image(data)
    with pytest.raises(OutputError, match=r"rows 0 to . of images are others now"):
        compress(job(data, metadata=False, fresh=True))
    assert outputs(data.parent) == before
    compress(job(data, images=False, metadata=False, masks=(("new", "."),), fresh=True))
    assert outputs(data.parent).keys() == {*before, "masks-new.npy"}


def test_warnings_are_copied_with_their_rows(data: Path) -> None:
    photograph = sorted(data.rglob("*.jpg"))[0]
    photograph.write_bytes(noisy(photograph.read_bytes()))
    compress(job(data))
    assert (data.parent / "out-warnings.jsonl").exists()
    (data.parent / STATE).unlink()
    assert grow(data) == (12, 0)
    (data.parent / "out-warnings.jsonl").unlink()
    assert grow(data) == (0, 12)


def test_facts_of_any_type_are_the_same_whatever_a_job_copies_resumes_or_shares(data: Path) -> None:
    odd = [1, 1.0, True, 0.0, -0.0, "1", "\ud800", 1 << 70, -(1 << 63), float("nan"), None, []]
    for path, value in zip(samples_of(data), odd, strict=True):
        metadata = json.loads(path.read_text())
        metadata.setdefault("synthetic", {})["parameters"] = {"/odd": value, f"/{value}": 1.5}
        path.write_text(json.dumps(metadata))
    assert grow(data, end=5) == (0, 5)
    assert grow(data, workers=2) == (5, 7)
    values = load(data.parent / "out").column("/odd").values()
    odd[7] = str(odd[7])
    assert list(map(repr, values)) == [*map(repr, odd[:10]), "None", "None"]
    expected = outputs(data.parent)
    for name in ("resumed", "shared"):
        change = {"prefix": str(data.parent / name)}
        if name == "resumed":
            stop_after(4, job(data, **change))
        for index in (1, 0) if name == "shared" else ():
            compress(job(data, partition=f"{index}/2", **change))
        report = compress(job(data, **change))
        assert report.resumed >= 4
        assert outputs(data.parent, name) == expected


def test_outputs_without_facts_do_not_grow(data: Path) -> None:
    compress(job(data))
    path = data.parent / "out-metadata.pickle"
    path.write_bytes(without_facts(path.read_bytes()))
    assert grow(data) == (0, 12)
    assert is_up_to_date(job(data))
