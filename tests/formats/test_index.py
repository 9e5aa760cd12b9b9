from __future__ import annotations

import json
import os
import pickle
import random
import re
import struct
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from limbo_compress import compress, load
from limbo_compress.deflate import crc32
from limbo_compress.formats.facts import facts as facts_of
from limbo_compress.formats.filestate import FileState
from limbo_compress.formats.index import (
    Entry,
    Index,
    Source,
    boxed,
    categories,
    read_index,
)
from limbo_compress.formats.index_2 import IndexWriter
from limbo_compress.formats.pickling import LIST_END, LIST_START, fragment
from tests.jobs import ROOT, job
from tests.strategies import metadata

TRAILER = struct.Struct("<QI8sI")  # see docs/format.md
ARRAYS = ("images", "masks-\ud800")
file_names = st.binary(min_size=1, max_size=8).map(
    lambda name: name.replace(b"/", b"_").replace(b"\0", b"_")
)
paths = st.lists(file_names, min_size=1, max_size=5).map(lambda names: b"/" + b"/".join(names))
checksums = st.integers(0, 2**32 - 1)
names = st.text(max_size=4) | st.just("\ud800")
facts: st.SearchStrategy[dict[str, Any]] = st.dictionaries(
    st.sampled_from(["/a", "/b/\ud800", "/"]),
    st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | names,
    max_size=3,
) | st.just({"width": 720, "synthetic": True, "has_matte": False, "license": "CC"})
corners = st.tuples(*4 * [st.floats(width=32, allow_nan=False)])


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    found = sorted(draw(st.sets(names, max_size=4)))
    with_box = tuple(name for name in found if draw(st.booleans()))
    boxes = st.lists(st.tuples(st.none() | names, corners), max_size=3).map(tuple)
    return Entry(
        draw(st.integers(2, 2**28)),
        draw(checksums),
        tuple(found),
        with_box,
        draw(st.none() | boxes),
        draw(st.booleans()),
        tuple(draw(facts).items()),
    )


class Row(NamedTuple):
    """What the index says about a sample."""

    path: bytes
    entry: Entry
    sources: tuple[Source, ...] = ()
    checksums: tuple[int, ...] = (0, 0)


@st.composite
def rows(draw: st.DrawFn) -> Row:
    path = draw(paths)
    stem = os.fsdecode(path.rpartition(b"/")[2].rpartition(b".")[0])
    file_name = file_names.map(os.fsdecode) | st.sampled_from(["", "x-"]).map(
        lambda start: f"{start}{stem}.png"
    )
    sources = st.builds(Source, file_name, st.integers(0, 2**63), checksums)
    found = draw(st.lists(sources, max_size=3))
    return Row(path, draw(entries()), tuple(found), draw(st.tuples(checksums, checksums)))


MADE = {"version": "1.2.3", "masks": [["x", "."]], "opencv": "5"}


def stop_of(samples: list[Row]) -> int:
    """Where the STOP opcode is."""
    return len(LIST_START) + sum(row.entry.size for row in samples)


def written(samples: list[Row], arrays: tuple[str, ...] = ARRAYS) -> bytes:
    """The index of samples, as it follows their fragments."""
    writer = IndexWriter(arrays)
    for path, entry, sources, sums in samples:
        files = [FileState(*source[:2], 0, source[2]) for source in sources]
        writer.add(os.fsdecode(path), entry, files, sums[: len(arrays)])
    with tempfile.TemporaryFile() as stream:
        stream.seek(start := stop_of(samples) + len(LIST_END))
        writer.write(stream, MADE)
        stream.seek(start)
        return stream.read()


def parsed(data: bytes, stop: int) -> Index:
    """Read an index that follows a STOP opcode at `stop`."""
    with tempfile.TemporaryFile() as stream:
        stream.seek(stop)
        stream.write(LIST_END + data)
        stream.flush()
        index = read_index(stream.fileno())
    assert index is not None
    return index


def contents(index: Index) -> list[Row]:
    return [
        Row(
            os.fsencode(index.path(row)),
            index.entry(row),
            index.sources(row),
            tuple((index.row_checksums(name) or ())[row] for name in index.array_names),
        )
        for row in range(len(index))
    ]


@given(st.lists(rows(), max_size=12))
@example([])
@example([Row(b"/x.json", Entry(2, 0)), Row(b"/x/y.json", Entry(2, 1, ("",)))])
def test_what_is_written_is_read_back(samples: list[Row]) -> None:
    samples = sorted(samples, key=lambda row: row.path)
    index = parsed(written(samples), stop_of(samples))
    assert contents(index) == samples
    assert index.array_names == ARRAYS
    is_lossy = any(row.entry.is_lossy for row in samples)
    assert index.made == {n: value for n, value in MADE.items() if n != "opencv" or is_lossy}
    sets = list(zip(index.category_sets, index.boxed_sets or (), strict=True))
    assert len(set(sets)) == len(sets)  # each is stored once


