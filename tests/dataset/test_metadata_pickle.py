"""Metadata with an index and without one, whole and damaged."""

from __future__ import annotations

import gc
import json
import logging
import os
import pickle
import struct
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbo_compress import Dataset, InputError, compress, load
from limbo_compress.formats.pickling import LIST_END, LIST_START, fragment
from tests import strategies
from tests.jobs import job, run
from tests.pickles import indexed

TRAILER_BYTES = 24  # see docs/format.md
SAMPLES: list[dict[str, Any]] = [
    {"annotations": [{"category": "30B"}, {"category": "real"}], "image": {"res": [4, 3]}},
    {"annotations": [{"bbox": [1.5, -2.0, 3e300, 4], "category": "48X"}], "x": [None, True, 2**70]},
    {},
    {"annotations": [], "text": "é" * 150, "many": [9, 999, 99999]},
]
REFERENCE_PROTOCOLS = [2, 3, 4, 5]


def opened(folder: Path, data: bytes) -> Dataset:
    (folder / "x-metadata.pickle").write_bytes(data)
    return load(folder / "x")


def samples_of(dataset: Dataset) -> list[dict[str, Any]]:
    assert dataset.metadata is not None
    return list(dataset.metadata)


@given(st.lists(strategies.metadata, max_size=4))
def test_every_sample_is_read_alone(
    tmp_path_factory: pytest.TempPathFactory, samples: list[dict[str, Any]]
) -> None:
    data = indexed(samples)
    dataset = opened(tmp_path_factory.getbasetemp(), data)
    metadata = dataset.metadata
    assert metadata is not None
    assert repr([metadata[row] for row in range(len(samples))]) == repr(samples)
    assert repr(list(metadata)) == repr(metadata[:]) == repr(pickle.loads(data)) == repr(samples)


def test_abridged_metadata_are_the_same_but_for_points(tmp_path: Path) -> None:
    points = [[0.5, float(x)] for x in range(500)]
    samples = [*SAMPLES, {"annotations": [{"category": "30B", "contours": [points]}]}]
    dataset = opened(tmp_path, indexed(samples))
    assert dataset.abridged[:-1] == SAMPLES
    (annotation,) = dataset.abridged[-1]["annotations"]
    assert annotation["category"] == "30B"
    ((checksum,),) = annotation["contours"]
    assert isinstance(checksum, int)
    assert opened(tmp_path, pickle.dumps(samples)).abridged[:] == samples


def test_metadata_are_a_sequence(tmp_path: Path) -> None:
    metadata = opened(tmp_path, indexed(SAMPLES)).metadata
    assert metadata is not None
    assert len(metadata) == 4
    assert metadata[-1] == SAMPLES[-1]
    assert metadata[1:3] == SAMPLES[1:3]
    assert metadata[::-2] == SAMPLES[::-2]
    assert SAMPLES[1] in metadata
    assert metadata.index(SAMPLES[2]) == 2
    with pytest.raises(IndexError):
        metadata[4]
    with pytest.raises(TypeError):
        metadata["x"]  # type: ignore[call-overload]
    assert gc.isenabled()


def test_real_jobs_write_the_index(campaign: Path, tmp_path: Path) -> None:
    paths = sorted(map(str, campaign.rglob("*.json")))
    expected = [json.loads(Path(path).read_text()) for path in paths]
    for change in ({}, {"strip_regions": True}, {"workers": 2, "start": 1, "end": 9}):
        compress(job(campaign, tmp_path, **change))
        dataset = load(tmp_path / "out")
        rows = slice(change.get("start"), change.get("end"))
        assert list(dataset.paths) == paths[rows]
        categories = [{a["category"] for a in s["annotations"]} for s in expected[rows]]
        assert list(dataset.categories) == categories
        with open(tmp_path / "out-metadata.pickle", "rb") as stream:
            assert samples_of(dataset) == pickle.load(stream)


