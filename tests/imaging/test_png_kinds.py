"""PNGs of every kind, with every ancillary chunk, animated and truncated, compared with Pillow."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from limbo_compress.errors import SampleError
from limbo_compress.imaging.decode import decode, read_header
from tests.pictures import chunk, encoded, picture, png_header, png_of

SIZE = (9, 7)
DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by color type
KINDS = [(color_type, depth) for color_type, depths in DEPTHS.items() for depth in depths]
# Adam7: the first column and row of each pass, and the steps from there.
PASSES = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)


def lines(size: tuple[int, int], depth: int, color_type: int, seed: int = 0) -> bytes:
    width, height = size
    stride = -(-CHANNELS[color_type] * depth * width // 8)
    random = np.random.default_rng(seed)
    return b"".join(b"\0" + random.bytes(stride) for _ in range(height))


def image_data(depth: int, color_type: int, interlaced: int = 0, seed: int = 0) -> bytes:
    """Noise, deflated."""
    sizes = [SIZE]
    if interlaced:
        width, height = SIZE
        sizes = [
            (-(-(width - x) // across), -(-(height - y) // down)) for x, y, across, down in PASSES
        ]
    passes = (lines(size, depth, color_type, seed + n) for n, size in enumerate(sizes))
    return zlib.compress(b"".join(passes))


def palette(depth: int, color_type: int) -> list[bytes]:
    colors = bytes(37 * n % 256 for n in range(3 << depth)) if color_type == 3 else b""
    return [chunk(b"PLTE", colors)] if colors else []


def ancillary(depth: int, color_type: int) -> Iterator[tuple[list[bytes], list[bytes]]]:
    """Every ancillary chunk, before or after the palette."""
    colors = 3 if color_type == 3 else CHANNELS[color_type]
    text = b"Title\0"
    before = {
        b"gAMA": struct.pack(">I", 45455),
        b"cHRM": struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000),
        b"sRGB": b"\0",
        b"iCCP": b"profile\0\0" + zlib.compress(b"not a profile"),
        b"cICP": bytes((9, 16, 0, 1)),
        b"sBIT": bytes([min(depth, 5) if color_type != 3 else 5] * colors),
        b"mDCV": bytes(24),
        b"cLLI": bytes(8),
        b"eXIf": b"MM\0*\0\0\0\x08\0\1\x01\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0",
        b"pHYs": struct.pack(">IIB", 1, 2, 0),
        b"sPLT": b"palette\0\x08" + bytes(6),
        b"tIME": struct.pack(">HBBBBB", 2020, 1, 2, 3, 4, 5),
        b"tEXt": text,
        b"zTXt": text + b"\0" + zlib.compress(b"text"),
        b"iTXt": text + bytes(4) + b"text",
        b"oFFs": struct.pack(">iiB", 1, 2, 0),
        b"sTER": b"\0",
        b"prVt": b"private",
    }
    after = {b"bKGD": bytes(1 if color_type == 3 else 2 * (colors - (color_type > 3)))}
    if color_type in (0, 2, 3):
        after[b"tRNS"] = bytes({0: 2, 2: 6, 3: 1}[color_type])
    if color_type == 3:
        after[b"hIST"] = bytes(2 << depth)
    yield [], []
    yield from (([chunk(*item)], []) for item in before.items())
    yield from (([], [chunk(*item)]) for item in after.items())


def by_pillow(data: bytes) -> NDArray[np.uint8]:
    """As the reference would decode it; what it cannot read as docs/differences.md says."""
    opened: Image.Image = Image.open(io.BytesIO(data))
    if opened.mode.startswith("I"):
        high = (np.array(opened).astype(np.int64) >> 8).astype(np.uint8)
        return np.repeat(high[..., None], 3, axis=2)
    if opened.mode == "LA":
        opened = opened.getchannel("L")
    elif opened.mode == "RGBA":
        opened = Image.merge("RGB", opened.split()[:3])
    return np.array(opened.convert("RGB"))


def by_us(data: bytes) -> NDArray[np.uint8]:
    """With every decoder."""
    pixels = decode(data, "")
    np.testing.assert_array_equal(pixels, decode(data, "", "opencv"))
    return pixels


@pytest.mark.parametrize("interlaced", [0, 1])
@pytest.mark.parametrize(("color_type", "depth"), KINDS)
def test_ancillary_chunks_change_nothing(color_type: int, depth: int, interlaced: int) -> None:
    header = png_header(SIZE, depth, color_type, interlaced)
    data = chunk(b"IDAT", image_data(depth, color_type, interlaced))
    colors = palette(depth, color_type)
    plain = by_us(png_of(header, *colors, data))
    for before, after in ancillary(depth, color_type):
        whole = png_of(header, *before, *colors, *after, data)
        np.testing.assert_array_equal(by_us(whole), plain)
        np.testing.assert_array_equal(by_pillow(whole), plain)


def control(number: int, size: tuple[int, int] = SIZE, x: int = 0) -> bytes:
    """The chunk before a frame: its place in the animation and in the image."""
    return chunk(b"fcTL", struct.pack(">5I2H2B", number, *size, x, 0, 1, 10, 0, 0))


def animations(depth: int, color_type: int) -> dict[str, list[list[bytes]]]:
    """What stands before the still image's data in an animation, and what follows them."""
    other = image_data(depth, color_type, seed=1)

    def frames(first: int) -> list[bytes]:
        return [
            part
            for number in (first, first + 2)
            for part in (control(number), chunk(b"fdAT", struct.pack(">I", number + 1) + other))
        ]

    def count(number: int) -> bytes:
        return chunk(b"acTL", struct.pack(">II", number, 0))

    return {
        "the still image is the first frame": [[count(3), control(0)], frames(1)],
        "the still image is no frame": [[count(2)], frames(0)],
        "one frame": [[count(1), control(0)], []],
        "no frame": [[count(0)], []],
        "more frames than there are": [[count(9), control(0)], frames(1)],
        "a first frame of a part": [[count(3), control(0, (2, 2), 3)], frames(1)],
        "no count": [[control(0)], frames(1)],
        "the count after the data": [[], [count(2), *frames(0)]],
        "two counts": [[count(2), count(3)], frames(0)],
        "an empty count": [[chunk(b"acTL", b"")], frames(0)],
        "an empty control": [[count(2), chunk(b"fcTL", b"")], frames(0)],
        "an empty frame": [[count(1)], [control(0), chunk(b"fdAT", b"")]],
    }


