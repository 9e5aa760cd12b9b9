"""Folders of labels, read by Hugging Face datasets and torchvision."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from limbo_compress import export_dataset, load
from limbo_compress.export.imagefolder import folder_name
from tests.jobs import Command

LABELS = {"small": "^30", "big one": "^48"}


def expected(prefix: Path) -> dict[str, str]:
    """The label of each row that has one, by the name of its picture."""
    table = load(prefix).labels(LABELS)
    names = ["small" if small else "big one" if big else "" for small, big in table]
    return {f"{row:06d}.png": name for row, name in enumerate(names) if name}


@pytest.fixture
def folder(export: Command, prefix: Path, tmp_path: Path) -> Path:
    labels = ",".join(f"{label}={pattern}" for label, pattern in LABELS.items())
    done = export(prefix, "--to", "imagefolder", "-o", "out", "--labels", labels, "--split", 0.5)
    assert done.returncode == 0, done.stderr
    return tmp_path / "out"


def test_each_row_is_in_the_folder_of_its_label(folder: Path, prefix: Path) -> None:
    found = {path.name: unquote(path.parent.name) for path in folder.glob("*/*/*.png")}
    assert found == expected(prefix)
    assert {path.name for path in folder.iterdir()} == {"train", "val"}


def test_a_label_that_comes_too_late_has_no_folder(
    export: Command, prefix: Path, tmp_path: Path
) -> None:
    labels = "all=^(real|synthetic)$,late=^48"
    arguments = ("--to", "imagefolder", "-o", "out", "--labels", labels, "--split", "0.5")
    done = export(prefix, *arguments)
    assert done.returncode == 0
    assert "limbo-export: label late: no row has it before another one\n" in done.stderr
    assert [path.name for path in (tmp_path / "out").glob("*/*")] == ["all", "all"]


def test_rows_without_a_label_are_left_out(export: Command, prefix: Path, tmp_path: Path) -> None:
    done = export(prefix, "--to", "imagefolder", "-o", "out", "--labels", "photograph=^real$")
    assert done.returncode == 0
    assert done.stdout == f"{tmp_path}/out  3 rows  0 boxes\n"
    assert "limbo-export: 9 of 12 rows have no label and are left out\n" in done.stderr
    pictures = sorted((tmp_path / "out" / "photograph").iterdir())
    photographs = np.flatnonzero(load(prefix).labels("real"))
    assert [path.name for path in pictures] == [f"{row:06d}.png" for row in photographs]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_hugging_face_reads_it(
    folder: Path, prefix: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    datasets = pytest.importorskip("datasets", reason="Hugging Face datasets is not installed")
    found = datasets.load_dataset(
        "imagefolder", data_dir=str(folder), cache_dir=str(tmp_path / "c")
    )
    assert set(found) == {"train", "validation"}
    labels = expected(prefix)
    assert len(found["train"]) + len(found["validation"]) == len(labels)
    for part in found.values():
        names = part.features["label"].names
        for item in part:
            path = Path(item["image"].filename)
            assert unquote(names[item["label"]]) == labels[path.name]
            assert item["image"].size == (64, 48)


def test_torchvision_reads_it(folder: Path, prefix: Path) -> None:
    try:
        import torchvision
    except (ImportError, RuntimeError):  # RuntimeError: built for another PyTorch
        pytest.skip("torchvision is not installed, or is for another PyTorch")
    labels = expected(prefix)
    for part in ("train", "val"):
        found = torchvision.datasets.ImageFolder(folder / part)
        assert [unquote(name) for name in found.classes] == sorted(LABELS)
        for path, number in found.samples:
            assert unquote(found.classes[number]) == labels[Path(path).name]


def test_without_labels_all_pictures_are_in_one_folder(tmp_path: Path) -> None:
    np.save(tmp_path / "x-images.npy", np.ones((3, 2, 2, 3), np.float16))
    export_dataset(load(tmp_path / "x"), "imagefolder", tmp_path / "out", workers=1)
    pictures = sorted((tmp_path / "out" / "images").iterdir())
    assert [path.name for path in pictures] == ["000000.png", "000001.png", "000002.png"]
    with Image.open(pictures[0]) as picture:
        assert picture.getpixel((0, 0)) == (255, 255, 255)


SAFE = set(string.ascii_letters + string.digits + "%-_")


@given(st.text() | st.sampled_from([".", "..", "/", "a/../b", "\0", "\ud800", "con", "x" * 5000]))
def test_folder_names_are_safe_and_tell_the_label(label: str) -> None:
    name = folder_name(label)
    assert 0 < len(name) <= 140
    assert set(name) <= SAFE
    if len(name) < 140 and label:
        assert unquote(name, errors="surrogatepass") == label


@given(st.lists(st.text() | st.text("ab", min_size=200), unique=True))
def test_different_labels_have_different_folders(labels: list[Any]) -> None:
    assert len({folder_name(label) for label in labels}) == len(labels)
