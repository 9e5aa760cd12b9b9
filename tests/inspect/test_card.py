"""Data cards and Croissant: what they say, of sets of any text, and who accepts them."""

from __future__ import annotations

import hashlib
import json
import re
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from limbo_compress import (
    OutputError,
    UsageError,
    compress,
    load,
    provenance,
    write_card,
    write_croissant,
)
from tests.export.sources import compressed, reference, write_sample
from tests.inspect.sets import HOSTILE, write_set
from tests.jobs import Command, job

CREDIT = {"copyright": "A. Photographer", "license": "CC BY 2.0", "uri": "https://example.org/1"}


def sections(path: Path) -> dict[str, str]:
    """The sections of a card by their titles; what comes before has none."""
    text = path.read_text(encoding="utf-8")
    head, *parts = re.split(r"^## (.*)\n", text, flags=re.MULTILINE)
    return {"": head} | dict(zip(parts[::2], parts[1::2], strict=True))


def table(text: str, head: str) -> dict[str, str]:
    """The last cell of each row of a table by the first one; the table's first head is given."""
    (found,) = re.findall(rf"^\| {head} \|.*\n\|[- |]+\n((?:\|.*\n)+)", text, re.MULTILINE)
    rows = [line.strip("| ").split(" | ") for line in found.splitlines()]
    return {row[0]: row[-1] for row in rows}


def front_matter(path: Path) -> dict[str, Any]:
    """The front matter as Hugging Face reads it; all keys are ones that it documents."""
    hub = pytest.importorskip("huggingface_hub", reason="Hugging Face's hub is not installed")
    data = hub.DatasetCard(path.read_text(encoding="utf-8")).data.to_dict()
    known = ("pretty_name", "license", "license_name", "license_link", "size_categories")
    assert data.keys() <= {*known, "task_categories", "tags"}
    return dict(data)


