"""JPEGs of all kinds, whole and damaged, compared with Pillow."""

from __future__ import annotations

import io
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from limbo_compress import Options, limits
from limbo_compress.errors import SampleError
from limbo_compress.imaging import image
from limbo_compress.imaging.decode import decode, read_header
from limbo_compress.imaging.image import convert
from tests.jpegs import (
    ARITHMETIC,
    ARITHMETIC_WITH_RESTARTS,
    jpeg,
    restart_marker,
    segment,
    split,
)
from tests.pictures import HEIGHT, SIZE, WIDTH, encoded, picture


def noise(size: tuple[int, int] = SIZE) -> Image.Image:
    shape = (size[1], size[0], 3)
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, shape, np.uint8))


WHOLE = {
    "baseline": encoded(picture(), "JPEG"),
    "gray": encoded(picture().convert("L"), "JPEG"),
    "noise": encoded(noise((24, 20)), "JPEG", quality=90, subsampling=0),
    "restarts": encoded(picture(), "JPEG", restart_marker_blocks=1),
    "gray with restarts": encoded(picture().convert("L"), "JPEG", restart_marker_blocks=2),
    "progressive": encoded(picture(), "JPEG", progressive=True),
    "progressive with restarts": encoded(
        picture(), "JPEG", progressive=True, restart_marker_blocks=2
    ),
    "arithmetic": ARITHMETIC,
    "arithmetic with restarts": ARITHMETIC_WITH_RESTARTS,
    "lossless": jpeg(np.arange(60).reshape(5, 4, 3) * 4, 0xC3),
    "lossless with restarts": jpeg(np.arange(60).reshape(5, 4, 3) * 4, 0xC3, restart_rows=2),
}
# After these the rest of the file may be a table that libjpeg accepts, or that has no end.
TABLES = {0xC4, 0xCC, 0xDB, 0xDD, 0xDA}


def by_pillow(data: bytes) -> NDArray[np.uint8] | None:
    try:
        opened = Image.open(io.BytesIO(data))
        return np.array(opened.convert("RGB"))
    except OSError:
        return None


def by_us(data: bytes) -> NDArray[np.uint8] | str:
    try:
        return decode(data, "")
    except SampleError as error:
        return error.problem


def assert_as_pillow(data: bytes) -> None:
    pillow, ours = by_pillow(data), by_us(data)
    if pillow is None:
        assert isinstance(ours, str)
    else:
        np.testing.assert_array_equal(ours, pillow)


@pytest.mark.parametrize("restart_rows", [0, 1, 2])
@pytest.mark.parametrize("components", [1, 2, 3, 4, 5])
@pytest.mark.parametrize(
    ("frame", "precision"),
    [(0xC0, 8), (0xC1, 8), (0xC2, 8), (0xC1, 12), (0xC2, 12)]
    + [(0xC3, precision) for precision in range(2, 17)],
)
def test_every_kind_is_read_as_with_pillow_or_named(
    frame: int, precision: int, components: int, restart_rows: int
) -> None:
    random = np.random.default_rng(precision)
    values = random.integers(0, 1 << precision, (5, 4, components))
    data = jpeg(values, frame, precision, restart_rows)
    pillow, ours = by_pillow(data), by_us(data)
    if components in (2, 5):
        assert f"JPEG of {components} components" in ours
    elif precision != 8:
        assert f"the image has {precision} bits per sample" in ours
    elif pillow is None:
        assert "lossless JPEG of 4 components" in ours, "the only kind that neither reads"
    else:
        assert not isinstance(ours, str), ours
        assert np.abs(ours.astype(int) - pillow).max() <= (2 if components == 4 else 0)


@pytest.mark.parametrize("kind", WHOLE)
def test_whole_images_are_read_as_with_pillow(kind: str) -> None:
    assert by_pillow(WHOLE[kind]) is not None
    assert_as_pillow(WHOLE[kind])


