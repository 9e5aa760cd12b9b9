from __future__ import annotations

import gc
import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from limbo_compress import InputError, Options, compress, load


def test_outputs_are_read_back(campaign: Path, tmp_path: Path) -> None:
    prefix = str(tmp_path / "a[b]")
    masks = (("all", "."), ("big", "^48"))
    options = Options((str(campaign),), prefix, images=True, metadata=True, masks=masks, workers=1)
    compress(options)
    dataset = load(prefix)
    assert dataset.images is not None
    np.testing.assert_array_equal(dataset.images, np.load(f"{prefix}-images.npy"))
    assert list(dataset.masks) == ["all", "big"]
    assert dataset.metadata == [json.loads(p.read_text()) for p in sorted(campaign.rglob("*.json"))]
    assert gc.isenabled()


def test_code_in_a_pickle_is_not_executed(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {tmp_path}/executed",)

    (tmp_path / "x-metadata.pickle").write_bytes(pickle.dumps([Evil()]))
    with pytest.raises(InputError, match="system does not belong in metadata"):
        load(str(tmp_path / "x"))
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("content", [b"", b"\x80\x03]", b"\x80\x03N.", b"nonsense"])
def test_damaged_metadata_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x-metadata.pickle").write_bytes(content)
    with pytest.raises(InputError, match="cannot read"):
        load(str(tmp_path / "x"))


def test_outputs_of_different_lengths_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found set"):
        load(str(tmp_path / "x"))
    np.save(tmp_path / "x-images.npy", np.zeros((3, 2, 2, 3), np.float16))
    (tmp_path / "x-metadata.pickle").write_bytes(pickle.dumps([{}]))
    with pytest.raises(InputError, match="one number of samples"):
        load(str(tmp_path / "x"))