def test_bad_samples_are_not_in_the_index(campaign: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for number in range(70):
        text = json.dumps({"annotations": [{"category": str(number)}]})
        (folder / f"{number:02}.json").write_text(text)
    bad = [0, 31, 32, 50, 69]
    for number in bad:
        (folder / f"{number:02}.json").write_text("[")
    compress(job(folder, tmp_path, images=False, on_error="skip", workers=2))
    dataset = load(tmp_path / "out")
    good = [number for number in range(70) if number not in bad]
    assert list(dataset.paths) == [str(folder / f"{number:02}.json") for number in good]
    assert list(dataset.categories) == [{str(number)} for number in good]
    assert samples_of(dataset) == [{"annotations": [{"category": str(number)}]} for number in good]


@pytest.mark.parametrize("protocol", REFERENCE_PROTOCOLS)
def test_pickles_of_the_reference_are_read_in_full(tmp_path: Path, protocol: int) -> None:
    repeated = [*SAMPLES, SAMPLES[0]]  # the memo is used
    dataset = opened(tmp_path, pickle.dumps(repeated, protocol))
    assert repr(samples_of(dataset)) == repr(repeated)
    assert list(dataset.categories)[:3] == [{"30B", "real"}, {"48X"}, set()]
    assert dataset.count() == {"30B": 2, "48X": 1, "real": 2}
    with pytest.raises(InputError, match="does not say the paths of its samples"):
        dataset.paths[0]
    assert gc.isenabled()


def test_large_memos_of_the_reference_are_read(tmp_path: Path) -> None:
    samples = [{"contours": [[float(x)] for x in range(70_000)]}]
    for protocol in REFERENCE_PROTOCOLS:
        assert samples_of(opened(tmp_path, pickle.dumps(samples, protocol))) == samples


def test_pickles_of_earlier_versions_are_read_in_full(tmp_path: Path) -> None:
    data = LIST_START + b"".join(fragment(sample, "") for sample in SAMPLES) + LIST_END
    assert samples_of(opened(tmp_path, data)) == SAMPLES


def test_a_damaged_index_is_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = indexed(SAMPLES)
    assert samples_of(opened(tmp_path, whole)) == SAMPLES
    assert not caplog.records
    for damaged, problem in (
        (whole[:-4] + (3).to_bytes(4, "little"), "version 3"),
        (whole[:-TRAILER_BYTES] + bytes(8) + whole[-TRAILER_BYTES + 8 :], "damaged"),
    ):
        with caplog.at_level(logging.WARNING):
            assert samples_of(opened(tmp_path, damaged)) == SAMPLES
        assert problem in caplog.text


def check_damaged(folder: Path, data: bytes) -> None:
    """Check that data give the right samples, or one line that says that they do not."""
    line = ""
    try:
        dataset = opened(folder, data)
        samples = samples_of(dataset)
        dataset.count()
    except InputError as error:
        line = str(error)
    assert "\n" not in line
    assert line or repr(samples) == repr(SAMPLES)


def test_no_flipped_byte_gives_a_wrong_sample(tmp_path: Path) -> None:
    whole = indexed(SAMPLES)
    for position in range(len(whole)):
        for flip in (1 << position % 8, 255):
            damaged = bytearray(whole)
            damaged[position] ^= flip
            check_damaged(tmp_path, bytes(damaged))


def test_no_truncated_file_gives_a_wrong_sample(tmp_path: Path) -> None:
    whole = indexed(SAMPLES)
    for size in range(len(whole)):
        check_damaged(tmp_path, whole[:size])


_READ_FLIPPED = """
import resource, sys
from limbo_compress import InputError, load
folder, size = sys.argv[1:]
data = open(f"{folder}/whole", "rb").read()
limit = int(size) << 20
base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
for position in range(len(data)):
    for bit in range(8):
        damaged = bytearray(data)
        damaged[position] ^= 1 << bit
        with open(f"{folder}/x-metadata.pickle", "wb") as stream:
            stream.write(damaged)
        try:
            len(load(f"{folder}/x"))
        except InputError as error:
            assert "\\n" not in str(error)
    used = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10) - base
    assert used < limit, f"{used:,} bytes at {position}"
"""


@pytest.mark.parametrize("protocol", [3, 4])
def test_flipped_bits_of_the_reference_take_little_memory(tmp_path: Path, protocol: int) -> None:
    (tmp_path / "whole").write_bytes(pickle.dumps(SAMPLES[:3], protocol))
    run(sys.executable, "-c", _READ_FLIPPED, tmp_path, "100", check=True, timeout=300)


class Evil:
    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self._path}",)


