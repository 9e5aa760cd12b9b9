from __future__ import annotations

import tracemalloc
import zlib
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from limbo_compress import deflate, limits
from limbo_compress.errors import SampleError
from limbo_compress.imaging.decode import decode
from limbo_compress.imaging.png import compiled, decode_plain, find_chunks
from tests.pictures import SIZE, chunk, encoded, picture, picture_with_alpha, png

pytestmark = pytest.mark.skipif(compiled is None, reason="there was no C compiler")

PLAIN = {"RGB": encoded(picture()), "RGBA": encoded(picture_with_alpha())}
CHANNELS = {2: 3, 6: 4}  # by color type
LINES = b"".join(b"\0" + line.tobytes() for line in np.array(picture()))


def deflated_with(window_bits: int, lines: bytes = LINES) -> bytes:
    stream = zlib.compressobj(wbits=window_bits)
    return stream.compress(lines) + stream.flush()


def noise(lines: int) -> bytes:
    values = np.random.default_rng(0).integers(0, 256, (lines, 1 + 3 * SIZE[0]), np.uint8)
    values[:, 0] = 0
    return values.tobytes()


@pytest.fixture(params=["zlib", "isal"], autouse=True, scope="module")
def _inflater(request: pytest.FixtureRequest) -> Iterator[None]:
    """Inflate without the extra [fast], and with it."""
    pytest.importorskip(request.param)
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "zlib":
            patch.setattr(deflate, "crc32", zlib.crc32)
            patch.setattr(deflate, "Error", zlib.error)
            patch.setattr(deflate, "decompressor", zlib.decompressobj)
        yield


def decoded(data: bytes) -> NDArray[np.uint8] | None:
    return decode_plain(data, find_chunks(data, ""))


def outcome(data: bytes, decoder: str) -> bytes:
    try:
        return decode(data, "", decoder).tobytes()
    except SampleError as error:
        return str(error).encode()


@st.composite
def filtered_pngs(draw: st.DrawFn) -> bytes:
    """PNGs of random bytes with any filters."""
    width, height = draw(st.integers(1, 20)), draw(st.integers(1, 26))
    color_type = draw(st.sampled_from([2, 6]))
    # With few different bytes, many predictions are equally close.
    different = draw(st.sampled_from([2, 5, 256]))
    random = np.random.default_rng(draw(st.integers(0, 1 << 32)))
    lines = random.integers(0, different, (height, 1 + width * CHANNELS[color_type]), np.uint8)
    kind = st.integers(0, 4)
    lines[:, 0] = draw(kind | st.lists(kind, min_size=height, max_size=height))
    return png((width, height), 8, color_type, zlib.compress(lines.tobytes()))


@settings(max_examples=1000)
@given(filtered_pngs())
def test_every_filter_is_reversed_as_by_opencv(data: bytes) -> None:
    pixels = decoded(data)
    assert pixels is not None
    np.testing.assert_array_equal(pixels, decode(data, "", "opencv"))


@pytest.mark.parametrize("level", [0, 1, 6, 9])
@pytest.mark.parametrize("image", [picture(), picture_with_alpha()], ids=["RGB", "RGBA"])
def test_pngs_of_pillow_are_decoded(image: Image.Image, level: int) -> None:
    pixels = decoded(encoded(image, compress_level=level))
    assert pixels is not None
    np.testing.assert_array_equal(pixels, np.array(image)[..., :3])


def test_image_data_may_be_split_into_chunks() -> None:
    deflated = zlib.compress(LINES)
    pixels = decoded(png(SIZE, 8, 2, deflated[:1], deflated[1:700], b"", deflated[700:]))
    assert pixels is not None
    np.testing.assert_array_equal(pixels, np.array(picture()))


