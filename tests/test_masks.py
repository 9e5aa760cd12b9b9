"""Jobs that write masks."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from limbo_compress import Options, SampleError, UsageError, compress
from tests.jobs import Command


def masks_of(folder: Path, prefix: str) -> dict[str, NDArray[np.float32]]:
    found = {path.stem: np.load(path) for path in sorted(folder.glob(f"{prefix}-masks-*.npy"))}
    assert all(array.dtype == np.float32 for array in found.values())
    return found


def test_renders_and_photographs_in_one_run(
    command: Command, campaign: Path, tmp_path: Path
) -> None:
    flags = ["--images", "--metadata", "--image-size", 30, 20]
    masks = ["--mask", "all", ".", "big", "^48", "none", "^$"]
    done = command("--prefix", "one", *flags, *masks, "--", campaign, "--workers", 2)
    assert done.returncode == 2, "after -- all are directories, as in the reference"
    done = command("--prefix", "one", *flags, "--workers", 2, *masks, "--", campaign)
    assert done.returncode == 0, done.stderr
    found = masks_of(tmp_path, "one")
    assert list(found) == ["one-masks-all", "one-masks-big", "one-masks-none"]
    paths = sorted(campaign.rglob("*.json"))
    renders = ["synthetic" in json.loads(path.read_text()) for path in paths]
    assert {True, False} == set(renders)
    for array in found.values():
        assert array.shape == (12, 20, 30, 1)
    assert [bool(row.any()) for row in found["one-masks-all"]] == renders
    assert not found["one-masks-none"].any()
    command(
        "--prefix", "two", "--image-size", 30, 20, "--start", 5, "--end", 7, *masks, "--", campaign
    )
    for name, array in masks_of(tmp_path, "two").items():
        np.testing.assert_array_equal(array, found[name.replace("two", "one")][5:7])
    assert not (tmp_path / "two-images.npy").exists()


def test_masks_alone_decode_no_image(campaign: Path, tmp_path: Path) -> None:
    shutil.copytree(campaign, tmp_path / "data")
    for image in (tmp_path / "data").rglob("image_*.png"):
        image.unlink()
    options = Options(
        (str(tmp_path / "data"),), str(tmp_path / "x"), masks=(("m", "."),), workers=1
    )
    assert compress(options).samples == 12


@pytest.mark.parametrize(
    ("section", "reason"),
    [
        ({"filename": "gone.exr", "manifest": []}, "gone.exr: cannot read it"),
        ({"filename": "../x.exr", "manifest": []}, "not a plain file name"),
        ({"filename": "x.exr"}, "manifest is not a list of labels"),
        ({"filename": "x.exr", "manifest": [1]}, "manifest is not a list of labels"),
        ([], "manifest is not a list of labels"),
        ({"manifest": []}, r"no synthetic\.cryptomatte\.filename"),
    ],
)
def test_a_bad_cryptomatte_is_a_bad_sample(tmp_path: Path, section: Any, reason: str) -> None:
    (tmp_path / "x.json").write_text(json.dumps({"synthetic": {"cryptomatte": section}}))
    options = Options((str(tmp_path),), str(tmp_path / "out"), masks=(("m", "."),), workers=1)
    with pytest.raises(SampleError, match=reason):
        compress(options)
    assert os.listdir(tmp_path) == ["x.json"]


@pytest.mark.parametrize("synthetic", [{}, {"synthetic": {}}, {"synthetic": {"cryptomatte": None}}])
def test_a_sample_without_cryptomatte_is_zero(tmp_path: Path, synthetic: Any) -> None:
    (tmp_path / "x.json").write_text(json.dumps(synthetic))
    options = Options(
        (str(tmp_path),), str(tmp_path / "out"), masks=(("m", "."),), image_size=(7, 3), workers=1
    )
    compress(options)
    np.testing.assert_array_equal(np.load(tmp_path / "out-masks-m.npy"), np.zeros((1, 3, 7, 1)))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["all"], "in pairs"),
        (["a", ".", "b"], "in pairs"),
        (["a", ".", "a", "x"], "given twice"),
        (["", "."], "file's name"),
        (["a/b", "."], "file's name"),
        (["a", "("], "not a regular expression"),
    ],
)
def test_mask_arguments_that_make_no_sense(
    command: Command, campaign: Path, tmp_path: Path, words: list[str], message: str
) -> None:
    done = command("--mask", *words, "--", campaign)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert os.listdir(tmp_path) == []


def test_a_null_byte_in_a_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="file's name"):
        Options((str(tmp_path),), masks=(("a\0", "."),))


def test_without_the_extra_it_says_what_to_install(campaign: Path, tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['OpenEXR'] = None;"
        "from limbo_compress.cli.start import main; sys.exit(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "--mask", "all", ".", "--", str(campaign)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == (
        "limbo-compress: --mask needs OpenEXR and mmh3; pip install 'limbo-compress[masks]'\n"
    )
    assert os.listdir(tmp_path) == []
