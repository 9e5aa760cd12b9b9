from __future__ import annotations

import io
import os
import pickle
import re
import struct
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from limbo_compress import compress, load
from limbo_compress.deflate import crc32
from limbo_compress.formats.index import Entry, Index, IndexWriter, categories, read_index
from limbo_compress.formats.pickling import LIST_END, LIST_START, fragment
from tests.jobs import ROOT, job
from tests.strategies import metadata

TRAILER = struct.Struct("<QI8sI")  # see docs/format.md
file_names = st.binary(min_size=1, max_size=8).map(
    lambda name: name.replace(b"/", b"_").replace(b"\0", b"_")
)
paths = st.lists(file_names, min_size=1, max_size=5).map(lambda names: b"/" + b"/".join(names))
entries = st.builds(
    Entry,
    st.integers(2, 2**28),
    st.integers(0, 2**32 - 1),
    st.lists(st.text(max_size=4) | st.just("\ud800"), unique=True, max_size=4).map(tuple),
)


def written(samples: list[tuple[bytes, Entry]], start: int = 0) -> bytes:
    writer = IndexWriter()
    for path, entry in samples:
        writer.add(os.fsdecode(path), entry)
    stream = io.BytesIO()
    stream.seek(start)
    writer.write(stream)
    return stream.getvalue()[start:]


def parsed(data: bytes, stop: int) -> Index:
    """Read an index that follows a STOP opcode at `stop`."""
    size, checksum, magic, version = TRAILER.unpack(data[-TRAILER.size :])
    assert (size, magic, version) == (len(data) - TRAILER.size, b"limboidx", 1)
    return Index(data[:size], checksum, stop)


def contents(index: Index) -> list[tuple[bytes, Entry]]:
    offsets = index.offsets.tolist()
    return [
        (
            os.fsencode(index.path(row)),
            Entry(
                offsets[row + 1] - offsets[row],
                int(index.checksums[row]),
                tuple(sorted(index.category_sets[index.set_ids[row]])),
            ),
        )
        for row in range(len(index))
    ]


@given(st.lists(st.tuples(paths, entries), max_size=12))
@example([])
@example([(b"/x.json", Entry(2, 0, ())), (b"/x/y.json", Entry(2, 1, ("",)))])
def test_what_is_written_is_read_back(samples: list[tuple[bytes, Entry]]) -> None:
    samples = sorted(samples)
    stop = len(LIST_START) + sum(entry.size for _, entry in samples)
    index = parsed(written(samples), stop)
    assert contents(index) == [
        (path, entry._replace(categories=tuple(sorted(entry.categories))))
        for path, entry in samples
    ]
    # Every set of categories is stored once, however it is ordered.
    assert len(set(index.category_sets)) == len(index.category_sets)


@given(st.lists(metadata, max_size=5))
def test_fragments_are_found_by_their_offsets(samples: list[dict[str, Any]]) -> None:
    fragments = [fragment(sample, "") for sample in samples]
    data = LIST_START + b"".join(fragments) + LIST_END
    named = [(b"/a.json", Entry.of(f, s)) for f, s in zip(fragments, samples, strict=True)]
    index = parsed(written(named), len(data) - 1)
    offsets = index.offsets.tolist()
    found = [data[begin:end] for begin, end in pairwise(offsets)]
    assert found == fragments
    assert repr(pickle.loads(data)) == repr(samples)


def sample_index() -> tuple[bytes, int]:
    names = ("30B", "48X", "real")
    samples = [(b"/data/%02d/a.json" % i, Entry(9, i, (names[i % 3],))) for i in range(6)]
    return written(samples), len(LIST_START) + 54


def test_no_damaged_index_is_read() -> None:
    whole, stop = sample_index()
    for position in range(len(whole)):
        for flip in (1, 16, 128, 255):
            damaged = bytearray(whole)
            damaged[position] ^= flip
            with pytest.raises((ValueError, AssertionError)):
                parsed(bytes(damaged), stop)


