"""A cryptomatte and some labels to rows of coverage.

The format is that of the Cryptomatte specification 1.2 (Psyop): an OpenEXR file whose
attribute ``cryptomatte/<key>/name`` names a layer, and whose channels ``<name>00.R``,
``.G``, ``.B``, ``.A``, ``<name>01.R``, ... are pairs of an id and its coverage, one pair per rank.
The key is the first seven hex digits of a hash, or fewer.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import groupby
from math import prod
from operator import itemgetter
from typing import NamedTuple

import Imath
import mmh3
import numpy as np
import OpenEXR
from numpy.typing import NDArray

from .. import limits
from ..array_kinds import MASKS
from ..errors import SampleError
from . import exr, scanlines
from .resample import Doubles, resample
from .scanlines import Covered

__all__ = [
    "Covered",
    "Cryptomatte",
    "covered",
    "label_id",
    "label_ids",
    "mattes",
    "open_cryptomatte",
    "resize_matte",
]

_NAME = re.compile(rb"cryptomatte/.{1,7}/name")
# In pixels, unless the image is larger. OpenEXR allocates whole tiles of all channels.
_LARGEST_TILE = 1 << 20
_ORDER = {"r": 0, "red": 0, "g": 1, "green": 1, "b": 2, "blue": 2, "a": 3, "alpha": 3}
# Compressions that change floats: all of them, or those of channels with these endings.
_LOSSY = {"PXR24": ("",), "LJ2K": ("",), "DWAA": (".R", ".G", ".B"), "DWAB": (".R", ".G", ".B")}
# Decode at most this many bytes at once, and sum at most this many pixels of all patterns.
_STRIP_BYTES = 1 << 26
_SUMMED_PIXELS = 1 << 26
# With fewer ids it is faster to compare each with all pixels than to look up those of each pixel.
_FEW_IDS = 50


class Cryptomatte(NamedTuple):
    """A cryptomatte whose header has been checked, to be decoded."""

    data: bytes
    path: str
    part: exr.ExrPart
    channels: tuple[str, ...]  # the ids and the coverage of each rank, in turn

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the image, in pixels: those of the file's display window."""
        return self.part.display_window.shape

    @property
    def strip_lines(self) -> int:
        """How many lines to decode at once: whole chunks, and most files in one piece."""
        line_bytes = self.part.data_window.shape[1] * self.part.pixel_bytes
        return max(1, _STRIP_BYTES // (line_bytes * self.part.chunk_lines)) * self.part.chunk_lines


def label_id(label: str) -> float:
    """Id of a label in a cryptomatte, as a float32.

    The id is MurmurHash3_32, its bits read as a float. Bit 23 is flipped where they would be
    a denormal, an infinity or a NaN (the specification's section on hashing).

    Examples
    --------
    >>> struct.pack(">f", label_id("30B/0")).hex()
    '21e5352c'
    """
    # JSON may contain lone surrogates. mmh3 crashes on them if it has to encode them itself.
    bits = mmh3.hash(label.encode(errors="surrogatepass"), signed=False)
    if bits >> 23 & 255 in (0, 255):
        bits ^= 1 << 23
    value: float = struct.unpack("<f", struct.pack("<I", bits))[0]
    return value


def label_ids(labels: Iterable[str]) -> NDArray[np.float32]:
    """Return the distinct ids of labels, sorted."""
    return np.unique(np.array([label_id(label) for label in labels], np.float32))


def open_cryptomatte(data: bytes, path: str, max_pixels: int) -> Cryptomatte:
    """Check the header of an OpenEXR file that holds one cryptomatte, without decoding it.

    The image may be scan lines or tiles. Of several parts, the first one counts.

    Raises
    ------
    SampleError
        If it is not an OpenEXR file, is damaged or too large, or does not hold exactly one
        cryptomatte, with ids that are 32-bit floats.
    """
    parts = exr.read_header(data, path)
    name = _only_name(parts, path)
    if any(_rank_channels(part, name) for part in parts[1:]):
        raise SampleError(
            f"the cryptomatte {name} has channels outside the first part of the file,"
            " the only one that is read",
            path,
        )
    part = parts[0]
    channels = _find_channels(part, name, path)
    _check_size(part, len(data), path, max_pixels)
    if part.is_deep:
        raise SampleError(f"the cryptomatte {name} is deep: only flat images are supported", path)
    _check_pixels(part, name, channels, path)
    return Cryptomatte(data, path, part, tuple(channels))


def _only_name(parts: Sequence[exr.ExrPart], path: str) -> str:
    # Some renderers repeat the attribute in every part.
    found = {
        (attribute, value.partition(b"\0")[0])
        for part in parts
        for attribute, (kind, value) in part.attributes.items()
        if _NAME.fullmatch(attribute) and kind == b"string"
    }
    names = sorted(value.decode(errors="backslashreplace") for _, value in found)
    if len(names) != 1:
        listed = ", ".join(names) or "none"
        raise SampleError(f"exactly one cryptomatte is expected in the file, found: {listed}", path)
    return names[0]


def _find_channels(part: exr.ExrPart, name: str, path: str) -> list[str]:
    """Return the ids and coverage of a cryptomatte, in turn."""
    channels = _rank_channels(part, name)
    places = [[place for _, place, _ in layer] for _, layer in groupby(channels, key=itemgetter(0))]
    if not places or any(layer not in ([0, 1], [0, 1, 2, 3]) for layer in places):
        listed = ", ".join(channel for *_, channel in channels) or "none"
        raise SampleError(
            f"the channels of the cryptomatte {name} are not pairs of id and coverage: {listed}",
            path,
        )
    return [channel for *_, channel in channels]


def _rank_channels(part: exr.ExrPart, name: str) -> list[tuple[str, int, str]]:
    """Return the layer, the place in it, and the name of each channel of a cryptomatte's ranks."""
    rank = re.compile(rf"({re.escape(name)}\d\d)\.({'|'.join(_ORDER)})", re.IGNORECASE)
    matches = [match for channel in part.channels if (match := rank.fullmatch(channel))]
    return sorted((match[1].lower(), _ORDER[match[2].lower()], match[0]) for match in matches)


def _check_size(part: exr.ExrPart, file_bytes: int, path: str, max_pixels: int) -> None:
    for window in (part.data_window, part.display_window):
        height, width = window.shape
        why = limits.why_too_large(width, height, max_pixels)
        if width < 1 or height < 1:
            why = f"{width} x {height} pixels"
        if why:
            raise SampleError(f"the cryptomatte has {why}", path)
    height, width = part.tile_shape
    if height * width > max(_LARGEST_TILE, 4 * prod(part.data_window.shape)):
        raise SampleError(f"the cryptomatte has tiles of {width} x {height} pixels", path)
    _check_decoded_size(part, file_bytes, path)


def _check_decoded_size(part: exr.ExrPart, file_bytes: int, path: str) -> None:
    height, width = part.data_window.shape
    decoded = height * width * part.pixel_bytes
    chunk = min(height, part.chunk_lines) * width * part.pixel_bytes
    if decoded > limits.DECODED_BYTES or chunk > limits.CHUNK_BYTES:
        raise SampleError(
            f"the cryptomatte is too large: {len(part.channels)} channels of {width} x {height}"
            f" pixels are {decoded:,} bytes, {chunk:,} of them compressed together;"
            f" the limits are {limits.DECODED_BYTES:,} and {limits.CHUNK_BYTES:,}",
            path,
        )
    # Each chunk has an offset of 8 bytes.
    if part.chunks > limits.CHUNKS or 8 * part.chunks > file_bytes:
        raise SampleError(
            f"the cryptomatte is truncated or damaged, or has too many chunks: {part.chunks:,}"
            f" in {file_bytes:,} bytes, the limit is {limits.CHUNKS:,}",
            path,
        )


def _check_pixels(part: exr.ExrPart, name: str, channels: Sequence[str], path: str) -> None:
    found = [part.channels[channel] for channel in channels]
    if any(channel.sampling != (1, 1) for channel in found):
        problem = f"the channels of the cryptomatte {name} do not have a value for each pixel"
    elif any(channel.pixel_type != exr.FLOAT for channel in found[0::2]):
        problem = f"the ids of the cryptomatte {name} are not 32-bit floats, so they are lost"
    elif any(channel.pixel_type not in (exr.HALF, exr.FLOAT) for channel in found[1::2]):
        problem = f"the coverage of the cryptomatte {name} is not a float"
    elif any(channel.endswith(_LOSSY.get(part.compression, ())) for channel in channels[0::2]):
        problem = (
            f"the ids of the cryptomatte {name} are lost: the compression"
            f" {part.compression} changes them"
        )
    else:
        return
    raise SampleError(problem, path)


class _Stream(io.BytesIO):
    """A file that knows whether it ended early, which OpenEXR checks in compressed lines only."""

    is_short = False

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.is_short |= len(data) < (size or 0)
        return data


def _find_all(cryptomatte: Cryptomatte, ids: NDArray[np.float32]) -> Iterator[Covered]:
    """Find covered pixels, and count them from the corner of the data window.

    OpenEXR judges the header, and every block that `scanlines` does not read.
    """
    data, part, channels = cryptomatte.data, cryptomatte.part, cryptomatte.channels
    height, width = part.data_window.shape
    top = part.data_window.top
    kind = Imath.PixelType(Imath.PixelType.FLOAT)
    stream = _Stream(data) if part.compression == "none" else io.BytesIO(data)
    with _openexr_errors(cryptomatte):
        file = OpenEXR.InputFile(stream)  # without header(), which crashes: see exr
        file.channels(channels[:1], kind, top, top)  # only now it refuses some headers
    done = 0
    for found, lines in scanlines.find_covered(data, part, channels, ids):
        yield found
        done = lines
    for line in range(done, height, cryptomatte.strip_lines):
        lines = min(cryptomatte.strip_lines, height - line)
        with _openexr_errors(cryptomatte):
            pixels = file.channels(channels, kind, top + line, top + line + lines - 1)
            if isinstance(stream, _Stream) and stream.is_short:
                raise ValueError("the file ends early")
        planes = [np.frombuffer(p, np.float32).reshape(lines, width) for p in pixels]
        for rank_ids, coverage in zip(planes[0::2], planes[1::2], strict=True):
            found = _find(rank_ids, coverage, ids)
            yield found._replace(pixels=found.pixels + line * width)


@contextmanager
def _openexr_errors(cryptomatte: Cryptomatte) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        height, width = cryptomatte.part.data_window.shape
        lines = min(cryptomatte.strip_lines, height)
        # OpenEXR does not tell clearly when memory is short. In that case this raises MemoryError.
        np.empty((2 * len(cryptomatte.channels), lines, width), np.float32)
        problem = f"OpenEXR cannot read the cryptomatte: {error}"
        raise SampleError(problem, cryptomatte.path) from error


def covered(cryptomatte: Cryptomatte, ids: NDArray[np.float32]) -> Iterator[Covered]:
    """Decode a cryptomatte, and find the pixels that labels with some ids cover.

    The ids are as `label_ids` returns them. Yields what is found in each rank of each strip.

    Raises
    ------
    SampleError
        If the file is damaged, or a coverage is not a number.
    MemoryError
        If memory is short.
    """
    for found in map(partial(_in_image, cryptomatte.part), _find_all(cryptomatte, ids)):
        if not np.isfinite(found.amounts).all():
            problem = "the cryptomatte has a coverage that is not a number"
            raise SampleError(problem, cryptomatte.path)
        yield found


def _in_image(part: exr.ExrPart, found: Covered) -> Covered:
    """Count pixels from the corner of the image, and leave out those outside."""
    window, display = part.data_window, part.display_window
    if window == display:
        return found
    y, x = np.divmod(found.pixels, window.shape[1])
    y += window.top - display.top
    x += window.left - display.left
    height, width = display.shape
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    return Covered((y * width + x)[inside], found.ids[inside], found.amounts[inside])


# Damaged files hold signaling NaNs, about which numpy warns wherever it reads them.
@np.errstate(invalid="ignore")
def _find(
    rank_ids: NDArray[np.float32], coverage: NDArray[np.float32], ids: NDArray[np.float32]
) -> Covered:
    if not coverage.any() or not ids.size:  # most ranks are empty, and looking is fast
        nothing = np.empty(0, np.intp)
        return Covered(nothing, nothing, np.empty(0))
    is_few = ids.size <= _FEW_IDS
    found = np.flatnonzero(np.isin(rank_ids, ids) if is_few else coverage)
    values = rank_ids.ravel()[found]
    places = np.searchsorted(ids, values)
    if not is_few:
        places[places == ids.size] = 0
        known = ids[places] == values
        found, places = found[known], places[known]
    return Covered(found, places, coverage.ravel()[found].astype(np.float64))


def mattes(
    cryptomatte: Cryptomatte, labels: Sequence[str], patterns: Sequence[str]
) -> Iterator[Doubles]:
    """Sum, for each pattern, the coverage of the labels of the manifest that it matches.

    Patterns are regular expressions, as `re.search` takes them. A label that the file does not
    contain covers nothing; one that is there twice counts once.

    Yields
    ------
    ndarray of float64, shape (height, width)

    Raises
    ------
    SampleError
        If the file is damaged, or a coverage is not a number.
    MemoryError
        If memory is short.
    """
    ids = label_ids(labels)
    pixels = prod(cryptomatte.shape)
    step = max(1, _SUMMED_PIXELS // pixels)
    for at in range(0, len(patterns), step):
        some = patterns[at : at + step]
        members = np.zeros((len(some), ids.size), bool)
        for member, pattern in zip(members, some, strict=True):
            chosen = [label_id(label) for label in labels if re.search(pattern, label)]
            member[np.searchsorted(ids, np.array(chosen, np.float32))] = True
        sums = np.zeros((len(some), pixels))
        for found in covered(cryptomatte, ids):
            for total, member in zip(sums, members, strict=True):
                np.add.at(total, found.pixels, np.where(member[found.ids], found.amounts, 0))
        yield from sums.reshape(-1, *cryptomatte.shape)


def resize_matte(matte: Doubles, size: tuple[int, int], out: NDArray[np.float32]) -> bool:
    """Resize a matte into a row, clipped to the matte's own range.

    The row `out` has the shape (height, width, 1), where `size` is its width and height. Returns
    whether the matte covers anything.
    """
    order = MASKS.spline_order
    resized = resample(lambda low, high: matte[low:high], matte.shape, size, order)
    least, most = matte.min(), matte.max()
    np.clip(resized, least, most, out=out[..., 0], casting="same_kind")
    return bool(least or most)
