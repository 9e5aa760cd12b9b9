"""Scan lines of OpenEXR: what is found must be what OpenEXR and numpy find."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import OpenEXR
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from limbo_compress import deflate
from limbo_compress.errors import SampleError
from limbo_compress.imaging import scanlines
from limbo_compress.imaging.cryptomatte import label_id, label_ids, mattes, open_cryptomatte
from tests import exrs

pytestmark = pytest.mark.skipif(scanlines.compiled is None, reason="not compiled")

LABELS = ["box", "b", "far"]
MANY = [*LABELS, *(f"elsewhere/{number}" for number in range(60))]
# No coverage that is not a number: see the test of these.
VALUES = np.array([0, -0.0, 1, 0.25, -3, 1e-40, *map(label_id, [*LABELS, "other"])], np.float32)
NOT_FINITE = np.array([np.nan, np.inf, -np.inf], np.float32)
LETTERS = ["RGBA", "rgba", ("red", "green", "blue", "alpha"), ("Red", "GREEN", "b", "A")]
COMPRESSIONS = ["NO", "ZIPS", "ZIP"]


@pytest.fixture(params=["zlib", "isal.isal_zlib", "zlib_ng.zlib_ng"], scope="module", autouse=True)
def inflater(request: pytest.FixtureRequest) -> Iterator[None]:
    module = pytest.importorskip(request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deflate, "inflater_of_runs", lambda: module)
        yield


def file_of(planes: dict[str, NDArray[Any]], compression: str, **header: Any) -> bytes:
    header |= {
        "type": OpenEXR.scanlineimage,
        "compression": getattr(OpenEXR, f"{compression}_COMPRESSION"),
        "cryptomatte/abcdef0/name": "crypto",
    }
    with tempfile.NamedTemporaryFile(suffix=".exr") as file:
        OpenEXR.File(header, planes).write(file.name)
        return Path(file.name).read_bytes()


def any_file(choice: random.Random) -> bytes:
    height, width = choice.randint(1, 70), choice.randint(1, 70)
    noise = np.random.default_rng(choice.getrandbits(32))
    planes = {}
    letters = choice.choice(LETTERS)
    names = [
        f"crypto{rank:02}.{letter}" for rank in range(choice.randint(1, 3)) for letter in letters
    ]
    for place, name in enumerate(names):
        plane = noise.choice(
            VALUES if place % 2 else np.append(VALUES, NOT_FINITE), (height, width)
        )
        if choice.random() < 0.5:  # runs, as in real files
            plane = np.repeat(plane, 20, axis=1)[:, :width].copy()
        planes[name] = plane if choice.random() < 0.8 else np.zeros_like(plane)
    for name in choice.sample(["crypto.A", "Z", "a", "d", "zz"], choice.randint(0, 3)):
        kind = choice.choice([np.float32, np.float16, np.uint32])
        planes[name] = noise.integers(0, 1000, (height, width)).astype(kind)
    corner = np.array([choice.randint(-40, 40), choice.randint(-40, 40)], np.int32)
    header = {"dataWindow": (corner, corner + np.array([width - 1, height - 1], np.int32))}
    other = np.array([choice.randint(-40, 40), choice.randint(-40, 40)], np.int32)
    size = np.array([choice.randint(0, 70), choice.randint(0, 70)], np.int32)
    is_same = choice.random() < 0.3
    header["displayWindow"] = header["dataWindow"] if is_same else (other, other + size)
    order = choice.choice([OpenEXR.INCREASING_Y, OpenEXR.DECREASING_Y])
    items = list(planes.items())
    choice.shuffle(items)
    return file_of(dict(items), choice.choice(COMPRESSIONS), lineOrder=order, **header)


def result(data: bytes, labels: list[str] = LABELS) -> list[bytes] | str:
    """The mattes, or the reason why there are none."""
    try:
        cryptomatte = open_cryptomatte(data, "x.exr", 10**6)
        return [matte.tobytes() for matte in mattes(cryptomatte, labels, ["box", "b", "."])]
    except SampleError as error:
        return str(error)


def openexr_result(data: bytes, labels: list[str] = LABELS) -> list[bytes] | str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scanlines, "compiled", None)
        return result(data, labels)


def lines_read(data: bytes) -> int:
    """How many lines are read without OpenEXR."""
    cryptomatte = open_cryptomatte(data, "x.exr", 10**6)
    arguments = data, cryptomatte.part, cryptomatte.channels, label_ids(LABELS)
    return max((done for _, done in scanlines.find_covered(*arguments)), default=0)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32))
def test_mattes_are_those_of_openexr(seed: int) -> None:
    choice = random.Random(seed)
    data = any_file(choice)
    cryptomatte = open_cryptomatte(data, "x.exr", 10**6)
    assert lines_read(data) == cryptomatte.part.data_window.shape[0]
    labels = choice.choice([LABELS, MANY, []])
    assert not isinstance(found := result(data, labels), str)
    assert found == openexr_result(data, labels)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32))
def test_damaged_files_are_judged_by_openexr(seed: int) -> None:
    choice = random.Random(seed)
    data = bytearray(any_file(choice))
    if choice.random() < 0.3:
        del data[choice.randrange(len(data)) :]
    else:
        for _ in range(choice.randint(1, 3)):
            data[choice.randrange(len(data))] ^= 1 << choice.randrange(8)
    assert result(bytes(data)) == openexr_result(bytes(data))


@pytest.mark.parametrize("tiled", [False, True])
@pytest.mark.parametrize("kind", ["<f2", "<f4"])
@pytest.mark.parametrize("parts", [1, 2])
def test_uncompressed_lines_that_end_early_are_a_bad_sample(
    kind: str, tiled: bool, parts: int
) -> None:
    """OpenEXR alone returns whatever is in memory, if it need not read a channel."""
    plane = np.ones((20, 30), np.float32)
    planes = {"crypto00.R": plane, "crypto00.G": plane.astype(kind), "Z": plane}
    beauty = OpenEXR.Part({"type": OpenEXR.scanlineimage}, {"R": plane.copy()}, "beauty")
    data = exrs.written(planes, "NO", tiled, *[beauty][: parts - 1])
    whole = openexr_result(data)
    assert not isinstance(whole, str)
    for end in range(len(data) - 1, len(data) - 1500, -41):
        for read in (result, openexr_result):
            found = read(data[:end])
            assert isinstance(found, str) or (parts == 2 and found == whole)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_damaged_block_does_not_hide_others(compression: str) -> None:
    planes = {
        "crypto00.R": np.full((50, 40), label_id("box"), np.float32),
        "crypto00.G": np.full((50, 40), 0.5, np.float32),
    }
    data = bytearray(file_of(planes, compression))
    whole = result(bytes(data))
    assert lines_read(bytes(data)) == 50
    at = data.rindex(b"\x28\0\0\0") if compression != "ZIP" else data.rindex(b"\x30\0\0\0")
    data[at] += 1  # its line
    assert lines_read(bytes(data)) == (48 if compression == "ZIP" else 40)
    assert result(bytes(data)) == openexr_result(bytes(data)) != whole


def test_a_block_with_bytes_after_its_end_is_left_to_openexr() -> None:
    plane = np.full((2, 40), label_id("box"), np.float32)
    data = bytearray(file_of({"crypto00.R": plane, "crypto00.G": plane}, "ZIPS"))
    part = open_cryptomatte(bytes(data), "x.exr", 10**6).part
    data[int.from_bytes(data[part.offsets_at : part.offsets_at + 8], "little") + 4] += 3  # its size
    assert lines_read(bytes(data)) == 0
    assert result(bytes(data)) == openexr_result(bytes(data))


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_coverage_that_is_not_a_number_is_a_bad_sample(compression: str) -> None:
    coverage = np.zeros((5, 9), np.float32)
    coverage[3, 7] = np.nan
    ids = np.full_like(coverage, label_id("box"))
    data = file_of({"crypto00.R": ids, "crypto00.G": coverage}, compression)
    assert (
        result(data)
        == openexr_result(data)
        == "x.exr: the cryptomatte has a coverage that is not a number"
    )
    ids[3, 7] = 0
    data = file_of({"crypto00.R": ids, "crypto00.G": coverage}, compression)
    assert result(data) == openexr_result(data) == [bytes(360)] * 3


@pytest.mark.parametrize(
    ("compression", "kind", "tiled"),
    [("PIZ", "<f4", False), ("RLE", "<f4", False), ("ZIP", "<f2", False), ("ZIP", "<f4", True)],
)
def test_other_files_are_left_to_openexr(compression: str, kind: str, tiled: bool) -> None:
    ids = np.full((6, 7), label_id("box"), "<f4")
    data = exrs.written(
        {"crypto00.R": ids, "crypto00.G": np.ones((6, 7), kind)}, compression, tiled
    )
    assert lines_read(data) == 0
    assert result(data) == openexr_result(data)
