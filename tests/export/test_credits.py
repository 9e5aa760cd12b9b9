"""The file CREDITS: whom to credit for which pictures, and what to cite."""

from __future__ import annotations

import re
import tarfile
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from limbo_compress import EXPORT_FORMATS, choose_rows, concat, export_dataset, load
from tests.annotations import box
from tests.export.sources import compressed, reference, write_sample
from tests.jobs import REAL_SAMPLES, Command

PHOTOGRAPH = {
    "copyright": "A. Photographer, 2019",
    "license": "CC BY 2.0",
    "license-uri": "https://creativecommons.org/licenses/by/2.0/",
    "uri": "https://example.org/1",
}
WITH_PICTURES = [name for name in EXPORT_FORMATS if name != "parquet"]


def samples(folder: Path, *provenances: dict[str, Any] | None) -> None:
    """Write a sample for each provenance into a folder."""
    for number, provenance in enumerate(provenances):
        more: dict[str, Any] = {} if provenance is None else {"provenance": provenance}
        write_sample(folder, f"{number}", [box(1, 2, 30, 40)], **more)


def blocks(text: str) -> list[str]:
    """The paragraphs of a file, each in one line."""
    return [" ".join(block.split()) for block in text.split("\n\n")]


def credits_of(out: Path) -> list[str]:
    """The paragraphs of the file CREDITS of an export, or of its only shard."""
    shards = list(out.glob("*.tar"))
    if not shards:
        return blocks((out / "CREDITS").read_text(encoding="utf-8"))
    with tarfile.open(shards[0]) as tar:
        stream = tar.extractfile("CREDITS")
        assert stream is not None
        return blocks(stream.read().decode())


@pytest.fixture
def campaigns(tmp_path: Path) -> Path:
    """Six rows: two renders, three photographs, and one of which nothing is known."""
    samples(tmp_path / "data/campaign17/0000", None, None)
    samples(tmp_path / "data/ref", PHOTOGRAPH, {"license": "CC0"}, PHOTOGRAPH)
    samples(tmp_path / "data/somewhere", None)
    return compressed(tmp_path)


@pytest.mark.parametrize("to", WITH_PICTURES)
def test_every_export_with_pictures_names_each_row_once(
    campaigns: Path, tmp_path: Path, to: str
) -> None:
    export_dataset(load(campaigns), to, tmp_path / to)
    found = credits_of(tmp_path / to)
    assert found[2:6] == [
        "2 rows: 2, 4 copyright: A. Photographer, 2019 license: CC BY 2.0 license at:"
        " https://creativecommons.org/licenses/by/2.0/ source: https://example.org/1",
        "1 row: 3 license: CC0",
        "3 rows: 0-1, 5 not known: no copyright, license or source is given",
        "3 of 6 rows name no license.",
    ]
    assert found[6:10] == [
        "What to cite",
        "2 rows: 0-1 campaign17: SAND2022-13738 O",
        "3 rows: 2-4 ref: SAND2022-0160 O",
        "1 row: 5 campaign not known: if it is one of Limbo's, cite its SAND report",
    ]
    assert "non-commercial" in found[10]


def test_a_table_without_pictures_needs_none(campaigns: Path, tmp_path: Path) -> None:
    export_dataset(load(campaigns), "parquet", tmp_path / "out")
    assert not (tmp_path / "out" / "CREDITS").exists()


def test_chosen_rows_keep_their_numbers_and_nothing_else_is_named(
    campaigns: Path, tmp_path: Path
) -> None:
    export_dataset(load(campaigns), "coco", tmp_path / "out", rows=[1, 3])
    found = credits_of(tmp_path / "out")
    assert found[2:5] == [
        "1 row: 3 license: CC0",
        "1 row: 1 not known: no copyright, license or source is given",
        "1 of 2 rows name no license.",
    ]
    # A view is a set of its own, whose rows are numbered anew.
    export_dataset(load(campaigns)[[3, 2]], "coco", tmp_path / "view")
    assert credits_of(tmp_path / "view")[2] == "1 row: 0 license: CC0"


def test_folders_of_splits_and_shards_have_their_own(campaigns: Path, tmp_path: Path) -> None:
    rows = load(campaigns)
    out = tmp_path / "folders"
    export_dataset(rows[:2], "imagefolder", out, val=rows[2:4], test=rows[4:])
    for split, expected in {"train": ["0-1"], "val": ["2", "3"], "test": ["4", "5"]}.items():
        text = (out / split / "CREDITS").read_text()
        assert re.findall("^[12] rows?: (.*)$", text.partition("What to cite")[0], re.M) == expected
    export_dataset(rows, "webdataset", tmp_path / "shards", shard_size=4)
    with tarfile.open(tmp_path / "shards/shard-000001.tar") as tar:
        assert tar.getnames()[-1] == "CREDITS"
        text = tar.extractfile("CREDITS").read().decode()  # type: ignore[union-attr]
    assert blocks(text)[4] == "1 of 2 rows name no license."


