"""Folders of labels, read by Hugging Face datasets; by torchvision in `check_torchvision`."""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from limbo_compress import export_dataset, load
from limbo_compress.export.imagefolder import folder_names
from tests.export.sources import hugging_face, reference
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
    assert {path.name for path in folder.iterdir()} == {"CREDITS", "train", "val"}


def test_a_label_that_comes_too_late_has_no_folder(
    export: Command, prefix: Path, tmp_path: Path
) -> None:
    labels = "all=^(real|synthetic)$,late=^48"
    arguments = ("--to", "imagefolder", "-o", "out", "--labels", labels, "--split", "0.5")
    done = export(prefix, *arguments)
    assert done.returncode == 0
    assert "limbo-export: label late: no row has it before another one\n" in done.stderr
    folders = [path.name for path in (tmp_path / "out").glob("*/*") if path.is_dir()]
    assert folders == ["all", "all"]


def test_rows_without_a_label_are_left_out(export: Command, prefix: Path, tmp_path: Path) -> None:
    done = export(prefix, "--to", "imagefolder", "-o", "out", "--labels", "photograph=^real$")
    assert done.returncode == 0
    assert done.stdout == f"{tmp_path}/out  3 rows  0 boxes  3 without a cryptomatte\n"
    assert "limbo-export: 9 of 12 rows have no label and are left out\n" in done.stderr
    pictures = sorted((tmp_path / "out" / "photograph").iterdir())
    photographs = np.flatnonzero(load(prefix).labels("real"))
    assert [path.name for path in pictures] == [f"{row:06d}.png" for row in photographs]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_hugging_face_reads_it(
    folder: Path, prefix: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = hugging_face(tmp_path, monkeypatch)
    found = datasets.load_dataset("imagefolder", data_dir=str(folder))
    assert set(found) == {"train", "validation"}
    labels = expected(prefix)
    assert len(found["train"]) + len(found["validation"]) == len(labels)
    for part in found.values():
        names = part.features["label"].names
        for item in part:
            path = Path(item["image"].filename)
            assert unquote(names[item["label"]]) == labels[path.name]
            assert item["image"].size == (64, 48)


def test_without_labels_all_pictures_are_in_one_folder(tmp_path: Path) -> None:
    np.save(tmp_path / "x-images.npy", np.ones((3, 2, 2, 3), np.float16))
    export_dataset(load(tmp_path / "x"), "imagefolder", tmp_path / "out", workers=1)
    pictures = sorted((tmp_path / "out" / "images").iterdir())
    assert [path.name for path in pictures] == ["000000.png", "000001.png", "000002.png"]
    with Image.open(pictures[0]) as picture:
        assert picture.getpixel((0, 0)) == (255, 255, 255)


# Labels that Hugging Face would read as splits, or ignore, in every form that its rules have.
WORDS = (
    *("train", "training", "validation", "valid", "dev", "val"),
    *("test", "testing", "eval", "evaluation"),
)
MISREAD = (
    *WORDS,
    *(f"30B {word}" for word in WORDS),
    *(f"{word}-2" for word in WORDS),
    *(f"a.{word}_b" for word in WORDS),
    *(f"7{word}7" for word in WORDS),
    *("train-val test", "__init__", "__test", "DEV", "Dev", "x" * 115 + "-train" + "e" * 50),
)


def rows_with(labels: Sequence[str], folder: Path) -> tuple[Path, dict[str, str]]:
    """A row of each category, and its pattern."""
    samples = [{"annotations": [{"category": label}]} for label in labels]
    return reference(folder, *samples, size=(4, 3)), {
        label: f"^{re.escape(label)}$" for label in labels
    }


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("out", ["out", "test"])
def test_hugging_face_takes_no_label_for_a_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str
) -> None:
    prefix, labels = rows_with(MISREAD, tmp_path)
    datasets = hugging_face(tmp_path, monkeypatch)
    dataset = load(prefix)
    export_dataset(dataset, "imagefolder", tmp_path / out, labels=labels, workers=1)
    (split, found), *more = datasets.load_dataset(
        "imagefolder", data_dir=str(tmp_path / out)
    ).items()
    assert (split, more) == ("train", [])
    names = found.features["label"].names
    rows = {int(Path(item["image"].filename).stem): names[item["label"]] for item in found}
    assert {row: unquote(name) for row, name in rows.items() if len(name) < 130} == {
        row: label for row, label in enumerate(MISREAD) if len(label) < 100
    }
    assert len(rows) == len(set(rows.values())) == len(MISREAD)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_no_row_of_a_part_is_in_another_for_hugging_face(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix, labels = rows_with(MISREAD * 2, tmp_path)
    datasets = hugging_face(tmp_path, monkeypatch)
    rows, train, val = len(MISREAD), *(np.arange(part, 2 * len(MISREAD), 2) for part in (0, 1))
    dataset = load(prefix)
    export_dataset(
        dataset.select(train),
        *("imagefolder", tmp_path / "out", labels),
        val=dataset.select(val[5:]),
        test=dataset.select(val[:5]),
    )
    found = datasets.load_dataset("imagefolder", data_dir=str(tmp_path / "out"))
    assert {name: len(part) for name, part in found.items()} == {
        "train": rows,
        "validation": rows - 5,
        "test": 5,
    }
    numbers = {n: [int(Path(item["image"].filename).stem) for item in p] for n, p in found.items()}
    assert sorted(numbers["train"]) == list(range(rows))
    assert sorted(numbers["validation"]) == list(range(rows, 2 * rows - 5))


SAFE = set(string.ascii_letters + string.digits + "%-_")
RESERVED = {"con", "prn", "aux", "nul"} | {
    f"{port}{n}" for port in ("com", "lpt") for n in range(10)
}
ODD = (".", "..", "/", "a/../b", "\0", "\ud800", "con", "NUL", "lpt1", "a.", "a ", "x" * 5000)
hostile = st.text() | st.sampled_from(ODD + MISREAD)
close = st.text("aAbB", max_size=3) | st.text("ab", min_size=200) | st.sampled_from(["con", "Con"])


@given(hostile)
def test_folder_names_are_safe_and_tell_the_label(label: str) -> None:
    (name,) = folder_names([label]).values()
    assert 0 < len(name) <= 140
    assert set(name) <= SAFE
    assert name.lower() not in RESERVED
    if len(name) < 140 and label:
        assert unquote(name, errors="surrogatepass") == label


@given(st.lists(hostile | close, unique=True))
def test_different_labels_have_different_folders(labels: list[str]) -> None:
    """Even where the filesystem ignores case."""
    names = folder_names(labels)
    assert list(names) == labels
    assert len({name.lower() for name in names.values()}) == len(labels)
    assert all(
        unquote(name, errors="surrogatepass") == label
        for label, name in names.items()
        if label and len(name) < 140
    )


@given(st.permutations(["48g", "48G", "30B", "dev", "Dev", "DEV"]))
def test_the_order_of_labels_changes_no_name(labels: list[str]) -> None:
    assert folder_names(labels) == folder_names(sorted(labels))
