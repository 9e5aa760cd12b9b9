"""Whole jobs, through the public API."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from limbo_compress import OutputError, SampleError, compress
from tests.jobs import files, job, outputs
from tests.jpegs import noisy
from tests.pictures import encoded, picture


def test_a_range_of_samples_gives_their_rows(campaign: Path, tmp_path: Path) -> None:
    compress(job(campaign, tmp_path))
    images = np.load(tmp_path / "out-images.npy")
    assert images.shape == (12, 24, 32, 3)
    assert images.dtype == np.float16
    for row in (0, 5, 11):
        compress(job(campaign, tmp_path, prefix=str(tmp_path / "one"), start=row, end=row + 1))
        np.testing.assert_array_equal(np.load(tmp_path / "one-images.npy")[0], images[row])


@pytest.mark.parametrize("workers", [2, 7])
def test_the_number_of_workers_changes_no_byte(
    campaign: Path, tmp_path: Path, workers: int
) -> None:
    outputs = []
    for count in (1, workers):
        folder = tmp_path / str(count)
        folder.mkdir()
        compress(job(campaign, folder, workers=count))
        outputs.append(files(folder))
    assert outputs[0] == outputs[1]
    assert list(outputs[0]) == [".out.state", "out-images.npy", "out-metadata.pickle"]


def test_progress_counts_to_the_end(campaign: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    compress(job(campaign, tmp_path, workers=2), lambda done, samples: seen.append((done, samples)))
    assert seen[0] == (0, 12)
    assert seen[-1] == (12, 12)
    assert seen == sorted(seen)


def replace_image(content: bytes) -> Callable[[Path], object]:
    return lambda sample: sample.with_suffix(".png").write_bytes(content)


def replace_metadata(text: str) -> Callable[[Path], object]:
    return lambda sample: sample.write_text(text)


@pytest.mark.uniform
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (
            lambda sample: sample.with_suffix(".png").unlink(),
            r"1\.png: cannot read it: No such file",
        ),
        (replace_image(encoded(picture())[:-200]), r"1\.png: the image is truncated"),
        (replace_image(b"GIF89a" + bytes(100)), r"1\.png: the image is neither a PNG nor a JPEG"),
        (replace_metadata('{"image": '), "its metadata is not JSON"),
        (replace_metadata("[]"), "its metadata is a JSON list, not an object"),
        (replace_metadata("{}"), r"its metadata has no image\.filename"),
        (
            replace_metadata('{"image": {"filename": "../0000/x.png"}}'),
            r"image\.filename '\.\./0000/x\.png' is not a plain file name",
        ),
    ],
)
def test_a_bad_sample_stops_the_job_and_leaves_older_files(
    data: Path, tmp_path: Path, spoil: Any, reason: str, workers: int
) -> None:
    (tmp_path / "out-images.npy").write_text("older")
    spoil(sorted(data.rglob("*.json"))[1])
    with pytest.raises(SampleError, match=rf"image_0000001\.json: .*{reason}"):
        compress(job(data, tmp_path, workers=workers))
    assert outputs(tmp_path) == {"images.npy": b"older"}


def test_too_little_space_is_found_before_the_work(campaign: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"bytes needed, [\d,]+ free"):
        compress(job(campaign, tmp_path, image_size=(2**20, 2**20)))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_messages_of_libraries_are_warnings_about_samples(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], workers: int
) -> None:
    data = encoded(picture(), "JPEG")
    for name, content in (("a", noisy(data)), ("b", data)):
        (tmp_path / f"{name}.jpg").write_bytes(content)
        (tmp_path / f"{name}.json").write_text(f'{{"image": {{"filename": "{name}.jpg"}}}}')
    report = compress(job(tmp_path, tmp_path, workers=workers))
    (warning,) = report.warnings
    assert warning.path == str(tmp_path / "a.json")
    assert warning.reason == "Corrupt JPEG data: 5 extraneous bytes before marker 0xdb"
    assert "Corrupt" not in capfd.readouterr().err


def test_links_to_one_metadata_file_take_the_images_beside_them(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    content = tmp_path / "store" / "content"
    content.write_text('{"image": {"filename": "image.png"}}')
    for name, grey in (("a", 0), ("b", 255)):
        folder = tmp_path / "data" / name
        folder.mkdir(parents=True)
        (folder / "sample.json").symlink_to(content)
        Image.new("RGB", (40, 40), (grey, grey, grey)).save(folder / "image.png")
    assert compress(job(tmp_path / "data", tmp_path)).samples == 2
    images = np.load(tmp_path / "out-images.npy")
    assert images[:, 0, 0, 0].tolist() == [0, 1]
