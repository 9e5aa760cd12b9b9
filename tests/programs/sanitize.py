"""Feed the compiled modules whatever comes to mind, under AddressSanitizer: ``make sanitize``.

Their arguments are what images lead to, and what no caller passes: shapes that do not belong
together and numbers that overflow. The sanitizers end the process at the first access outside a
buffer, and at the first undefined operation. Results are compared with those of OpenCV and numpy.
"""

from __future__ import annotations

import sys
import time
import zlib
from collections.abc import Callable
from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from limbo_compress.imaging import color, png, scanlines
from limbo_compress.imaging.decode import decode
from limbo_compress.imaging.resample import axis_operator
from tests.pictures import png as make_png

SECONDS = 15.0
EDGES = (-(2**63), -(2**31), -1, 0, 1, 2, 3, 4, 5, 2**31, 2**61, 2**62, 2**63 - 1)


# The modules that were compiled for the sanitizer.
_modules: dict[str, Any] = {}


def any_number(random: Generator) -> int:
    return int(random.choice(EDGES)) if random.random() < 0.3 else int(random.integers(0, 40))


def any_png(random: Generator) -> bytes:
    width, height = (int(side) for side in random.integers(1, 40, 2))
    color_type, channels = ((2, 3), (6, 4))[random.integers(2)]
    lines = random.integers(0, 256, (height, 1 + width * channels), np.uint8)
    lines[:, 0] = random.integers(0, 5, height) if random.random() < 0.7 else random.integers(5)
    return make_png((width, height), 8, color_type, zlib.compress(lines.tobytes(), 1))


def decode_png(random: Generator) -> None:
    """Decode a PNG, and then the same one damaged."""
    data = any_png(random)
    pixels = png.decode_plain(data, png.find_chunks(data, ""))
    assert pixels is not None
    assert pixels.tobytes() == decode(data, "", "opencv").tobytes()
    damaged = bytearray(data)
    damaged[random.integers(16, 29)] ^= 1 << random.integers(8)  # in its header
    damaged[29:33] = zlib.crc32(damaged[12:29]).to_bytes(4, "big")
    png.decode_plain(bytes(damaged), png.find_chunks(data, ""))


def call_unfilter(random: Generator) -> None:
    """Pass filtered lines and sizes that need not belong together."""
    width, height, channels = any_number(random), int(random.integers(0, 20)), any_number(random)
    fits = 0 <= width < 40 and 0 <= channels < 6
    size = height * (1 + width * channels) if fits else int(random.integers(0, 200))
    out = np.empty(height * width * 3 if fits and random.random() < 0.9 else 7, np.uint8)
    png.compiled.unfilter(random.bytes(size), width, channels, out)