@pytest.mark.parametrize("protocol", range(2, 6))
def test_code_in_a_pickle_is_not_executed(tmp_path: Path, protocol: int) -> None:
    evil = Evil(tmp_path / "executed")
    with pytest.raises(InputError, match="does not belong in metadata"):
        opened(tmp_path, pickle.dumps([evil], protocol))
    assert not (tmp_path / "executed").exists()


def test_code_in_an_indexed_sample_is_not_executed(tmp_path: Path) -> None:
    evil = pickle.dumps(Evil(tmp_path / "executed"), 3)[2:-1] + pickle.APPEND
    dataset = opened(tmp_path, indexed([{}], change=lambda _: evil))
    with pytest.raises(InputError, match="opcode 0x63 does not belong in a fragment"):
        samples_of(dataset)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("data", [b"N", b"Na", b"]a", b"}", b"}a.", b"(a", b"X\xff\xff\xff\xffa"])
def test_a_damaged_fragment_with_a_right_checksum_is_an_error(tmp_path: Path, data: bytes) -> None:
    dataset = opened(tmp_path, indexed([{}], change=lambda _: data))
    with pytest.raises(InputError, match="cannot read the metadata of row 0"):
        samples_of(dataset)


@pytest.mark.parametrize(
    "content", [b"", b"\x80\x03]", b"\x80\x03N.", b"\x80\x03]Na.", b"nonsense"]
)
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(InputError, match="cannot read it"):
        opened(tmp_path, content)


@pytest.mark.parametrize(
    ("library", "read"), [("pickle", "load"), ("pandas", "read_pickle"), ("joblib", "load")]
)
def test_other_readers_read_the_file(tmp_path: Path, library: str, read: str) -> None:
    module = pytest.importorskip(library, reason=f"{library} is not installed")
    path = tmp_path / "x-metadata.pickle"
    path.write_bytes(indexed(SAMPLES))
    with path.open("rb") as stream:
        assert repr(getattr(module, read)(stream)) == repr(SAMPLES)


PUTS = [pickle.LONG_BINPUT + struct.pack("<I", 1 << 28), pickle.BINPUT + b"\0", pickle.DUP]


@pytest.mark.parametrize("put", PUTS)
def test_opcodes_that_are_not_written_are_refused(tmp_path: Path, put: bytes) -> None:
    dataset = opened(tmp_path, indexed([{"a": 1}], change=lambda data: data[:1] + put + data[1:]))
    with pytest.raises(InputError, match="does not belong in a fragment"):
        samples_of(dataset)


@pytest.mark.parametrize("protocol", REFERENCE_PROTOCOLS)
def test_shared_text_is_read_but_lists_that_multiply_are_not(tmp_path: Path, protocol: int) -> None:
    text = "a label " * 9
    shared: list[Any] = [1.5]
    samples = [{"labels": [text] * 50, "twice": [shared, shared]}] * 2
    assert samples_of(opened(tmp_path, pickle.dumps(samples, protocol))) == samples
    for _ in range(40):
        shared = [shared, shared]
    with pytest.raises(InputError, match="more values than bytes"):
        opened(tmp_path, pickle.dumps([{"a": shared}], protocol))


def test_a_long_text_that_is_shared_is_refused(tmp_path: Path) -> None:
    text = "q" * 100_000
    values = [text] * 10_000, {str(key): text for key in range(10_000)}, [{text: 1}] * 10_000
    for value in values:
        (tmp_path / "x-metadata.pickle").write_bytes(pickle.dumps([{"a": value}]))
        with pytest.raises(InputError, match="more values than bytes"):
            load(tmp_path / "x").count()


def test_deep_lists_are_refused(tmp_path: Path) -> None:
    deep = b"\x80\x02]}X\1\0\0\0a" + b"](" * 2000 + b"e" * 2000 + b"sa."
    with pytest.raises(InputError, match="nested too deeply"):
        samples_of(opened(tmp_path, deep))