@pytest.mark.parametrize("components", [1, 3])
def test_lossless_images_are_read_exactly(components: int) -> None:
    samples = np.random.default_rng(0).integers(0, 256, (7, 9, components))
    pixels = decode(jpeg(samples, 0xC3), "")
    np.testing.assert_array_equal(pixels, np.broadcast_to(samples, (7, 9, 3)))


@pytest.mark.parametrize(
    ("marker", "kind"), [(0xC5, "hierarchical"), (0xCB, "lossless"), (0xF7, "JPEG-LS")]
)
def test_kinds_that_cannot_be_decoded_are_named(marker: int, kind: str) -> None:
    data = WHOLE["baseline"].replace(b"\xff\xc0", bytes((0xFF, marker)))
    with pytest.raises(SampleError, match=f"unsupported kind: .*{kind}"):
        decode(data, "")


@pytest.mark.parametrize("kind", WHOLE)
def test_every_truncated_image_is_a_bad_sample_as_with_pillow(kind: str) -> None:
    data = WHOLE[kind]
    for end in range(3, len(data)):
        outcome = by_us(data[:end])
        if isinstance(outcome, str):
            assert "truncated" in outcome
        assert_as_pillow(data[:end])


@pytest.mark.parametrize("kind", WHOLE)
def test_a_marker_in_the_data_is_judged_as_by_pillow(kind: str) -> None:
    head, scan = split(WHOLE[kind])
    data = b"\xff\xd8" + head + scan
    first = len(data) - len(scan) + 2 + int.from_bytes(scan[2:4], "big")
    for at in range(first, len(data) - 2, max(1, len(scan) // 8)):
        for marker in range(1, 0xFF):
            damaged = data[:at] + bytes((0xFF, marker)) + data[at + 2 :]
            if marker not in TABLES or by_pillow(damaged) is None:
                assert_as_pillow(damaged)


@pytest.mark.parametrize("kind", WHOLE)
@settings(max_examples=150)
@given(data=st.data())
def test_other_damage_is_judged_as_by_pillow(kind: str, data: st.DataObject) -> None:
    damaged = bytearray(WHOLE[kind])
    first = damaged.index(b"\xff\xda") + 14
    at = data.draw(st.integers(first, len(damaged) - 2))
    bytes_more = data.draw(st.binary(max_size=6).filter(lambda more: b"\xff" not in more))
    damaged[at : at + data.draw(st.integers(0, 40))] = bytes_more
    if not TABLES.intersection(damaged[first:]):
        assert_as_pillow(bytes(damaged))


def test_filled_in_images_are_named() -> None:
    head, scan = split(encoded(noise((160, 160)), "JPEG"))
    at = len(scan) // 10
    damaged = b"\xff\xd8" + head + scan[:at].rstrip(b"\xff") + b"\xff\xf7" + scan[at + 2 :]
    with pytest.raises(SampleError, match="damaged: the marker FF F7 is in its data"):
        decode(damaged, "")


@pytest.mark.parametrize("lost", [0, 3])
def test_a_lost_restart_marker_costs_only_its_interval(lost: int) -> None:
    data = WHOLE["restarts"].replace(restart_marker(lost), b"\0\0")
    assert data != WHOLE["restarts"]
    assert_as_pillow(data)
    assert by_pillow(data) is not None


JUNK = {
    "FF 00": b"\xff\0",
    "fill bytes": b"\xff\xff\xff",
    "other bytes": b"abc",
    "FF 00 and a length": b"\xff\0\0\x20",
}


@pytest.mark.parametrize("junk", JUNK)
@pytest.mark.parametrize("kind", ["baseline", "gray", "progressive"])
def test_junk_between_markers_is_skipped(kind: str, junk: str) -> None:
    data = WHOLE[kind]
    with_junk = data[:2] + b"\xff\xfe\0\2" + JUNK[junk] + data[2:]
    header = read_header(with_junk, "")
    assert (header.width, header.height, header.gray) == (WIDTH, HEIGHT, kind == "gray")
    np.testing.assert_array_equal(decode(with_junk, ""), decode(data, ""))


def hidden_frame(data: bytes, size: int, components: int) -> bytes:
    """A comment with a frame, found by who takes FF 00 for the beginning of a segment."""
    frame = segment(0xC0, bytes((8, 0, size, 0, size, components)) + b"\1\x11\0" * components)
    head, scan = split(data)
    junk = b"\xff\0" + (len(head) + 6).to_bytes(2, "big")
    return b"\xff\xd8" + junk + head + segment(0xFE, frame) + scan


def test_a_frame_in_a_comment_is_not_the_header() -> None:
    out = np.empty((4, 4, 3), np.float16)
    options = Options((".",), images=True, image_size=(4, 4), max_pixels=100)
    with pytest.raises(SampleError, match=f"too large: {WIDTH} x {HEIGHT}"):
        convert(hidden_frame(WHOLE["baseline"], 1, 3), "", options, out)
    assert read_header(hidden_frame(WHOLE["gray"], 8, 3), "").gray
    assert not read_header(hidden_frame(WHOLE["baseline"], 8, 1), "").gray


def test_a_size_that_is_not_the_one_of_the_header_is_refused() -> None:
    out = np.empty((4, 4, 3), np.float16)
    options = Options((".",), images=True, image_size=(4, 4), max_pixels=10**6)
    other = np.zeros((9, 9, 3), np.uint8)
    with (
        patch.object(image, "decode", return_value=other),
        pytest.raises(SampleError, match=f"header says {WIDTH} x {HEIGHT} pixels, it has 9 x 9"),
    ):
        convert(WHOLE["baseline"], "", options, out)


@pytest.mark.parametrize("options", [{}, {"quality": 95, "subsampling": 0}, {"progressive": True}])
def test_cmyk_is_nearly_as_with_pillow(options: dict[str, Any]) -> None:
    data = encoded(noise().convert("CMYK"), "JPEG", **options)
    pillow = by_pillow(data)
    assert pillow is not None
    assert np.abs(decode(data, "").astype(int) - pillow).max() <= 2


def with_scans(count: int) -> bytes:
    """A progressive JPEG in which scans without data follow its own."""
    data = encoded(noise(), "JPEG", progressive=True)
    more = count - data.count(b"\xff\xda")
    return data[:-2] + segment(0xDA, b"\1\1\0\1\5\0") * more + data[-2:]


def test_scans_that_no_image_needs_are_refused() -> None:
    assert decode(with_scans(limits.JPEG_SCANS), "").shape == (HEIGHT, WIDTH, 3)
    with pytest.raises(SampleError, match=r"more than 100 scans .*progressive JPEG"):
        decode(with_scans(limits.JPEG_SCANS + 1), "")


def test_few_scans_of_a_large_arithmetic_coded_image_are_allowed() -> None:
    header = segment(0xCA, b"\x08" + (13_376).to_bytes(2, "big") * 2 + b"\1\1\x11\0")
    scan = segment(0xDA, b"\1\1\0\1\5\0") + bytes(3000)
    for scans, text in ((12, "more than 11 scans .*arithmetic-coded"), (98, "more than 11 scans")):
        with pytest.raises(SampleError, match=text):
            decode(b"\xff\xd8" + header + scan * scans + b"\xff\xd9", "")


@pytest.mark.parametrize("kind", WHOLE)
def test_what_follows_the_image_is_not_counted(kind: str) -> None:
    """A phone may append a video, in whose bytes there are all markers."""
    data = WHOLE[kind]
    video = b"\xff\xda\0\2" * 20_000
    np.testing.assert_array_equal(decode(data + video, ""), decode(data, ""))


def test_segments_that_no_image_needs_are_refused() -> None:
    data = WHOLE["baseline"]
    app1 = b"\xff\xe1\0\2" * limits.JPEG_SEGMENTS
    with pytest.raises(SampleError, match="10,000 segments"):
        decode(data[:-2] + app1 + data[-2:], "")
    with pytest.raises(SampleError, match="its header is incomplete"):
        read_header(data[:2] + app1 + data[2:], "")
