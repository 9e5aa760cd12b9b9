"""JPEGs of kinds that Pillow cannot write, and JPEGs with something wrong between their markers."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

_LOSSLESS = 0xC3
# Code 0 has 1 bit: the end of a block.
_END_OF_BLOCK = bytes((0x10, 1, *[0] * 15, 0))

_ARITHMETIC_START = bytes.fromhex(
    "ffd8ffe000104a46494600010100000100010000ffdb004300080606070605080707070909080a0c140d0c0b0b0c"
    "1912130f141d1a1f1e1d1a1c1c20242e2720222c231c1c2837292c30313434341f27393d38323c2e333432"
    "ffc9000b080010001001011100ffcc000600101005"
)
# Grey images of 16 x 16 pixels, written by libjpeg-turbo's ``cjpeg -arithmetic``.
ARITHMETIC = _ARITHMETIC_START + bytes.fromhex(
    "ffda0008010100003f00ff00ceeb15b8af61759e7b9e0e46a67ab47dffd9"
)
ARITHMETIC_WITH_RESTARTS = _ARITHMETIC_START + bytes.fromhex(
    "ffdd00040001ffda0008010100003f00ff00ceeb15b8af60ffd0ff00a51b65715ec0ffd1ff00b13a92b8af60"
    "ffd2ff003e3595c57bffd9"
)


def segment(marker: int, contents: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(contents) + 2) + contents


def noisy(data: bytes) -> bytes:
    """A JPEG with bytes between its markers, which libjpeg skips with a warning."""
    table = data.index(b"\xff\xdb")
    return data[:table] + b"noise" + data[table:]


def restart_marker(number: int) -> bytes:
    return bytes((0xFF, 0xD0 + number % 8))


def split(data: bytes) -> tuple[bytes, bytes]:
    """The markers before the first scan, without SOI, and everything from the scan on."""
    at = data.index(b"\xff\xda")
    return data[2:at], data[at:]


def jpeg(
    values: NDArray[np.int64], frame: int = 0xC0, precision: int = 8, restart_rows: int = 0
) -> bytes:
    """A JPEG of single values: of samples if it is lossless, else of flat blocks of 8 x 8 pixels.

    Parameters
    ----------
    values : ndarray of int, shape (height, width, components)
        Samples, or mean values of blocks.
    frame : int
        The marker of the frame: SOF0 to SOF3.
    precision : int
        Bits per sample.
    restart_rows : int
        The number of rows between two restart markers; 0 for none.
    """
    rows, columns, components = values.shape
    lossless = frame == _LOSSLESS
    size = 1 if lossless else 8
    identifiers = b"RGB" if components == 3 else bytes(range(1, components + 1))
    of_frame = b"".join(bytes((n, 0x11, 0)) for n in identifiers)
    of_scan = b"".join(bytes((n, 0)) for n in identifiers)
    spectrum = {0xC2: (0, 0, 0), _LOSSLESS: (1, 0, 0)}.get(frame, (0, 63, 0))
    sizes = struct.pack(">BHHB", precision, rows * size, columns * size, components)
    segments = [
        b"\xff\xd8",
        segment(0xEE, b"Adobe" + bytes(7)),
        segment(0xDB, b"\0" + b"\1" * 64),
        segment(frame, sizes + of_frame),
        segment(0xC4, _lengths_table(17 if lossless else 16) + _END_OF_BLOCK),
        segment(0xDD, struct.pack(">H", restart_rows * columns)),
        segment(0xDA, bytes((components,)) + of_scan + bytes(spectrum)),
    ]
    parts = _interval_borders(rows, restart_rows)
    ends_blocks = frame in (0xC0, 0xC1)
    for number, (first, last) in enumerate(parts):
        if number:
            segments.append(restart_marker(number - 1))
        part = values[first:last].astype(int)
        if lossless:
            segments.append(_pack(_lossless_differences(part, precision), False))
        else:
            segments.append(_pack(_block_differences(part, precision), ends_blocks))
    return b"".join((*segments, b"\xff\xd9"))


def _lengths_table(codes: int) -> bytes:
    """A Huffman table for the number of bits of a difference, in which every code has 5 bits."""
    return bytes((0, 0, 0, 0, 0, codes, *[0] * 11, *range(codes)))


def _interval_borders(rows: int, restart_rows: int) -> list[tuple[int, int]]:
    return list(pairwise([*range(0, rows, restart_rows or rows), rows]))


def _lossless_differences(samples: NDArray[np.int64], precision: int) -> Iterator[int]:
    """Differences from the sample to the left or, in the first column, from the one above."""
    for y, line in enumerate(samples):
        left = samples[y - 1, 0] if y else np.full(samples.shape[2], 1 << (precision - 1))
        for pixel in line:
            yield from (pixel - left).tolist()
            left = pixel


def _block_differences(means: NDArray[np.int64], precision: int) -> Iterator[int]:
    blocks = 8 * (means.reshape(-1, means.shape[2]) - (1 << (precision - 1)))
    yield from np.diff(blocks, axis=0, prepend=0).ravel().tolist()


def _pack(differences: Iterator[int], ends_blocks: bool) -> bytes:
    bits = []
    for difference in differences:
        length = abs(difference).bit_length()
        bits.append(f"{length:05b}")
        if length:
            value = difference if difference > 0 else difference + (1 << length) - 1
            bits.append(f"{value:0{length}b}")
        if ends_blocks:
            bits.append("0")
    text = "".join(bits)
    text += "1" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8, "big").replace(b"\xff", b"\xff\0")