def test_an_index_with_a_right_checksum_is_checked_all_the_same() -> None:
    whole, stop = sample_index()
    body = whole[: -TRAILER.size]
    expected = contents(parsed(whole, stop))
    for position in range(len(body)):
        for flip in (1, 16, 128, 255):
            changed = bytearray(body)
            changed[position] ^= flip
            try:
                index = Index(bytes(changed), crc32(changed), stop)
            except ValueError:
                continue
            assert len(contents(index)) == len(expected)  # whatever it says can be read


def test_an_index_of_a_later_version_is_refused(tmp_path: Path) -> None:
    whole, stop = sample_index()
    path = tmp_path / "metadata.pickle"
    path.write_bytes(bytes(stop) + LIST_END + whole[:-4] + (2).to_bytes(4, "little"))
    with path.open("rb") as stream, pytest.raises(ValueError, match="version 2"):
        read_index(stream.fileno())


@pytest.mark.parametrize("content", [b"", b"\x80\x03].", bytes(100)])
def test_files_without_an_index_have_none(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "metadata.pickle"
    path.write_bytes(content)
    with path.open("rb") as stream:
        assert read_index(stream.fileno()) is None


def test_a_wrong_length_does_not_read_a_large_file(tmp_path: Path) -> None:
    size = 1 << 40
    path = tmp_path / "metadata.pickle"
    with path.open("w+b") as stream:
        stream.truncate(size)
        stream.seek(size)
        stream.write(TRAILER.pack(size - 100, 0, b"limboidx", 1))
        stream.flush()
        with pytest.raises(ValueError, match="damaged"):
            read_index(stream.fileno())


def test_common_folders_are_stored_once() -> None:
    root = b"/data/" + b"a long name of a campaign " * 8
    samples = [
        (root + b"/%04d/image_%07d.json" % (row // 1000, row), Entry(500_000, row, ("48G", "48")))
        for row in range(10_000)
    ]
    assert len(written(samples)) < 100 * len(samples)
    alone = [(root + b"/image_%07d/meta.json" % row, Entry(2, row, ())) for row in range(1000)]
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


def test_the_documented_reader_reads_the_index(campaign: Path, tmp_path: Path) -> None:
    text = (ROOT / "docs" / "format.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    reader: dict[str, Any] = {}
    exec(code, reader)
    compress(job(campaign, tmp_path))
    path = tmp_path / "out-metadata.pickle"
    dataset = load(tmp_path / "out")
    found = [reader["read_sample"](path, row) for row in range(len(dataset))]
    assert [path for path, _, _ in found] == list(dataset.paths)
    assert [categories for _, categories, _ in found] == list(dataset.categories)
    assert [metadata for _, _, metadata in found] == list(dataset.metadata or [])


def test_nested_folders_are_stored_once_each() -> None:
    names = ["d" * (1 + depth % 3) for depth in range(600)]
    samples = [
        (os.fsencode(f"/{'/'.join(names[:depth])}/x.json"), Entry(2, 0, ()))
        for depth in range(1, 600)
    ]
    data = written(samples)
    assert len(data) < 80 * len(samples)
    assert contents(parsed(data, len(LIST_START) + 2 * len(samples))) == samples


@pytest.mark.parametrize("folder", [b"/d" * 2500, b"/" + b"d" * 5000])
def test_a_path_that_no_system_opens_is_damage(folder: bytes) -> None:
    data = written([(folder + b"/x.json", Entry(2, 0, ()))])
    with pytest.raises(ValueError, match="damaged"):
        parsed(data, len(LIST_START) + 2)


def test_a_fragment_that_no_sample_needs_is_damage() -> None:
    data = written([(b"/d/x.json", Entry(2**28 + 1, 0, ()))])
    with pytest.raises(ValueError, match="damaged"):
        parsed(data, len(LIST_START) + 2**28 + 1)
