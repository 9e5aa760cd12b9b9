from __future__ import annotations

import io
from unittest.mock import patch

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from limbo_compress import Options
from limbo_compress.errors import SampleError
from limbo_compress.imaging import color
from limbo_compress.imaging.color import linear_light
from limbo_compress.imaging.decode import decode, read_header
from limbo_compress.imaging.image import convert
from tests.pictures import HEIGHT, WIDTH, encoded, picture, picture_with_alpha


def row(data: bytes, size: tuple[int, int] = (WIDTH, HEIGHT)) -> NDArray[np.float16]:
    out = np.full((size[1], size[0], 3), np.nan, np.float16)
    options = Options((".",), images=True, image_size=size, max_pixels=10**6)
    convert(data, "image", options, out)
    with_numpy = np.full_like(out, np.nan)
    with patch.object(color, "compiled", None):
        convert(data, "image", options, with_numpy)
    np.testing.assert_array_equal(out, with_numpy)
    return out


RGB = np.array(picture())
GRAY = np.array(picture().convert("L"))
PALETTE = picture().quantize(16)


# What else there is, is in `test_png_kinds`.
KINDS = {
    "RGB": (encoded(picture()), RGB),
    "RGBA: alpha dropped": (encoded(picture_with_alpha()), RGB),
    "palette": (encoded(PALETTE), np.array(PALETTE.convert("RGB"))),
    "palette with a clear color": (
        encoded(PALETTE, transparency=3),
        np.array(PALETTE.convert("RGB")),
    ),
    "gray with alpha": (encoded(picture_with_alpha().convert("LA")), GRAY),
    "1-bit": (encoded(picture().convert("1")), np.array(picture().convert("1").convert("L"))),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_png_kind_becomes_linear_rgb(kind: str) -> None:
    data, values = KINDS[kind]
    rgb = values if values.ndim == 3 else np.repeat(values[..., None], 3, axis=2)
    np.testing.assert_array_equal(row(data), linear_light(False)[rgb].astype(np.float16))


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_gray_images_are_not_decoded_from_srgb(kind: str) -> None:
    data = encoded(picture().convert("L"), kind)
    values = np.array(Image.open(io.BytesIO(data)))
    expected = np.repeat((values / 255)[..., None], 3, axis=2).astype(np.float16)
    assert read_header(data, "").gray
    np.testing.assert_allclose(row(data), expected, atol=1e-3)
    np.testing.assert_array_equal(row(data)[..., 0], row(data)[..., 2])


def test_the_exif_orientation_is_ignored() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(picture(), "JPEG", exif=exif)
    np.testing.assert_array_equal(decode(data, ""), np.array(Image.open(io.BytesIO(data))))


def test_linear_light_is_the_srgb_curve_in_float16() -> None:
    value = np.arange(256) / 255
    exact = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    np.testing.assert_allclose(linear_light(False), exact, rtol=4e-3, atol=1e-7)
    np.testing.assert_allclose(linear_light(True), value, rtol=1e-3)
    for gray in (False, True):
        assert (np.diff(linear_light(gray)) > 0).all()
        assert (linear_light(gray).astype(np.float16) == linear_light(gray)).all()


def test_rows_stay_in_the_range_of_their_image() -> None:
    steps = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    steps[:, WIDTH // 2 :] = 200
    out = row(encoded(Image.fromarray(steps)), (17, 51))
    assert out.min() == 0
    assert out.max() == linear_light(False)[200]


@pytest.mark.parametrize(
    "data", [b"", b"GIF89a" + bytes(50), b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"]
)
def test_data_that_is_no_image_is_a_bad_sample(data: bytes) -> None:
    with pytest.raises(SampleError, match="the image"):
        row(data)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_large_image_is_refused_before_it_is_decoded(kind: str) -> None:
    data = bytearray(encoded(picture(), kind))
    at = data.index(HEIGHT.to_bytes(2, "big") + WIDTH.to_bytes(2, "big")) if kind == "JPEG" else 16
    data[at : at + 4] = b"\xff\xff\xff\xff" if kind == "JPEG" else b"\x00\x01\xff\xff"
    with pytest.raises(SampleError, match=r"too large: \d+ x \d+ pixels"):
        row(bytes(data))