OTHERS = {
    "gray": encoded(picture().convert("L")),
    "1-bit": encoded(picture().convert("1")),
    "palette": encoded(picture().quantize(16)),
    "gray with alpha": encoded(picture_with_alpha().convert("LA")),
    "clear color": encoded(picture(), transparency=(0, 0, 0)),
    "animated": encoded(picture(), save_all=True, append_images=[picture().rotate(90)]),
    "16-bit": png(SIZE, 16, 2, zlib.compress(bytes(SIZE[1] * (1 + 6 * SIZE[0])))),
    "small window": png(SIZE, 8, 2, deflated_with(9)),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_pngs_are_left_to_opencv(kind: str) -> None:
    data = OTHERS[kind]
    assert decoded(data) is None
    assert decode(data, "").shape == (*SIZE[::-1], 3)


WHOLE = png(SIZE, 8, 2, zlib.compress(LINES))
WRONG = {
    "too little image data": png(SIZE, 8, 2, zlib.compress(LINES[:-1])),
    "too much image data": png(SIZE, 8, 2, zlib.compress(LINES + b"\0")),
    "data behind it": png(SIZE, 8, 2, zlib.compress(LINES), b"more"),
    "an end that is missing": png(SIZE, 8, 2, zlib.compress(LINES)[:-1]),
    "a wrong checksum of the image data": png(SIZE, 8, 2, zlib.compress(LINES)[:-1] + b"\0"),
    "a wrong checksum of a chunk": WHOLE[:-13] + bytes([WHOLE[-13] ^ 1]) + WHOLE[-12:],
    "an unknown filter": png(SIZE, 8, 2, zlib.compress(b"\5" + LINES[1:])),
    "a window larger than it says": png(
        SIZE, 8, 2, b"\x18\x19" + deflated_with(15, 2 * noise(SIZE[1] // 2))[2:]
    ),
    "no image data": png(SIZE, 8, 2),
    "no width": png((0, 30), 8, 2, zlib.compress(bytes(30))),
    "too long a side": png((1_000_001, 1), 8, 2, zlib.compress(bytes(3_000_004))),
    "two headers": WHOLE.replace(
        b"\0\0\0\0IEND", chunk(b"IHDR", b"\0\0\0\1\0\0\0\1\x08\2\0\0\0") + b"\0\0\0\0IEND"
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_defects_are_left_to_opencv(wrong: str) -> None:
    assert decoded(WRONG[wrong]) is None
    assert outcome(WRONG[wrong], "auto") == outcome(WRONG[wrong], "opencv")


@settings(max_examples=300)
@given(st.sampled_from(sorted(PLAIN)), st.data())
def test_damaged_pngs_have_the_same_outcome_as_with_opencv(
    kind: str, choice: st.DataObject
) -> None:
    data = bytearray(PLAIN[kind])
    for _ in range(choice.draw(st.integers(1, 3))):
        data[choice.draw(st.integers(8, len(data) - 1))] ^= 1 << choice.draw(st.integers(0, 7))
    assert outcome(bytes(data), "auto") == outcome(bytes(data), "opencv")


def test_a_decompression_bomb_takes_no_memory() -> None:
    data = png(SIZE, 8, 2, zlib.compress(bytes(1 << 28)))
    tracemalloc.start()
    try:
        assert decoded(data) is None
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10 * len(data)


def test_an_incomplete_chunk_is_found_before_decoding() -> None:
    data = bytearray(PLAIN["RGB"])
    data[33:37] = b"\x7f\xff\xff\xff"
    with pytest.raises(SampleError, match="truncated or damaged: a chunk is incomplete"):
        find_chunks(bytes(data), "image.png")


@pytest.mark.parametrize(
    ("filtered", "width", "channels"), [(121, 3, 3), (119, 3, 3), (120, 0, 3), (120, 3, 5)]
)
def test_shapes_that_do_not_match_are_refused(filtered: int, width: int, channels: int) -> None:
    out = np.empty((12, 3, 3), np.uint8)
    assert compiled.unfilter(bytes(120), 3, 3, out)
    with pytest.raises(ValueError, match="do not match"):
        compiled.unfilter(bytes(filtered), width, channels, out)


def test_too_many_chunks_are_refused() -> None:
    data = PLAIN["RGB"]
    empty = chunk(b"tEXt", b"") * limits.PNG_CHUNKS
    with pytest.raises(SampleError, match="more than 262,144 chunks"):
        find_chunks(data[:33] + empty + data[33:], "")