@given(st.lists(rows(), max_size=5), st.randoms())
def test_the_order_of_the_categories_of_a_sample_changes_nothing(
    samples: list[Row], choice: random.Random
) -> None:
    samples = sorted(samples, key=lambda row: row.path)
    shuffled = []
    for row in samples:
        entry = row.entry._replace(
            categories=tuple(choice.sample(row.entry.categories, len(row.entry.categories))),
            boxed=tuple(choice.sample(row.entry.boxed, len(row.entry.boxed))),
        )
        shuffled.append(row._replace(entry=entry))
    assert written(shuffled) == written(samples)


def test_sections_that_are_not_known_are_skipped() -> None:
    samples = [Row(b"/a.json", Entry(9, 1, ("x",)))]
    whole = written(samples)
    size, _, magic, version = TRAILER.unpack(whole[-TRAILER.size :])
    sections, directory = whole[: -TRAILER.size - size], whole[-TRAILER.size - size : -TRAILER.size]
    end = stop_of(samples) + len(LIST_END) + len(sections)
    added = [*json.loads(directory), ["later", "of a new type", end, 5, 0]]
    directory = json.dumps(added).encode()
    trailer = TRAILER.pack(len(directory), crc32(directory), magic, version)
    index = parsed(sections + b"later" + directory + trailer, stop_of(samples))
    assert contents(index) == samples


@given(st.lists(metadata, max_size=5))
def test_fragments_are_found_by_their_offsets(samples: list[dict[str, Any]]) -> None:
    fragments = [fragment(sample, "") for sample in samples]
    data = LIST_START + b"".join(fragments) + LIST_END
    named = [Row(b"/a.json", Entry.of(f, s)) for f, s in zip(fragments, samples, strict=True)]
    index = parsed(written(named), len(data) - 1)
    found = [data[begin:end] for begin, end in pairwise(index.offsets)]
    assert found == fragments
    assert repr(pickle.loads(data)) == repr(samples)


def sample_index() -> tuple[bytes, int]:
    names = ("30B", "48X", "real")
    samples = [
        Row(
            b"/data/%02d/a.json" % i,
            Entry(
                *(9, i, (names[i % 3],), (names[i % 2],), (("48X", (1.0, 2.0, 3.0, 4.0)),) * i),
                facts=(
                    ("width", i),
                    ("synthetic", i > 2),
                    ("/f", i / 2),
                    ("/t", "b"),
                    ("/l", -3),
                )[: i + 1],
            ),
            (Source("a.json", 7, i), Source("b.png", 8, i)),
        )
        for i in range(6)
    ]
    return written(samples), stop_of(samples)


def test_no_damaged_index_is_read() -> None:
    whole, stop = sample_index()
    for position in range(len(whole)):
        for flip in (1, 128):
            damaged = bytearray(whole)
            damaged[position] ^= flip
            with pytest.raises(ValueError, match=r"damaged|version"):
                parsed(bytes(damaged), stop)


def test_an_index_with_right_checksums_is_checked_all_the_same() -> None:
    whole, stop = sample_index()
    start = stop + len(LIST_END)
    expected = len(contents(parsed(whole, stop)))
    size, _, magic, version = TRAILER.unpack(whole[-TRAILER.size :])
    end = len(whole) - TRAILER.size - size
    directory = json.loads(whole[end : -TRAILER.size])
    for position in range(len(whole) - TRAILER.size):
        for flip in (1, 128):
            changed = bytearray(whole[: -TRAILER.size])
            changed[position] ^= flip
            sections = [
                [name, kind, at, length, crc32(changed[at - start :][:length])]
                for name, kind, at, length, _ in directory
            ]
            body = bytes(changed[end:])
            if position < end:
                body = json.dumps(sections, separators=(",", ":")).encode()
            trailer = TRAILER.pack(len(body), crc32(body), magic, version)
            try:
                found = contents(parsed(bytes(changed[:end]) + body + trailer, stop))
            except ValueError:
                continue
            assert len(found) == expected  # whatever it says can be read


@pytest.mark.parametrize("fact", [("row", 3), ("width", "720"), ("has_matte", 1), ("depth", 1.5)])
def test_facts_of_another_name_or_type_are_damage(fact: tuple[str, Any]) -> None:
    samples = [Row(b"/a.json", Entry(9, 1, facts=(fact,)))]
    index = parsed(written(samples), stop_of(samples))
    with pytest.raises(ValueError, match="damaged"):
        index.entry(0)


def test_values_are_stored_as_they_are() -> None:
    values: list[Any] = [0, 0.0, -0.0, False, 1, 1.0, True, "1", -1, 2**63 - 1, -(2**63)]
    samples = [
        Row(b"/%03d.json" % n, Entry(2, 0, facts=(("/a", v),))) for n, v in enumerate(values)
    ]
    index = parsed(written(samples), stop_of(samples))
    assert [repr(index.entry(row).facts) for row in range(len(values))] == [
        repr((("/a", value),)) for value in values
    ]


