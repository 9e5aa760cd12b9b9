"""OpenEXR files whose headers crash OpenEXR's bindings, or that hold no usable cryptomatte."""

from __future__ import annotations

import struct
from contextlib import suppress
from typing import Any

import numpy as np
import OpenEXR
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from limbo_compress.errors import SampleError
from limbo_compress.imaging.cryptomatte import label_id, mattes, open_cryptomatte
from tests import exrs
from tests.exrs import NAMED, Part, attribute, exr

SHAPE = (6, 7)
IDS = np.full(SHAPE, label_id("box"), "<f4")
COVERAGE = np.linspace(0, 1, 42, dtype="<f4").reshape(SHAPE)
PLANES = {b"crypto00.R": IDS, b"crypto00.G": COVERAGE}
CRYPTO = Part(PLANES)
BEAUTY = Part({b"R": COVERAGE, b"G": COVERAGE}, (), name=b"beauty")


def matte(data: bytes, labels: tuple[str, ...] = ("box",)) -> NDArray[np.float64]:
    cryptomatte = open_cryptomatte(data, "x.exr", 10**6)
    (matte,) = mattes(cryptomatte, labels, ["."])
    return matte


def with_attribute(name: bytes, kind: bytes, value: bytes) -> bytes:
    return exr(Part(PLANES, (NAMED, attribute(name, kind, value))))


READABLE = {
    "a thumbnail": with_attribute(b"preview", b"preview", struct.pack("<II", 1, 1) + bytes(4)),
    "a thumbnail of no pixels": with_attribute(b"preview", b"preview", bytes(8)),
    "an attribute that is not UTF-8": with_attribute(b"k\xe4fig", b"string", b"x"),
    "a value that is not UTF-8": with_attribute(b"comment", b"string", b"K\xe4fig"),
    "a type that is not UTF-8": with_attribute(b"comment", b"t\xfcp", b"x"),
    "strings that are not UTF-8": with_attribute(
        b"list", b"stringvector", struct.pack("<i", 1) + b"\xff"
    ),
    "a long name": with_attribute(b"n" * 200, b"string", b"x"),
    "a channel that is not UTF-8": exr(Part(PLANES | {b"z\xfc": COVERAGE})),
    "other channels of every type": exr(
        Part(PLANES | {b"A": COVERAGE.astype("<u4"), b"Z": COVERAGE.astype("<f2")})
    ),
    "another part": exr(CRYPTO, BEAUTY),
    "the attribute in every part": exr(CRYPTO, Part(BEAUTY.planes, name=b"beauty")),
    "the attribute in another part": exr(Part(PLANES, ()), Part(BEAUTY.planes, name=b"beauty")),
    "a thumbnail in another part": exr(
        CRYPTO, Part(BEAUTY.planes, (attribute(b"preview", b"preview", bytes(8)),), name=b"b")
    ),
    "a deep part": exr(CRYPTO, Part(BEAUTY.planes, (), b"deepscanline", name=b"b"), deep=True),
    "a key of one character": exr(Part(PLANES, (NAMED.replace(b"abcdef0", b"a"),))),
    "a key of six characters": exr(Part(PLANES, (NAMED.replace(b"abcdef0", b"abcdef"),))),
}


@pytest.mark.parametrize("kind", READABLE)
def test_what_is_beside_a_cryptomatte_does_not_matter(kind: str) -> None:
    np.testing.assert_array_equal(matte(READABLE[kind]), COVERAGE)


LOSSLESS = ["NO", "RLE", "ZIPS", "ZIP", "PIZ", "B44", "B44A", "HTJ2K256", "HTJ2K32", "ZSTD"]


def written(compression: str, letters: str = "RG", *others: Any, is_tiled: bool = False) -> bytes:
    planes = {
        f"crypto00.{letter}": plane for letter, plane in zip(letters, (IDS, COVERAGE), strict=True)
    }
    return exrs.written(planes, compression, is_tiled, *others)


@pytest.mark.parametrize("compression", LOSSLESS)
@pytest.mark.parametrize("tiled", [False, True])
@pytest.mark.parametrize("parts", [1, 2])
def test_every_lossless_compression_is_read(compression: str, tiled: bool, parts: int) -> None:
    beauty = OpenEXR.Part({"type": OpenEXR.scanlineimage}, {"R": COVERAGE.copy()}, "beauty")
    data = written(compression, "RG", *[beauty][: parts - 1], is_tiled=tiled)
    np.testing.assert_array_equal(matte(data), COVERAGE)


@pytest.mark.parametrize("compression", ["DWAA", "DWAB"])
def test_channels_that_dwa_keeps_are_read(compression: str) -> None:
    np.testing.assert_array_equal(matte(written(compression, "rg")), COVERAGE)


@pytest.mark.parametrize(
    ("compression", "letters"),
    [("PXR24", "RG"), ("PXR24", "rg"), ("LJ2K", "rg"), ("DWAA", "RG"), ("DWAB", "Rg")],
)
def test_ids_that_a_compression_changes_are_a_bad_sample(compression: str, letters: str) -> None:
    with pytest.raises(SampleError, match=f"crypto are lost: the compression {compression}"):
        matte(written(compression, letters))


def half(plane: NDArray[np.float32]) -> NDArray[np.float16]:
    with np.errstate(over="ignore"):
        return plane.astype("<f2")


