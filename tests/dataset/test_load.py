from __future__ import annotations

import gc
import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from limbo_compress import InputError, compress, load
from tests.jobs import job


def test_outputs_are_read_back(campaign: Path, tmp_path: Path) -> None:
    prefix = str(tmp_path / "a[b]")
    compress(job(campaign, tmp_path, prefix=prefix, masks=(("all", "."), ("big", "^48"))))
    dataset = load(prefix)
    assert dataset.images is not None
    np.testing.assert_array_equal(dataset.images, np.load(f"{prefix}-images.npy"))
    assert list(dataset.masks) == ["all", "big"]
    assert dataset.metadata is not None
    assert list(dataset.metadata) == [
        json.loads(p.read_text()) for p in sorted(campaign.rglob("*.json"))
    ]
    assert gc.isenabled()


def write_images(prefix: Path, rows: int = 3) -> None:
    np.save(f"{prefix}-images.npy", np.zeros((rows, 2, 2, 3), np.float16))


def write_mask(prefix: Path, name: str, rows: int = 3) -> None:
    np.save(f"{prefix}-masks-{name}.npy", np.ones((rows, 2, 2, 1), np.float32))


def test_outputs_of_different_lengths_are_refused(tmp_path: Path) -> None:
    write_images(tmp_path / "x")
    write_mask(tmp_path / "x", "big", 2)
    with pytest.raises(InputError, match=r"images.npy has 3, masks-big.npy has 2"):
        load(str(tmp_path / "x"))
    write_mask(tmp_path / "x", "big")
    (tmp_path / "x-metadata.pickle").write_bytes(pickle.dumps([{}]))
    with pytest.raises(InputError, match="1 samples where the arrays have 3 rows"):
        list(load(str(tmp_path / "x")).metadata or [])


def test_metadata_of_another_length_than_images_are_refused(campaign: Path, tmp_path: Path) -> None:
    compress(job(campaign, tmp_path))
    write_images(tmp_path / "out", 11)
    with pytest.raises(InputError, match="12 samples where the arrays have 11 rows"):
        load(str(tmp_path / "out"))


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    write_images(tmp_path / "other")
    with pytest.raises(InputError, match=r"no images.npy, masks-NAME.npy or metadata.pickle"):
        load(str(tmp_path / "x"))
    with pytest.raises(InputError, match="cannot list this folder"):
        load(str(tmp_path / "missing" / "x"))


def test_unrelated_files_are_ignored(tmp_path: Path) -> None:
    write_images(tmp_path / "test")
    write_mask(tmp_path / "test", "big")
    np.save(tmp_path / "test-labels.npy", np.zeros(7))
    np.save(tmp_path / "test-objects.npy", np.array([{}]), allow_pickle=True)
    np.save(tmp_path / "test-masks-counts.npy", np.zeros(7, int))
    (tmp_path / "test-notes.npy").write_text("no array")
    dataset = load(str(tmp_path / "test"))
    assert dataset.images is not None
    assert list(dataset.masks) == ["big"]


def test_the_outputs_of_other_prefixes_are_ignored(tmp_path: Path) -> None:
    write_images(tmp_path / "test")
    for prefix in (tmp_path / "test-masks-x", tmp_path / "test-b"):
        write_images(prefix, 5)
        write_mask(prefix, "y", 5)
    dataset = load(str(tmp_path / "test"))
    assert dataset.images is not None
    assert len(dataset.images) == 3
    assert dataset.masks == {}
    assert list(load(str(tmp_path / "test-masks-x")).masks) == ["y"]


def test_masks_may_have_the_names_of_outputs(tmp_path: Path) -> None:
    names = ["a-masks-b", "images", "x-images"]
    for name in names:
        write_mask(tmp_path / "test", name)
    assert list(load(str(tmp_path / "test")).masks) == names


@pytest.mark.parametrize("name", ["images", "masks-big"])
def test_a_damaged_array_is_refused(tmp_path: Path, name: str) -> None:
    write_images(tmp_path / "x")
    write_mask(tmp_path / "x", "big")
    path = tmp_path / f"x-{name}.npy"
    whole = path.read_bytes()
    for damaged in (b"", whole[:5], whole[:90], whole[:-1], whole + b"\0"):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=f"x-{name}.npy: "):
            load(str(tmp_path / "x"))


def test_no_flipped_byte_of_a_header_gives_other_rows(tmp_path: Path) -> None:
    write_images(tmp_path / "x")
    path = tmp_path / "x-images.npy"
    whole = path.read_bytes()
    for position in range(whole.index(b"\n") + 1):
        for flip in (1, 2, 4, 8, 16, 32, 64, 128, 255):
            path.write_bytes(
                whole[:position] + bytes([whole[position] ^ flip]) + whole[position + 1 :]
            )
            try:
                images = load(str(tmp_path / "x")).images
            except InputError:
                continue
            assert images is not None
            np.testing.assert_array_equal(images, np.zeros((3, 2, 2, 3)))