def test_facts_take_a_few_bytes() -> None:
    fixed = {"width": 720, "height": 720, "synthetic": True, "has_matte": True, "boxes": 1}
    choice = random.Random(0)

    def row(number: int, has_facts: bool) -> Row:
        parameters = {
            **{f"/{name}": choice.choice(("a", "b", "c")) for name in ("env_map", "material", "x")},
            **{f"/camera/{name}": choice.random() for name in ("focal", "distance")},
        }
        found = tuple((fixed | parameters).items()) if has_facts else ()
        return Row(b"/%07d.json" % number, Entry(2, 0, facts=found))

    count = 5000
    sizes = [len(written([row(n, has_facts) for n in range(count)])) for has_facts in (True, False)]
    assert sizes[0] - sizes[1] < 60 * count


def test_an_index_of_a_later_version_is_refused() -> None:
    whole, stop = sample_index()
    with pytest.raises(ValueError, match="version 3"):
        parsed(whole[:-4] + (3).to_bytes(4, "little"), stop)


@pytest.mark.parametrize("content", [b"", b"\x80\x03].", bytes(100) + b"."])
def test_files_without_an_index_have_none(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "metadata.pickle"
    path.write_bytes(content)
    with path.open("rb") as stream:
        assert read_index(stream.fileno()) is None


@pytest.mark.parametrize("version", [1, 2])
def test_a_wrong_length_does_not_read_a_large_file(tmp_path: Path, version: int) -> None:
    size = 1 << 40
    path = tmp_path / "metadata.pickle"
    with path.open("w+b") as stream:
        stream.truncate(size)
        stream.seek(size)
        stream.write(TRAILER.pack(size - 100, 0, b"limboidx", version))
        stream.flush()
        with pytest.raises(ValueError, match="damaged"):
            read_index(stream.fileno())


def test_common_folders_are_stored_once() -> None:
    root = b"/data/" + b"a long name of a campaign " * 8
    samples = [
        Row(
            root + b"/%04d/image_%07d.json" % (row // 1000, row), Entry(500_000, row, ("48G", "48"))
        )
        for row in range(10_000)
    ]
    assert len(written(samples)) < 100 * len(samples)
    alone = [Row(root + b"/image_%07d/meta.json" % row, Entry(2, row)) for row in range(1000)]
    assert len(written(alone)) < 100 * len(alone)


@pytest.mark.parametrize(
    ("annotations", "expected"),
    [
        ([{"category": "a"}, {"category": "b"}, {"category": "a"}], ("a", "b")),
        ([{"category": None}, {"category": 7}, {"category": ["a"]}, {}, "a", None], ()),
        ({"category": "a"}, ()),
        ("abc", ()),
        (None, ()),
    ],
)
def test_categories_are_text_in_a_list_of_objects(annotations: Any, expected: Any) -> None:
    assert categories({"annotations": annotations}) == expected
    assert categories({}) == ()


def test_a_category_has_a_box_if_one_of_its_annotations_has() -> None:
    annotations = [
        {"category": "a"},
        {"category": "b", "bbox": None},
        {"category": "c"},
        {"category": "c", "bbox": [1, 2, 3, 4]},
        {"bbox": [1, 2, 3, 4]},
    ]
    assert boxed({"annotations": annotations}) == ("c",)


def test_the_documented_reader_reads_the_index(campaign: Path, tmp_path: Path) -> None:
    text = (ROOT / "docs" / "format.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    reader: dict[str, Any] = {}
    exec(code, reader)
    compress(job(campaign, tmp_path))
    path = tmp_path / "out-metadata.pickle"
    dataset = load(tmp_path / "out")
    found = [reader["read_sample"](path, row) for row in range(len(dataset))]
    paths, sets, metadata, checksums, facts = zip(*found, strict=True)
    assert list(paths) == list(dataset.paths)
    assert list(sets) == list(dataset.categories)
    assert list(metadata) == list(dataset.metadata or [])
    assert list(facts) == [facts_of(sample) for sample in metadata]
    for name in dataset.array_names:
        rows = dataset.rows(name)
        expected = [crc32(rows[row].tobytes()) for row in range(len(dataset))]
        assert [each[name] for each in checksums] == expected


def test_nested_folders_are_stored_once_each() -> None:
    names = ["d" * (1 + depth % 3) for depth in range(600)]
    samples = [
        Row(os.fsencode(f"/{'/'.join(names[:depth])}/x.json"), Entry(2, 0))
        for depth in range(1, 600)
    ]
    data = written(samples)
    assert len(data) < 80 * len(samples)
    assert contents(parsed(data, stop_of(samples))) == samples


@pytest.mark.parametrize("folder", [b"/d" * 2500, b"/" + b"d" * 5000])
def test_a_path_that_no_system_opens_is_damage(folder: bytes) -> None:
    data = written([Row(folder + b"/x.json", Entry(2, 0))])
    with pytest.raises(ValueError, match="damaged"):
        parsed(data, len(LIST_START) + 2)


def test_a_fragment_that_no_sample_needs_is_damage() -> None:
    data = written([Row(b"/d/x.json", Entry(2**28 + 1, 0))])
    with pytest.raises(ValueError, match="damaged"):
        parsed(data, len(LIST_START) + 2**28 + 1)
