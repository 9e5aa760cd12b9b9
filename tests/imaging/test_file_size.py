"""How large a file may be, by its head."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from limbo_compress.errors import SampleError
from limbo_compress.imaging.file_size import check_file_size
from limbo_compress.imaging.image import convert
from limbo_compress.options import Options
from tests.exrs import NAMED, Part, exr
from tests.pictures import encoded, picture, png_header

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def head_of_png(side: int) -> bytes:
    return SIGNATURE + png_header((side, side), 16, 6)


def test_photographs_and_renders_of_any_kind_may_be_read() -> None:
    check_file_size(head_of_png(16_384), 1 << 30, "")  # noise does not get smaller
    check_file_size(head_of_png(4_000), 16_000_000 * 8, "")
    check_file_size(encoded(Image.new("L", (3000, 2000)), "JPEG"), 100_000_000, "")
    planes = {
        b"crypto%02d.%c" % (n // 4, b"RGBA"[n % 4]): np.zeros((720, 720), "<f4") for n in (0, 1)
    }
    check_file_size(exr(Part(planes, (NAMED,)))[:1000], 70_000_000, "")


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_few_pixels_need_no_large_file(kind: str) -> None:
    head = encoded(picture(), kind)
    check_file_size(head, 1 << 26, "x")
    with pytest.raises(SampleError, match=r"x: it is too large: 67,118,465 bytes.* at most 67,118"):
        check_file_size(head, 67_118_465, "x")


def test_a_small_cryptomatte_needs_no_large_file() -> None:
    head = exr(Part({b"crypto00.R": np.zeros((2, 3), "<f4")}))
    check_file_size(head, (1 << 26) + 2 * 24, "x")
    with pytest.raises(SampleError, match="it is too large"):
        check_file_size(head, (1 << 26) + 2 * 24 + 1, "x")


def test_an_image_that_is_too_long_is_refused_by_its_header() -> None:
    options = Options((".",), images=True, image_size=(4, 4))
    data = SIGNATURE + png_header((300_000, 1), 8, 2)
    with pytest.raises(SampleError, match="300000 x 1 pixels, the limit is 262,144 on a side"):
        convert(data, "", options, np.empty((4, 4, 3), np.float16))
