"""Jobs that write masks."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from limbo_compress import Options, SampleError, UsageError, compress
from tests.jobs import (
    Command,
    empty_mask_warning,
    error_line,
    job,
    labels_below,
    remove_cryptomattes,
)


def masks_of(folder: Path, prefix: str = "out") -> dict[str, NDArray[np.float32]]:
    start = f"{prefix}-masks-"
    paths = sorted(folder.glob(f"{start}*.npy"))
    return {path.stem.removeprefix(start): np.load(path) for path in paths}


THREE_MASKS = (("all", "."), ("big", "^48"), ("none", "^$"))


def test_masks_cover_the_labels_that_match(campaign: Path, tmp_path: Path) -> None:
    compress(job(campaign, tmp_path, masks=THREE_MASKS, workers=2))
    masks = masks_of(tmp_path)
    assert list(masks) == ["all", "big", "none"]
    for array in masks.values():
        assert array.dtype == np.float32
        assert array.shape == (12, 24, 32, 1)
    assert 0 < masks["big"].mean() < masks["all"].mean()
    assert not masks["none"].any()


def test_photographs_have_no_mask(campaign: Path, tmp_path: Path) -> None:
    compress(job(campaign, tmp_path, masks=THREE_MASKS))
    paths = sorted(campaign.rglob("*.json"))
    samples = [json.loads(path.read_text()) for path in paths]
    are_renders = ["cryptomatte" in sample.get("synthetic", {}) for sample in samples]
    assert {True, False} == set(are_renders)
    assert [bool(row.any()) for row in masks_of(tmp_path)["all"]] == are_renders


def test_a_range_of_samples_gives_their_masks_alone(campaign: Path, tmp_path: Path) -> None:
    compress(job(campaign, tmp_path, masks=THREE_MASKS))
    change = {"prefix": str(tmp_path / "part"), "images": False, "start": 5, "end": 7}
    compress(job(campaign, tmp_path, masks=THREE_MASKS, **change))
    whole = masks_of(tmp_path)
    for name, array in masks_of(tmp_path, "part").items():
        np.testing.assert_array_equal(array, whole[name][5:7])
    assert not (tmp_path / "part-images.npy").exists()


def test_the_flag_may_be_repeated(command: Command, campaign: Path, tmp_path: Path) -> None:
    done = command("--mask", "all", ".", "big", "^48", "--prefix", "once", "--", campaign)
    assert done.returncode == 0, done.stderr
    done = command(
        "--mask", "all", ".", "--prefix", "twice", "--mask", "big", "^48", "--", campaign
    )
    assert done.returncode == 0, done.stderr
    once, twice = masks_of(tmp_path, "once"), masks_of(tmp_path, "twice")
    assert list(once) == list(twice) == ["all", "big"]
    for name, array in once.items():
        np.testing.assert_array_equal(array, twice[name])


def warnings_of(done: subprocess.CompletedProcess[str]) -> list[str]:
    """All that the command, which did its job, prints but its progress."""
    assert done.returncode == 0, done.stderr
    return [line for line in done.stderr.splitlines() if " samples, " not in line]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_mask_without_a_hit_is_named_with_the_nearest_labels(
    command: Command, campaign: Path, tmp_path: Path, workers: int
) -> None:
    words = ("--mask", "all", ".", "big", "^84")
    done = command(*words, "--workers", workers, "--", campaign)
    assert warnings_of(done) == [empty_mask_warning("big", "^84", labels_below(campaign))]
    assert not masks_of(tmp_path, "compressed")["big"].any()
    quiet = command(*words, "--quiet", "--", campaign)
    assert (quiet.returncode, quiet.stderr) == (0, "")


def test_several_masks_without_a_hit_share_a_warning(
    command: Command, campaign: Path, tmp_path: Path
) -> None:
    done = command("--mask", "big", "^84", "--mask", "small", "30b", "--", campaign)
    (line,) = warnings_of(done)
    assert line.startswith("limbo-compress: --mask big '^84', small '30b': all zeros, because no ")
    assert "nearest labels: 30B/" in line


def test_the_report_names_masks_without_a_hit(campaign: Path, tmp_path: Path) -> None:
    assert compress(job(campaign, tmp_path, masks=THREE_MASKS)).empty_masks == ("none",)
    change = {"prefix": str(tmp_path / "part"), "partition": "0/2"}
    assert compress(job(campaign, tmp_path, masks=THREE_MASKS, **change)).empty_masks == ()


def renders(data: Path) -> list[Path]:
    return [path for path in sorted(data.rglob("*.json")) if "cryptomatte" in path.read_text()]


def change_manifest(path: Path, *more: str) -> None:
    """Add labels to a manifest, of which no pixel knows."""
    metadata = json.loads(path.read_text())
    metadata["synthetic"]["cryptomatte"]["manifest"] += more
    path.write_text(json.dumps(metadata))


def test_a_label_that_covers_nothing_is_no_hit(command: Command, data: Path) -> None:
    change_manifest(renders(data)[2], "84/0")
    done = command("--mask", "big", "^84", "--", data)
    assert warnings_of(done) == [empty_mask_warning("big", "^84", labels_below(data))]
    assert "nearest labels: 84/0, 48" in done.stderr


def test_at_most_twenty_labels_are_named(command: Command, data: Path) -> None:
    for number, path in enumerate(renders(data)):
        change_manifest(path, *(f"84{letter}/{number}" for letter in "ABCDEFGH"))
    change_manifest(renders(data)[0], "84" + 1000 * "x")
    done = command("--mask", "big", "^84[A-Z]", "--", data)
    assert warnings_of(done) == [empty_mask_warning("big", "^84[A-Z]", labels_below(data))]
    assert done.stderr.partition("nearest labels: ")[2].count(", 84") == 19


def test_one_hit_is_enough(data: Path, command: Command) -> None:
    """One sample, in the last shard, has a cryptomatte with a label that matches."""
    remove_cryptomattes(renders(data)[:-1])
    done = command("--mask", "m", ".", "--workers", "1", "--", data)
    assert warnings_of(done) == []


def test_without_any_cryptomatte_the_warning_says_so(data: Path, command: Command) -> None:
    remove_cryptomattes(renders(data))
    done = command("--mask", "m", ".", "--", data)
    assert warnings_of(done) == [
        "limbo-compress: --mask m '.': all zeros, because no sample has a cryptomatte with labels"
    ]


def test_arguments_after_two_dashes_are_directories(command: Command, campaign: Path) -> None:
    """As in the reference."""
    done = command("--mask", "all", ".", "--", campaign, "--workers", 2)
    assert "--workers: no such directory" in error_line(done, 2)


def test_masks_alone_need_no_image(data: Path, tmp_path: Path) -> None:
    for image in data.rglob("image_*.png"):
        image.unlink()
    options = job(data, tmp_path, masks=THREE_MASKS, images=False, metadata=False)
    assert compress(options).samples == 12


@pytest.mark.parametrize(
    ("section", "reason"),
    [
        ({"filename": "gone.exr", "manifest": []}, "gone.exr: cannot read it"),
        ({"filename": "../x.exr", "manifest": []}, "not a plain file name"),
        ({"filename": "x.exr"}, "manifest is neither a list nor"),
        ({"filename": "x.exr", "manifest": [1]}, "manifest is neither a list nor"),
        ([], "manifest is neither a list nor"),
        ({"manifest": []}, r"no synthetic\.cryptomatte\.filename"),
    ],
)
def test_a_bad_cryptomatte_is_a_bad_sample(tmp_path: Path, section: Any, reason: str) -> None:
    (tmp_path / "x.json").write_text(json.dumps({"synthetic": {"cryptomatte": section}}))
    with pytest.raises(SampleError, match=reason):
        compress(job(tmp_path, tmp_path, masks=(("m", "."),), images=False, metadata=False))
    assert os.listdir(tmp_path) == ["x.json"]


@pytest.mark.parametrize("synthetic", [{}, {"synthetic": {}}, {"synthetic": {"cryptomatte": None}}])
def test_a_sample_without_cryptomatte_has_zeros(tmp_path: Path, synthetic: Any) -> None:
    (tmp_path / "x.json").write_text(json.dumps(synthetic))
    compress(job(tmp_path, tmp_path, masks=(("m", "."),), images=False, metadata=False))
    np.testing.assert_array_equal(np.load(tmp_path / "out-masks-m.npy"), np.zeros((1, 24, 32, 1)))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["all"], "in pairs"),
        (["a", ".", "b"], "in pairs"),
        (["a", ".", "a", "x"], "given twice"),
        (["a", ".", "--mask", "a", "x"], "given twice"),
        (["a", "--mask", "."], "in pairs"),
        (["", "."], "file's name"),
        (["a/b", "."], "file's name"),
        (["a", "("], "not a regular expression"),
    ],
)
def test_invalid_mask_arguments_are_refused(
    command: Command, campaign: Path, tmp_path: Path, words: list[str], message: str
) -> None:
    assert message in error_line(command("--mask", *words, "--", campaign), 2)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "masks", [("ab", "xy"), ("big", "^48"), [("a", re.compile("^48"))], [("a",)], {"a": None}]
)
def test_masks_that_are_no_pairs_of_str_are_refused(tmp_path: Path, masks: Any) -> None:
    with pytest.raises(UsageError, match="wrong type"):
        Options((str(tmp_path),), masks=masks)


def test_a_null_byte_in_a_mask_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="file's name"):
        Options((str(tmp_path),), masks={"a\0": "."})


def test_without_the_extra_the_error_says_what_to_install(
    command: Command, campaign: Path, tmp_path: Path
) -> None:
    arguments = ("OpenEXR", "main", "--mask", "all", ".", "--", campaign)
    done = command(*arguments, module="tests.programs.without")
    assert error_line(done, 2) == (
        "limbo-compress: --mask needs OpenEXR and mmh3; pip install 'limbo-compress[masks]'\n"
    )
    assert os.listdir(tmp_path) == []
