"""Outputs of earlier jobs under one prefix, through the public API."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from limbo_compress import Options, OutputError, compress, load
from tests import jobs
from tests.jobs import outputs
from tests.jpegs import noisy

IMAGES = {"images": True, "metadata": False}
METADATA = {"images": False, "metadata": True}
MASKS = {"images": False, "metadata": False, "masks": (("m", "."),)}


def job(data: Path, **change: Any) -> Options:
    return jobs.job(data, data.parent, **change)


def check_refusal(options: Options, problem: str) -> None:
    """Check that a job is refused and changes nothing."""
    folder = Path(options.prefix).parent
    before = outputs(folder)
    with pytest.raises(OutputError, match=problem):
        compress(options)
    assert outputs(folder) == before


@pytest.mark.parametrize("first", [IMAGES, METADATA, MASKS])
@pytest.mark.parametrize("second", [IMAGES, METADATA, MASKS])
def test_outputs_of_one_prefix_may_come_from_several_commands(
    data: Path, first: dict[str, Any], second: dict[str, Any]
) -> None:
    compress(job(data, prefix=str(data.parent / "whole"), masks=MASKS["masks"]))
    expected = outputs(data.parent, "whole")
    compress(job(data, **first))
    compress(job(data, **second))
    found = outputs(data.parent)
    assert len(found) == (1 if first == second else 2)
    for name, content in found.items():
        if name == "metadata.pickle":  # its index says which arrays were made with it
            assert pickle.loads(content) == pickle.loads(expected[name])
        else:
            assert content == expected[name]


@pytest.mark.parametrize("order", [(IMAGES, METADATA), (MASKS, METADATA), (MASKS, IMAGES)])
def test_a_sample_that_was_left_out_before_must_be_bad_again(
    data: Path, order: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    first, second = order
    suffix = "exr" if first is MASKS else "png"
    broken = sorted(data.rglob(f"*.{suffix}"))[1]
    broken.write_bytes(broken.read_bytes()[:100])
    compress(job(data, on_error="skip", **first))
    check_refusal(job(data, on_error="skip", **second), "image_.*json is no longer bad")
    both = first | {name: value for name, value in second.items() if value}
    compress(job(data, on_error="skip", fresh=True, **both))
    assert set(outputs(data.parent)) > {"failures.jsonl"}


def test_samples_that_are_bad_again_may_be_left_out_again(data: Path) -> None:
    sorted(data.rglob("*.json"))[3].write_text("[]")
    compress(job(data, on_error="skip", **IMAGES))
    compress(job(data, on_error="skip", **METADATA))
    dataset = load(str(data.parent / "out"))
    assert dataset.images is not None
    assert dataset.metadata is not None
    assert len(dataset.images) == len(dataset.metadata) == 11
    (line,) = (data.parent / "out-failures.jsonl").read_text().splitlines()
    assert json.loads(line)["row"] == 3


def test_a_sample_of_existing_outputs_must_not_be_bad_now(data: Path) -> None:
    compress(job(data, **METADATA))
    broken = sorted(data.rglob("*.png"))[1]
    broken.write_bytes(broken.read_bytes()[:100])
    check_refusal(job(data, on_error="skip", **IMAGES), "is bad now, but not in this list")


@pytest.mark.parametrize("order", [(IMAGES, METADATA), (METADATA, IMAGES)])
@pytest.mark.parametrize(
    ("ranges", "problem"),
    [
        (({"end": 6}, {"end": 7}), "there are 6, and 7 in this job"),
        (({}, {"start": 1}), "there are 12, and 11 in this job"),
    ],
)
def test_existing_outputs_of_another_range_are_refused(
    data: Path, order: tuple[dict[str, Any], dict[str, Any]], ranges: Any, problem: str
) -> None:
    compress(job(data, **order[0], **ranges[0]))
    check_refusal(job(data, **order[1], **ranges[1]), problem)


def test_existing_metadata_of_as_many_other_samples_are_refused(data: Path) -> None:
    compress(job(data, end=6, **METADATA))
    check_refusal(job(data, start=6, **IMAGES), "row 0 is that of")


def test_a_sample_that_was_exchanged_in_the_middle_is_noticed(data: Path) -> None:
    compress(job(data, **METADATA))
    removed, neighbor, *_ = sorted(data.rglob("image_*.json"))[2:]
    for path in sorted(data.rglob(f"{removed.stem}.*")):
        path.unlink()
    for path in sorted(data.rglob(f"{neighbor.stem}.*")):
        shutil.copy(path, path.with_stem(f"{path.stem}x"))
    check_refusal(job(data, **IMAGES), "row 2 is that of")


def test_a_campaign_may_be_moved_between_two_commands(data: Path) -> None:
    compress(job(data, **METADATA))
    moved = data.rename(data.parent / "moved")
    assert compress(job(moved, **IMAGES)).samples == 12


def test_existing_outputs_that_are_replaced_do_not_matter(data: Path) -> None:
    compress(job(data, end=6))
    compress(job(data, start=3))
    (data.parent / "out-images.npy").write_text("no array")
    compress(job(data))
    assert load(str(data.parent / "out")).metadata is not None


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("images.npy", b"no array"),
        ("metadata.pickle", b"no pickle"),
        ("metadata.pickle", pickle.dumps([{}] * 12)[:-3]),
        ("metadata.pickle", pickle.dumps([Path("x")])),
    ],
)
def test_existing_outputs_that_cannot_be_read_are_refused(
    data: Path, name: str, content: bytes
) -> None:
    (data.parent / f"out-{name}").write_bytes(content)
    change = METADATA if name == "images.npy" else IMAGES
    check_refusal(job(data, **change), f"out-{name}: the existing output cannot be read")


def test_a_truncated_array_is_refused(data: Path) -> None:
    compress(job(data, **IMAGES))
    path = data.parent / "out-images.npy"
    path.write_bytes(path.read_bytes()[:-1])
    check_refusal(job(data, **METADATA), "bytes, where its header says")


@pytest.mark.parametrize("damage", ["not JSON", "{}\n", '{"row": 99, "path": "x", "reason": ""}\n'])
def test_a_list_of_failures_of_other_samples_is_refused(data: Path, damage: str) -> None:
    compress(job(data, **IMAGES))
    (data.parent / "out-failures.jsonl").write_text(damage)
    check_refusal(job(data, on_error="skip", **METADATA), "out-failures.jsonl: ")


def test_outputs_of_other_prefixes_do_not_matter(data: Path) -> None:
    for name in ("out-masks-x", "out-x"):
        prefix = str(data.parent / name)
        compress(job(data, prefix=prefix, end=3, masks=MASKS["masks"]))
    np.save(data.parent / "out-labels.npy", np.zeros(5))
    assert compress(job(data)).samples == 12
    assert compress(job(data, **METADATA)).samples == 12


def test_metadata_without_an_index_do_not_say_whose_rows_they_have(data: Path) -> None:
    """As those of the reference."""
    metadata = [json.loads(path.read_text()) for path in sorted(data.rglob("*.json"))]
    (data.parent / "out-metadata.pickle").write_bytes(pickle.dumps(metadata))
    check_refusal(job(data, **IMAGES), "it has no index, so nothing says whose rows these are")
    assert compress(job(data)).samples == 12


def test_existing_images_of_the_reference_may_stay(data: Path) -> None:
    compress(job(data, **IMAGES))
    images = data.parent / "out-images.npy"
    np.save(images, np.nextafter(np.load(images), np.float16(1)))
    assert compress(job(data, **METADATA)).samples == 12


def test_stripped_metadata_match_too(data: Path) -> None:
    compress(job(data, strip_regions=True, **METADATA))
    compress(job(data, **IMAGES))


def test_warnings_about_outputs_that_stay_are_kept(data: Path) -> None:
    photograph = sorted(data.rglob("*.jpg"))[0]
    photograph.write_bytes(noisy(photograph.read_bytes()))
    compress(job(data, **IMAGES))
    warnings = (data.parent / "out-warnings.jsonl").read_text()
    compress(job(data, **METADATA))
    assert (data.parent / "out-warnings.jsonl").read_text() == warnings


def test_older_metadata_tell_whose_the_outputs_are_that_stay(data: Path) -> None:
    compress(job(data, end=6, masks=MASKS["masks"]))
    check_refusal(job(data, start=6, **METADATA), "row 0 is that of")
    assert compress(job(data, end=6)).samples == 6


def test_older_metadata_that_tell_nothing_may_be_replaced(data: Path) -> None:
    compress(job(data))
    (data.parent / "out-metadata.pickle").write_bytes(pickle.dumps([{}] * 12))
    assert compress(job(data, **METADATA)).samples == 12