@pytest.mark.parametrize("label", ["CREDITS", "credits"])
def test_a_label_of_its_name_is_a_folder_of_another(
    campaigns: Path, tmp_path: Path, label: str
) -> None:
    export_dataset(load(campaigns), "imagefolder", tmp_path / "out", labels={label: "."})
    folder, file = sorted((tmp_path / "out").iterdir(), key=lambda path: path.is_file())
    assert (file.name, unquote(folder.name)) == ("CREDITS", label)
    assert folder.name.lower() != "credits"


def test_prefixes_without_metadata_say_nothing(campaigns: Path, tmp_path: Path) -> None:
    Path(f"{reference(tmp_path, {}, {})}-metadata.pickle").unlink()
    both = concat([load(tmp_path / "old"), load(campaigns)])
    export_dataset(both, "imagefolder", tmp_path / "out")
    found = credits_of(tmp_path / "out")
    assert found[2].startswith("2 rows: 4, 6 copyright: A. Photographer")
    assert found[4].startswith("5 rows: 0-3, 7 not known")
    assert found[7:9] == [
        "2 rows: 2-3 campaign17: SAND2022-13738 O",
        "3 rows: 4-6 ref: SAND2022-0160 O",
    ]


@pytest.mark.parametrize(
    ("folder", "report"),
    [
        ("campaign2", "SAND2021-9615 O"),
        ("campaign-05", "SAND2021-9615 O"),
        ("campaign9", "SAND2022-0008 O"),
        ("campaign10", "SAND2022-6864 O"),
        ("campaign13", "SAND2022-9272 O"),
        ("campaign20", "SAND2022-13738 O"),
        ("ref-2", "SAND2022-10310 O"),
        ("campaign1", "cite the campaign's SAND report, which Limbo's terms do not list"),
        ("campaign21", "cite the campaign's SAND report, which Limbo's terms do not list"),
        ("ref-3", "cite the campaign's SAND report, which Limbo's terms do not list"),
    ],
)
def test_each_campaign_has_the_report_of_the_documentation(
    tmp_path: Path, folder: str, report: str
) -> None:
    samples(tmp_path / "data" / folder, None)
    export_dataset(load(compressed(tmp_path)), "coco", tmp_path / "out")
    assert f"1 row: 0 {folder}: {report}" in credits_of(tmp_path / "out")


def test_texts_of_any_kind_stay_on_their_lines(tmp_path: Path) -> None:
    texts = ["two\nlines\r\x00\x1b[31m", "\ud800", "\u202ertl", "x" * 1_000_000, "\n\n5 rows: 0-4"]
    samples(tmp_path / "data", *({"license": text, "copyright": text} for text in texts))
    export_dataset(load(compressed(tmp_path)), "coco", tmp_path / "out")
    lines = (tmp_path / "out" / "CREDITS").read_text(encoding="utf-8").split("\n")
    assert all(line.isprintable() and len(line) < 2100 for line in lines)
    assert sum(line.startswith("1 row: ") for line in lines) == len(texts)
    assert not any(line.startswith("5 rows: 0-4 ") for line in lines)


@pytest.mark.skipif(not REAL_SAMPLES.is_dir(), reason="there are no real samples here")
def test_real_photographs_are_credited(tmp_path: Path, export: Command) -> None:
    rows = choose_rows(load(compressed_real(tmp_path)), where=["^real$"])
    assert len(rows) == 1
    done = export("out", "--where", "^real$", "--to", "imagefolder", "-o", "photographs")
    assert done.returncode == 0, done.stderr
    assert credits_of(tmp_path / "photographs")[2] == (
        "1 row: 2 copyright: Katy Laffan / IAEA, 2019 license: Some rights reserved, Attribution"
        " 2.0 Generic (CC BY 2.0) source: https://www.flickr.com/photos/iaea_imagebank/49397817493"
        "/in/photolist-2ig7J9v-xgT4rJ-4FvLiE-7vnLKM"
    )


def compressed_real(folder: Path) -> Path:
    (folder / "data").symlink_to(REAL_SAMPLES)
    return compressed(folder)
