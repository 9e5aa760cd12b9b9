"""Whole jobs, through the public API."""

from __future__ import annotations

import io
import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from limbo_compress import OutputError, SampleError, compress
from tests.jobs import files, job, outputs


def test_metadata_is_in_the_order_of_the_paths(campaign: Path, tmp_path: Path) -> None:
    compress(job(campaign, tmp_path))
    metadata = pickle.loads((tmp_path / "out-metadata.pickle").read_bytes())
    assert metadata == [json.loads(path.read_text()) for path in sorted(campaign.rglob("*.json"))]


def test_a_range_of_samples_gives_their_rows(campaign: Path, tmp_path: Path) -> None:
    compress(job(campaign, tmp_path))
    images = np.load(tmp_path / "out-images.npy")
    assert images.shape == (12, 24, 32, 3)
    assert images.dtype == np.float16
    for row in range(12):
        compress(job(campaign, tmp_path, prefix=str(tmp_path / "one"), start=row, end=row + 1))
        np.testing.assert_array_equal(np.load(tmp_path / "one-images.npy")[0], images[row])


def test_the_report_describes_the_outputs(campaign: Path, tmp_path: Path) -> None:
    report = compress(job(campaign, tmp_path))
    assert report.samples == 12
    assert [file.shape for file in report.written] == [(12, 24, 32, 3), (12,)]
    for file in report.written:
        assert Path(file.path).stat().st_size == file.bytes


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
    assert list(outputs[0]) == ["out-images.npy", "out-metadata.pickle"]


def test_progress_counts_to_the_end(campaign: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    compress(job(campaign, tmp_path, workers=2), lambda done, samples: seen.append((done, samples)))
    assert seen[0] == (0, 12)
    assert seen[-1] == (12, 12)
    assert seen == sorted(seen)


def test_images_alone_and_metadata_alone(campaign: Path, tmp_path: Path) -> None:
    compress(job(campaign, tmp_path, metadata=False))
    assert list(files(tmp_path)) == ["out-images.npy"]
    compress(job(campaign, tmp_path, prefix=str(tmp_path / "two"), images=False))
    assert list(files(tmp_path)) == ["out-images.npy", "two-metadata.pickle"]


def truncate_image(sample: Path) -> None:
    image = sample.with_suffix(".png")
    image.write_bytes(image.read_bytes()[:-200])


def remove_image(sample: Path) -> None:
    sample.with_suffix(".png").unlink()


def replace_image(sample: Path) -> None:
    sample.with_suffix(".png").write_bytes(b"GIF89a" + bytes(100))


def truncate_metadata(sample: Path) -> None:
    sample.write_text('{"image": ')


def replace_metadata(sample: Path) -> None:
    sample.write_text("[]")


def name_no_image(sample: Path) -> None:
    sample.write_text("{}")


def name_image_elsewhere(sample: Path) -> None:
    sample.write_text('{"image": {"filename": "../0000/x.png"}}')


@pytest.mark.uniform
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (truncate_image, r"image_0000001\.png: the image is truncated"),
        (remove_image, r"image_0000001\.png: cannot read it: No such file"),
        (replace_image, r"image_0000001\.png: the image is neither a PNG nor a JPEG"),
        (truncate_metadata, "its metadata is not JSON"),
        (replace_metadata, "its metadata is a JSON list, not an object"),
        (name_no_image, r"its metadata has no image\.filename"),
        (name_image_elsewhere, r"image\.filename '\.\./0000/x\.png' is not a plain file name"),
    ],
)
def test_a_bad_sample_stops_the_job_and_leaves_older_files(
    data: Path, tmp_path: Path, spoil: Any, reason: str, workers: int
) -> None:
    (tmp_path / "out-images.npy").write_text("older")
    spoil(sorted(data.rglob("*.json"))[1])
    with pytest.raises(SampleError, match=rf"image_0000001\.json: {reason}"):
        compress(job(data, tmp_path, workers=workers))
    assert outputs(tmp_path) == {"images.npy": b"older"}


def test_an_output_that_cannot_be_replaced_is_an_error(campaign: Path, tmp_path: Path) -> None:
    (tmp_path / "out-images.npy").mkdir()
    with pytest.raises(OutputError, match="a folder stands"):
        compress(job(campaign, tmp_path))
    assert os.listdir(tmp_path) == ["out-images.npy"]


def test_too_little_space_is_found_before_the_work(campaign: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"bytes needed, [\d,]+ free"):
        compress(job(campaign, tmp_path, image_size=(2**20, 2**20)))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_messages_of_libraries_are_warnings_about_samples(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], workers: int
) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (40, 30), (200, 10, 10)).save(stream, "JPEG")
    data = stream.getvalue()
    table = data.index(b"\xff\xdb")
    (tmp_path / "a.jpg").write_bytes(data[:table] + b"noise" + data[table:])
    (tmp_path / "a.json").write_text('{"image": {"filename": "a.jpg"}}')
    (tmp_path / "b.jpg").write_bytes(data)
    (tmp_path / "b.json").write_text('{"image": {"filename": "b.jpg"}}')
    report = compress(job(tmp_path, tmp_path, workers=workers))
    (warning,) = report.warnings
    assert warning.path == str(tmp_path / "a.json")
    assert warning.text == "Corrupt JPEG data: 5 extraneous bytes before marker 0xdb"
    assert "Corrupt" not in capfd.readouterr().err


def test_a_pipe_for_an_image_is_a_bad_sample(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"image": {"filename": "pipe"}}')
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(
        SampleError, match=r"a\.json: pipe: cannot read it: it is not a regular file"
    ):
        compress(job(tmp_path, tmp_path))
