"""A cryptomatte and some labels to float32 rows of coverage.

The format is that of the Cryptomatte specification 1.2 (Psyop): an OpenEXR file whose
attribute ``cryptomatte/<7 hex digits>/name`` names a layer, and whose channels ``<name>00.R``,
``.G``, ``.B``, ``.A``, ``<name>01.R``, ... are pairs of an id and its coverage, one pair per rank.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import Imath
import mmh3
import numpy as np
import OpenEXR
from numpy.typing import NDArray

from ..errors import SampleError
from .resample import Floats, resample

__all__ = ["Cryptomatte", "label_id", "mattes", "read_cryptomatte", "resize_matte"]

_NAME = re.compile(r"cryptomatte/.{7}/name")
_ORDER = {"r": 0, "red": 0, "g": 1, "green": 1, "b": 2, "blue": 2, "a": 3, "alpha": 3}


@dataclass(frozen=True)
class Cryptomatte:
    """The ranks of a cryptomatte.

    Attributes
    ----------
    shape : tuple of int
        Height and width of the image, in pixels: those of the file's display window.
    ranks : tuple of pairs of ndarray
        For each rank the ids, as float32, and their coverage; both of that shape.
    """

    shape: tuple[int, ...]
    ranks: tuple[tuple[NDArray[np.float32], NDArray[np.float32]], ...]


def label_id(label: str) -> float:
    """Id of a label in a cryptomatte, as a float32.

    The id is MurmurHash3_32, its bits read as a float. Bit 23 is flipped where they would be
    a denormal, an infinity or a NaN (the specification's section on hashing).

    Examples
    --------
    >>> struct.pack(">f", label_id("30B/0")).hex()
    '21e5352c'
    """
    bits = mmh3.hash(label, signed=False)
    if bits >> 23 & 255 in (0, 255):
        bits ^= 1 << 23
    value: float = struct.unpack("<f", struct.pack("<I", bits))[0]
    return value


def read_cryptomatte(data: bytes, path: str, max_pixels: int) -> Cryptomatte:
    """Read the only cryptomatte of an OpenEXR file, all ranks at once.

    Parameters
    ----------
    data : bytes
        The whole file: scan lines or tiles, half or float.
    path : str
        Its path, for errors.
    max_pixels : int
        The largest image to decode.

    Raises
    ------
    SampleError
        If it is not an OpenEXR file, is damaged or too large, or does not hold exactly one
        cryptomatte.
    """
    try:
        file = OpenEXR.InputFile(io.BytesIO(data))
        header = file.header()
        _check_size(header, path, max_pixels)
        name = _only_name(header, path)
        channels = _channels(name, header["channels"])
        pixels = file.channels(channels, Imath.PixelType(Imath.PixelType.FLOAT))
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        raise SampleError(f"OpenEXR cannot read the cryptomatte: {error}", path) from error
    if not channels or len(channels) % 2:
        raise SampleError(f"the cryptomatte {name} has {len(channels)} channels, not pairs", path)
    planes = _in_display_window(header, [np.frombuffer(plane, np.float32) for plane in pixels])
    return Cryptomatte(planes[0].shape, tuple(zip(planes[0::2], planes[1::2], strict=True)))


def _check_size(header: dict[str, Any], path: str, max_pixels: int) -> None:
    for window in (header["dataWindow"], header["displayWindow"]):
        width = window.max.x - window.min.x + 1
        height = window.max.y - window.min.y + 1
        if width < 1 or height < 1 or width * height > max_pixels:
            raise SampleError(
                f"the cryptomatte has {width} x {height} pixels, the limit is {max_pixels:,}", path
            )


def _only_name(header: dict[str, Any], path: str) -> str:
    names: list[str] = [str(v, "utf-8") for k, v in header.items() if _NAME.fullmatch(k)]
    if len(names) != 1:
        found = ", ".join(sorted(names)) or "none"
        raise SampleError(f"exactly one cryptomatte is expected in the file, found: {found}", path)
    return names[0]


def _channels(name: str, channels: Iterable[str]) -> list[str]:
    """Return the channels of a cryptomatte's ranks, in order: id and coverage in turn."""
    rank = re.compile(rf"({re.escape(name)}\d\d)\.({'|'.join(_ORDER)})", re.IGNORECASE)
    found = [(match, channel) for channel in channels if (match := rank.fullmatch(channel))]
    found.sort(key=lambda pair: (pair[0][1].lower(), _ORDER[pair[0][2].lower()]))
    return [channel for _, channel in found]


def _in_display_window(
    header: dict[str, Any], pixels: Sequence[NDArray[np.float32]]
) -> list[NDArray[np.float32]]:
    """Shape the planes, and crop or pad them if the file stores more or less than the image."""
    data, display = header["dataWindow"], header["displayWindow"]
    stored = (data.max.y - data.min.y + 1, data.max.x - data.min.x + 1)
    planes = [plane.reshape(stored) for plane in pixels]
    shape = (display.max.y - display.min.y + 1, display.max.x - display.min.x + 1)
    y, x = data.min.y - display.min.y, data.min.x - display.min.x
    if (y, x) == (0, 0) and stored == shape:
        return planes
    image = np.zeros((len(planes), *shape), np.float32)
    area = image[:, max(y, 0) : max(y + stored[0], 0), max(x, 0) : max(x + stored[1], 0)]
    for place, plane in zip(area, planes, strict=True):
        place[...] = plane[max(-y, 0) :, max(-x, 0) :][: place.shape[0], : place.shape[1]]
    return list(image)


def mattes(
    cryptomatte: Cryptomatte, labels: Sequence[str], patterns: Sequence[str], path: str
) -> Iterator[Floats]:
    """Sum, for each pattern, the coverage of the labels that it matches.

    Parameters
    ----------
    cryptomatte : Cryptomatte
    labels : sequence of str
        The manifest. A label that the file does not contain covers nothing.
    patterns : sequence of str
        Regular expressions, as `re.search` takes them.
    path : str
        Path of the cryptomatte, for errors.

    Yields
    ------
    ndarray of float64, shape (height, width)

    Raises
    ------
    SampleError
        If a coverage is not a number.
    """
    ids = np.unique(np.array([label_id(label) for label in labels], np.float32))
    members = np.zeros((len(patterns), ids.size), bool)
    for member, pattern in zip(members, patterns, strict=True):
        chosen = [label_id(label) for label in labels if re.search(pattern, label)]
        member[np.searchsorted(ids, np.array(chosen, np.float32))] = True
    sums = np.zeros((len(patterns), cryptomatte.shape[0] * cryptomatte.shape[1]))
    for rank_ids, coverage in cryptomatte.ranks:
        if not coverage.any():  # most ranks are empty, and looking is fast
            continue
        found = np.flatnonzero(np.isin(rank_ids, ids))
        label = np.searchsorted(ids, rank_ids.ravel()[found])
        amount = coverage.ravel()[found].astype(np.float64)
        if not np.isfinite(amount).all():
            raise SampleError("the cryptomatte has a coverage that is not a number", path)
        for total, member in zip(sums, members, strict=True):
            total[found] += np.where(member[label], amount, 0)
    yield from sums.reshape(-1, *cryptomatte.shape)


def resize_matte(matte: Floats, size: tuple[int, int], out: NDArray[np.float32]) -> None:
    """Resize a matte into a row, clipped to the matte's own range.

    Parameters
    ----------
    matte : ndarray of float64, shape (height, width)
    size : (int, int)
        Width and height of the row, in pixels.
    out : ndarray of float32, shape (new height, new width, 1)
        Receives the row.
    """
    resized = resample(lambda low, high: matte[low:high], matte.shape, size)
    np.clip(resized, matte.min(), matte.max(), out=out[..., 0], casting="same_kind")