def croissant(path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A description as mlcroissant reads it, without any error and without a network."""
    library = pytest.importorskip("mlcroissant", reason="mlcroissant is not installed")

    def refuse(*_: Any) -> None:
        raise AssertionError("it asks the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    found = library.Dataset(jsonld=str(path))
    assert not found.metadata.ctx.issues.errors
    return found


@pytest.fixture
def campaigns(tmp_path: Path) -> Path:
    """Three rows: two renders of campaign 17, of which one has a cryptomatte, and a photograph."""
    box = {"category": "48G", "bbox": [1, 2, 3, 4], "bbox_mode": "XYWH_ABS"}
    for name in "ab":
        write_sample(tmp_path / "data/campaign17/0000", name, [box], synthetic={"parameters": {}})
    write_sample(tmp_path / "data/ref", "c", [{"category": "real"}], provenance=CREDIT)
    return compressed(tmp_path)


def test_a_card_says_what_the_table_says(campaigns: Path, tmp_path: Path) -> None:
    dataset = load(campaigns)
    assert write_card(dataset, tmp_path / "card.md") == str(tmp_path / "card.md")
    found = sections(tmp_path / "card.md")
    titles = ["How it was made", "What is in it", "Licenses and credits", "Citations"]
    assert list(found) == ["", *titles, "Known limits"]
    assert provenance(dataset)[0].line in found["How it was made"]
    assert table(found[""], "file").keys() == {"out-images.npy", "out-metadata.pickle"}
    assert table(found["What is in it"], "campaign") == {"campaign17": "2", "ref": "1"}
    assert table(found["What is in it"], "category") == {"48G": "2", "real": "1"}
    licenses = table(found["Licenses and credits"], "copyright")
    assert licenses == {"A. Photographer": "1", "not given": "2"}
    assert found["Citations"].startswith(
        "\n- campaign17: SAND2022-13738 O\n- ref: SAND2022-0160 O\n"
    )
    for limit in (
        "3 of 3 rows have no cryptomatte",
        "1 of 3 rows are photographs",
        "2 of 3 rows name no license.",
        "1 of 3 rows have no box.",
    ):
        assert f"- {limit}" in found["Known limits"]
    assert "campaign that is not known" not in found["Known limits"]


def test_hugging_face_reads_the_front_matter(campaigns: Path, tmp_path: Path) -> None:
    write_card(load(campaigns), tmp_path / "all.md")
    assert front_matter(tmp_path / "all.md") == {
        "pretty_name": "out",
        "license": "other",
        "license_name": "see-licenses-and-credits",
        "size_categories": ["n<1K"],
        "task_categories": ["image-classification", "object-detection"],
        "tags": ["limbo", "nuclear-safeguards", "synthetic"],
    }
    write_card(load(campaigns)[:2], tmp_path / "renders.md")
    renders = front_matter(tmp_path / "renders.md")
    assert (renders["license"], renders["license_name"]) == ("other", "limbo-terms-of-use")
    assert renders["license_link"].startswith("https://github.com/limbo-ml/user/")
    assert "2 of 3 rows are described" in (tmp_path / "renders.md").read_text()
    write_card(load(reference(tmp_path, {})), tmp_path / "unknown.md")
    assert front_matter(tmp_path / "unknown.md")["license"] == "unknown"


@pytest.mark.parametrize(
    ("rows", "category"),
    [(999, "n<1K"), (1000, "1K<n<10K"), (100_000, "100K<n<1M"), (1_000_000, "1M<n<10M")],
)
def test_sizes_are_those_of_hugging_face(tmp_path: Path, rows: int, category: str) -> None:
    np.save(tmp_path / "x-images.npy", np.zeros((1, 1, 1, 3), np.float16))
    write_card(load(tmp_path / "x")[np.zeros(rows, int)], tmp_path / "card.md")
    assert front_matter(tmp_path / "card.md")["size_categories"] == [category]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_croissant_validates_and_holds_the_counts(
    campaigns: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[tuple[int, int]] = []
    path = tmp_path / "out.json"
    written = write_croissant(load(campaigns), path, lambda *steps: done.append(steps))
    assert (written, done[-1]) == (str(path), (3, 3))
    found = croissant(path, monkeypatch)
    assert found.metadata.license[1:] == ["CC BY 2.0"]
    assert "SAND2022-13738 O; SAND2022-0160 O" in found.metadata.cite_as
    assert provenance(load(campaigns))[0].line in found.metadata.data_preprocessing_protocol[0]
    files = {each.content_url: each for each in found.metadata.distribution}
    assert files.keys() == {"out-images.npy", "out-metadata.pickle"}
    for name, file in files.items():
        data = (tmp_path / name).read_bytes()
        assert file.sha256 == hashlib.sha256(data).hexdigest()
        assert file.content_size == f"{len(data)} B"
    campaigns_ = [tuple(each.values()) for each in found.records("campaigns")]
    assert campaigns_ == [("campaign17", "SAND2022-13738 O", 2), ("ref", "SAND2022-0160 O", 1)]
    categories = [tuple(each.values()) for each in found.records("categories")]
    assert categories == [("48G", 2), ("real", 1)]
    fields = {field.name: field for each in found.metadata.record_sets for field in each.fields}
    assert fields["images"].array_shape == "48,64,3"
    assert {"path", "campaign", "license", "synthetic", "boxes"} < fields.keys()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_prefixes_are_splits(
    campaigns: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix = str(tmp_path / "ref")
    compress(job(tmp_path / "data/ref", tmp_path, prefix=prefix, image_size=(64, 48)))
    both = load([campaigns, prefix])
    write_card(both, tmp_path / "card.md")
    counts = table(sections(tmp_path / "card.md")["What is in it"], "prefix")
    assert counts == {"out": "3", "ref": "1"}
    (tmp_path / "elsewhere").mkdir()
    write_croissant(both, tmp_path / "elsewhere" / "both.json")
    found = croissant(tmp_path / "elsewhere" / "both.json", monkeypatch)
    assert [tuple(each.values()) for each in found.records("splits")] == [("out", 3), ("ref", 1)]
    addresses = [each.content_url for each in found.metadata.distribution]
    assert addresses[0] == "../out-images.npy"
    assert len({*addresses}) == 4


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_texts_of_any_kind_break_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [*HOSTILE, "| a | b |", "---\nlicense: mit\n---", "[x](javascript:y)", "x" * 1_000_000]
    samples = [
        {
            "annotations": [{"category": text}],
            "provenance": dict.fromkeys(("license", "copyright", "uri", "license-uri"), text),
            "synthetic": {"parameters": {f"/{text[:2000]}": 1}},
        }
        for text in texts
    ]
    paths = [f"/data/campaign{number}/x.json" for number in range(len(texts))]
    prefix = write_set(tmp_path / "a b\n<i>", np.zeros((len(texts), 8, 8, 3)), samples, paths)
    write_card(load(prefix), tmp_path / "card.md")
    text = (tmp_path / "card.md").read_text(encoding="utf-8")
    assert all(line.isprintable() and len(line) < 3000 for line in text.split("\n"))
    _, _, body = text.split("---\n", 2)
    markdown = re.sub(r"```.*?```", "", body, flags=re.DOTALL)
    assert not re.search(r"(?<!\\)<(?!https?://[^<>|]*>)", markdown)
    assert front_matter(tmp_path / "card.md")["license_name"] == "see-licenses-and-credits"
    cells = [line for line in text.split("\n") if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in cells} == {3, 5}
    write_croissant(load(prefix), tmp_path / "x.json")
    assert all(len(line) < 10_000 for line in (tmp_path / "x.json").read_text().split("\n"))
    croissant(tmp_path / "x.json", monkeypatch)


def test_the_same_outputs_give_the_same_bytes(campaigns: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_card(load(campaigns), tmp_path / f"{name}.md")
        write_croissant(load(campaigns), tmp_path / f"{name}.json")
    for suffix in (".md", ".json"):
        one, two = ((tmp_path / name).with_suffix(suffix).read_bytes() for name in ("one", "two"))
        assert one == two


def test_the_command_writes_both(campaigns: Path, tmp_path: Path, inspect: Command) -> None:
    (tmp_path / "card.md").write_text("an older one")
    done = inspect("out", "--card", "card.md", "--croissant", "out.json", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {"card": "card.md", "croissant": "out.json"}
    assert "campaign17" in (tmp_path / "card.md").read_text()
    assert json.loads((tmp_path / "out.json").read_text())["name"] == "out"
    assert not list(tmp_path.glob(".*.partial"))


def test_what_cannot_be_described_is_one_error(campaigns: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="whole files, but 2 of 3 rows are chosen"):
        write_croissant(load(campaigns)[:2], tmp_path / "out.json")
    with pytest.raises(UsageError, match="whole files"):
        write_croissant(load(campaigns)[::-1], tmp_path / "out.json")
    with pytest.raises(UsageError, match="a prefix is given twice"):
        write_croissant(load([campaigns, campaigns]), tmp_path / "out.json")
    with pytest.raises(OutputError, match="cannot write it"):
        write_card(load(campaigns), tmp_path / "none" / "card.md")
    assert not (tmp_path / "out.json").exists()
