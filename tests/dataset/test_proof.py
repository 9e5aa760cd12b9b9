"""Arrays that belong to other metadata are noticed when they are used first."""

from __future__ import annotations

import pickle
import shutil
import zlib
from operator import attrgetter, itemgetter, methodcaller
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from limbo_compress import InputError, compress, load
from limbo_compress.dataset.row_proof import differing_row
from tests.jobs import MASKS, job


def exchanged(one: Path, other: Path, name: str) -> None:
    paths = [f"{prefix}-{name}.npy" for prefix in (one, other)]
    first, second = (Path(path).read_bytes() for path in paths)
    assert len(first) == len(second)
    Path(paths[0]).write_bytes(second)
    Path(paths[1]).write_bytes(first)


@pytest.mark.uniform
@pytest.mark.parametrize("shared", [0, 5, 10])
def test_exchanged_images_are_noticed(data: Path, tmp_path: Path, shared: int) -> None:
    """Also if sets share their first rows, as where a campaign has grown in the middle."""
    compress(job(data, tmp_path, prefix=tmp_path / "old", masks=MASKS, end=11))
    for row in range(shared, 11):
        (data / "0000" / f"image_{row:07}.json").rename(data / "0000" / f"was_{row}.json")
    # Each of the later samples has moved to another row.
    (data / "0000" / f"was_{shared}.json").unlink()
    compress(job(data, tmp_path, prefix=tmp_path / "new", masks=MASKS))
    exchanged(tmp_path / "old", tmp_path / "new", "images")
    for name in ("old", "new"):
        dataset = load(tmp_path / name)
        for use in (attrgetter("images"), itemgetter(3), methodcaller("rows", "images")):
            with pytest.raises(InputError, match="or the two belong to different jobs") as caught:
                use(dataset)
            assert caught.value.path == f"{tmp_path / name}-images.npy"
        assert dataset.masks["all"].shape == (11, 24, 32, 1)
        assert dataset.metadata is not None
        assert dataset.metadata[3]


def test_whole_arrays_are_used(prefix: Path) -> None:
    dataset = load(prefix)
    assert dataset.images is not None
    np.testing.assert_array_equal(dataset.images, np.load(f"{prefix}-images.npy"))
    sent = pickle.loads(pickle.dumps(dataset))
    np.testing.assert_array_equal(sent.masks["big"], dataset.masks["big"])


@pytest.mark.uniform
def test_a_process_that_gets_a_dataset_notices_as_well(prefix: Path, tmp_path: Path) -> None:
    for path in prefix.parent.iterdir():
        shutil.copy(path, tmp_path)
    images = np.load(tmp_path / "out-images.npy", mmap_mode="r+")
    images[:] = images[::-1]
    images.flush()
    with pytest.raises(InputError, match="row 11 is not what"):
        _ = pickle.loads(pickle.dumps(load(tmp_path / "out"))).images


def differs(written: NDArray[np.float32], found: NDArray[np.float32]) -> int | None:
    checksums = np.array([zlib.crc32(row.tobytes()) for row in written], np.uint32)
    read = [row.tobytes() for row in found]
    return differing_row(checksums, read.__getitem__, len(read[0]), found.itemsize)


def test_rows_that_tell_sets_apart_are_chosen() -> None:
    random = np.random.default_rng(0)
    written = random.random((3000, 16), np.float32)
    # Most are empty, at the end all, and the last that is not is constant.
    written[random.random(3000) < 0.9] = 0
    written[2500:] = 0
    written[2490] = 0.5
    assert differs(written, written) is None
    last = int(np.flatnonzero((written != written[:, :1]).any(axis=1))[-1])
    found = written.copy()
    found[last] = 0
    assert differs(written, found) == last
    first = int(np.flatnonzero(written.any(axis=1))[0])
    found = written.copy()
    found[first, 3] += 1
    assert differs(written, found) == first


@pytest.mark.parametrize("rows", [0, 1, 2, 3, 40])
@pytest.mark.parametrize("value", [0, 1])
def test_sets_of_any_length(rows: int, value: int) -> None:
    same = np.full((rows, 16), value, np.float32)
    assert rows == 0 or differs(same, same) is None
    if rows:
        assert differs(same, same + 1) is not None