@pytest.mark.parametrize("animation", animations(8, 2))
@pytest.mark.parametrize(("color_type", "depth"), KINDS)
def test_of_an_animation_the_still_image_is_decoded(
    color_type: int, depth: int, animation: str
) -> None:
    header = png_header(SIZE, depth, color_type)
    data = chunk(b"IDAT", image_data(depth, color_type))
    before, after = animations(depth, color_type)[animation]
    colors = palette(depth, color_type)
    animated = png_of(header, *before, *colors, data, *after)
    still = by_us(png_of(header, *colors, data))
    np.testing.assert_array_equal(by_us(animated), still)
    assert read_header(animated, "") == read_header(png_of(header, data), "")


@pytest.mark.filterwarnings("ignore:Invalid APNG")
@pytest.mark.parametrize(
    "animation", [name for name in animations(8, 2) if "empty" not in name and "part" not in name]
)
def test_of_an_animation_pillow_decodes_the_still_image_as_well(animation: str) -> None:
    before, after = animations(8, 2)[animation]
    animated = png_of(png_header(SIZE, 8, 2), *before, chunk(b"IDAT", image_data(8, 2)), *after)
    np.testing.assert_array_equal(by_pillow(animated), by_us(animated))


def test_16_bit_animations_keep_the_high_byte() -> None:
    pixels = b"\x12\xff" * 4
    before = [chunk(b"acTL", struct.pack(">II", 2, 0)), control(0, (1, 1))]
    data = zlib.compress(b"\0" + pixels)
    after = [control(1, (1, 1)), chunk(b"fdAT", struct.pack(">I", 2) + data)]
    animated = png_of(png_header((1, 1), 16, 6), *before, chunk(b"IDAT", data), *after)
    assert by_us(animated).tolist() == [[[0x12] * 3]]


@pytest.mark.parametrize("second", [SIZE, (3, 3)])
@pytest.mark.parametrize("decoder", ["auto", "opencv"])
def test_a_second_header_is_refused_by_every_decoder(second: tuple[int, int], decoder: str) -> None:
    data = png_of(
        png_header(SIZE, 8, 2), png_header(second, 8, 2), chunk(b"IDAT", image_data(8, 2))
    )
    with pytest.raises(SampleError, match="damaged"):
        decode(data, "", decoder)


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1"])
def test_every_truncated_image_is_a_bad_sample(mode: str) -> None:
    data = encoded(picture().convert(mode))
    for end in range(8, len(data)):
        with pytest.raises(SampleError, match="truncated or damaged"):
            decode(data[:end], "")