SECOND = {b"crypto01.R": IDS, b"crypto01.G": COVERAGE}
UNUSABLE = {
    "half-float ids": (
        exr(Part(PLANES | {b"crypto00.R": half(IDS)})),
        "the ids of the cryptomatte crypto are not 32-bit floats",
    ),
    "integer ids": (
        exr(Part(PLANES | {b"crypto00.R": IDS.view("<u4")})),
        "the ids of the cryptomatte crypto are not 32-bit floats",
    ),
    "half-float ids of a later rank": (
        exr(Part(PLANES | SECOND | {b"crypto01.R": half(IDS)})),
        "the ids of the cryptomatte crypto are not 32-bit floats",
    ),
    "integer coverage": (
        exr(Part(PLANES | {b"crypto00.G": COVERAGE.astype("<u4")})),
        "the coverage of the cryptomatte crypto is not a float",
    ),
    "fewer values than pixels": (
        exr(Part(PLANES, sampling=2)),
        "the channels of the cryptomatte crypto do not have a value for each pixel",
    ),
    "a deep file": (exr(CRYPTO, deep=True), "crypto is deep"),
    "a deep part": (exr(Part(PLANES, kind=b"deepscanline"), BEAUTY, deep=True), "crypto is deep"),
    "ranks in two parts": (
        exr(Part(PLANES), Part(SECOND, name=b"second")),
        "crypto has channels outside the first part of the file, the only one that is read",
    ),
    "ranks in the second part": (exr(BEAUTY, CRYPTO), "crypto has channels outside the first"),
    "an unknown compression": (
        exr(CRYPTO).replace(b"compression\0\1\0\0\0\0", b"compression\0\1\0\0\0\x0e"),
        "unknown compression: 14",
    ),
    "a compression of many bytes": (
        exr(Part(PLANES, (NAMED, attribute(b"z", b"string", bytes(9999))))).replace(
            b"compression\0\1\0\0\0\0", b"compression\0\0\x10\0\0\1"
        ),
        "its header has no compression",
    ),
    "no channels": (exr(BEAUTY, Part(BEAUTY.planes)), "not pairs of id and coverage: none"),
    "ids without coverage": (
        exr(Part({b"crypto00.R": IDS, b"crypto01.R": IDS})),
        "not pairs of id and coverage: crypto00.R, crypto01.R",
    ),
    "a channel that is missing": (
        exr(Part(PLANES | {b"crypto00.B": IDS})),
        "not pairs of id and coverage: crypto00.R, crypto00.G, crypto00.B",
    ),
    "three channels in each of two layers": (
        exr(Part(PLANES | SECOND | {b"crypto00.B": IDS, b"crypto01.B": IDS})),
        "not pairs of id and coverage",
    ),
    "a channel under two names": (
        exr(Part(PLANES | {b"crypto00.red": IDS, b"crypto00.green": COVERAGE})),
        "not pairs of id and coverage",
    ),
    "two names": (
        exr(CRYPTO, Part(BEAUTY.planes, (NAMED.replace(b"abcdef0", b"1234567"),))),
        "exactly one cryptomatte is expected in the file, found: crypto, crypto",
    ),
    "a name that is not UTF-8": (
        exr(Part(PLANES, (attribute(b"cryptomatte/abcdef0/name", b"string", b"cr\xffpto"),))),
        r"the cryptomatte cr\\xffpto are not pairs of id and coverage: none",
    ),
    "a name of another type": (
        exr(Part(PLANES, (NAMED.replace(b"string", b"strong"),))),
        "found: none",
    ),
    "huge tiles": (
        with_attribute(b"tiles", b"tiledesc", struct.pack("<IIb", 1 << 20, 1 << 20, 0)),
        "tiles of 1048576 x 1048576 pixels",
    ),
    "an attribute that is there twice": (
        with_attribute(b"dataWindow", b"box2i", bytes(16)),
        "truncated or damaged",
    ),
    "another format": (b"\x89PNG\r\n\x1a\n" + bytes(99), "not an OpenEXR file"),
}


@pytest.mark.parametrize("kind", UNUSABLE)
def test_cryptomattes_that_cannot_be_right_are_named(kind: str) -> None:
    data, reason = UNUSABLE[kind]
    with pytest.raises(SampleError, match=reason):
        matte(data)


def test_labels_that_are_not_unicode_cover_nothing() -> None:
    data = exr(CRYPTO)
    np.testing.assert_array_equal(matte(data, ("\ud800", "box", "\udfff")), COVERAGE)
    assert not matte(data, ("\ud800",)).any()


def test_every_truncated_file_is_a_bad_sample() -> None:
    data = READABLE["a thumbnail"]
    for end in range(len(data)):
        with pytest.raises(SampleError, match=r"truncated or damaged|OpenEXR cannot read"):
            matte(data[:end])


# Sizes, counts and offsets at which code that trusts them goes astray.
NUMBERS = st.sampled_from([b"\xff" * 4, b"\0\0\0\x80", b"\xff\xff\xff\x7f", bytes(4), b"\1\0\0\0"])


@settings(max_examples=1500)
@given(st.sampled_from(sorted(READABLE)), st.data())
def test_damage_is_a_bad_sample_or_changes_a_value(kind: str, choice: st.DataObject) -> None:
    data = bytearray(READABLE[kind])
    for _ in range(choice.draw(st.integers(1, 3))):
        at = choice.draw(st.integers(0, len(data) - 1))
        data[at : at + choice.draw(st.integers(0, 6))] = choice.draw(
            NUMBERS | st.binary(max_size=6)
        )
    with suppress(SampleError):
        assert matte(bytes(data)).size <= 10**6