def resize_image(random: Generator) -> None:
    """Resize an image of any size to any other."""
    height, width, new_height, new_width = (int(side) for side in random.integers(1, 300, 4) // 2)
    pixels = random.integers(0, 256, (height + 1, width + 1, 3), np.uint8)
    rows = [np.empty((new_height + 1, new_width + 1, 3), np.float16) for _ in range(2)]
    light = color.linear_light(False)
    color.fill_row(pixels, light, rows[0])
    color._fill_row_with_numpy(pixels, light, rows[1])
    assert np.array_equal(rows[0], rows[1])


def call_fill_row(random: Generator) -> None:
    """Pass an image, operators and a row, one of which does not belong to the others."""
    height, width, rows, columns = (int(side) for side in random.integers(1, 30, 4))
    down, across = axis_operator(height, rows, 3), axis_operator(width, columns, 3)
    arguments: list[Any] = [
        random.integers(0, 256, height * width * 3, np.uint8),
        height,
        color.linear_light(True),
        down.starts.copy(),
        down.weights.copy(),
        across.starts.copy(),
        across.weights_for_rgb.copy(),
        np.empty(rows * columns * 3, np.float16),
    ]
    place = int(random.integers(len(arguments)))
    changed = arguments[place]
    if place == 1:
        arguments[place] = any_number(random)
    elif changed.dtype == np.int64 and random.random() < 0.7:
        changed[random.integers(changed.size)] = any_number(random)
    else:
        arguments[place] = np.resize(changed, any_number(random) % 2000)
    color.compiled.fill_row(*arguments)


def call_fill_batch(random: Generator) -> None:
    """Pass rows, a table and a batch, which need not belong together."""
    stored, pixels, room, count = (int(number) for number in random.integers(1, 40, 4))
    size, planar = int(random.choice([1, 2, 4])), bool(random.integers(2))
    bits: NDArray[np.uint16] = random.integers(0, 1 << 16, (stored, pixels, 3), np.uint16)
    rows = random.integers(0, stored, count)
    places = random.permutation(room)[:count]
    table: NDArray[Any] | None = None
    unsigned = np.dtype(f"u{size}")
    if size == 1 or random.random() < 0.3:
        table = random.integers(0, 1 << 8, 1 << 16).astype(unsigned)
    batch = np.zeros((room, 3, pixels) if planar else (room, pixels, 3), unsigned)
    arguments: list[Any] = [bits, rows[: len(places)], places, table, batch, pixels, size, planar]
    changed = int(random.integers(16))
    if changed in (1, 2):
        arguments[changed] = arguments[changed].copy()
        arguments[changed][random.integers(len(places))] = any_number(random)
    elif changed in (0, 3, 4):
        arguments[changed] = np.zeros(any_number(random) % 2000, unsigned)
    elif changed in (5, 6):
        arguments[changed] = any_number(random) % (1 << 31)
    _modules["_planes"].fill_batch(*arguments)
    if changed > 6:
        halves = bits.view(np.float16)
        values = table[bits] if table is not None else halves if size == 2 else halves.astype("f4")
        expected = (values.swapaxes(1, 2) if planar else values)[rows[: len(places)]]
        assert np.array_equal(batch[places].view(expected.dtype), expected, equal_nan=table is None)


def filtered(lines: NDArray[np.uint8]) -> bytes:
    """Do to lines what OpenEXR does before it deflates them."""
    split = np.concatenate([lines.ravel()[0::2], lines.ravel()[1::2]])
    split[1:] -= split[:-1] - 128
    return bytes(split)


def find_covered(random: Generator) -> None:
    """Find pixels in a block, and then with an argument that does not belong to the others."""
    height, width, ranks, others = (int(n) for n in random.integers(1, (5, 40, 4, 3)))
    values = np.array([0, -0.0, 1, 2, 3, np.nan, np.inf], np.float32)
    planes = random.choice(values, (height, 2 * ranks + others, width))
    planes[random.random(planes.shape[:2]) < 0.5, 1:] = 0
    order = random.permutation(2 * ranks + others)[: 2 * ranks]
    channels = np.array([(4 * width * order[row], row) for row in np.argsort(order)], np.int64)
    ids = np.arange(1, random.integers(1, 4), dtype=np.float32)
    is_filtered = random.random() < 0.7
    lines = planes.reshape(height, -1).view(np.uint8)
    block = filtered(lines) if is_filtered else lines.tobytes()
    most = height * width * ranks
    entries = np.zeros(most, scanlines._ENTRY)
    arguments: list[Any] = [block, is_filtered, lines.shape[1], width, channels, 0, ids, entries, 0]
    count = _modules["_scanlines"].find_covered(*arguments)
    pairs = planes[:, order].reshape(height, ranks, 2, width)
    places = np.argwhere(np.isin(pairs[:, :, 0], ids) & (pairs[:, :, 1] != 0))
    expected = [
        (y * width + x, pairs[y, rank, 0, x] - 1, pairs[y, rank, 1, x]) for y, rank, x in places
    ]
    for name, column in zip(("pixel", "id", "amount"), zip(*expected, strict=True), strict=False):
        np.testing.assert_array_equal(entries[name][:count], column)
    assert count == len(expected)
    place = int(random.choice([0, 2, 3, 4, 5, 6, 7, 8]))
    if place == 0:
        arguments[0] = random.bytes(any_number(random) % 2000)
    elif place == 4 and random.random() < 0.7:
        channels.ravel()[random.integers(channels.size)] = any_number(random)
    elif place in (4, 6, 7):
        arguments[place] = np.resize(arguments[place], any_number(random) % 500)
    else:
        arguments[place] = any_number(random)
    _modules["_scanlines"].find_covered(*arguments)


def repeat(work: Callable[[Generator], None]) -> str:
    random = np.random.default_rng(1)
    done = refused = 0
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        try:
            work(random)
        except ValueError:
            refused += 1
        else:
            done += 1
    assert done, "a fuzzer that nothing passes shows nothing"
    return f"{work.__name__}: {done:,} done, {refused:,} refused"


def load(path: str) -> Any:
    name = f"limbo_compress.{Path(path).parent.name}.{Path(path).stem}"
    spec = spec_from_file_location(name, path, loader=ExtensionFileLoader(name, path))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> None:
    _modules.update({Path(path).stem: load(path) for path in sys.argv[1:]})
    png.compiled = _modules["_unfilter"]
    color.compiled = _modules["_resample"]
    pngs, rows = (decode_png, call_unfilter), (resize_image, call_fill_row, call_fill_batch)
    for work in (*pngs, *rows, find_covered):
        print(repeat(work), flush=True)


if __name__ == "__main__":
    main()
