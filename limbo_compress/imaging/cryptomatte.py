"""A cryptomatte and some labels to float32 rows of coverage.

The format is that of the Cryptomatte specification 1.2 (Psyop): an OpenEXR file whose
attribute ``cryptomatte/<7 hex digits>/name`` names a layer, and whose channels ``<name>00.R``,
``.G``, ``.B``, ``.A``, ``<name>01.R``, ... are pairs of an id and its coverage, one pair per rank.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import prod
from operator import itemgetter

import Imath
import mmh3
import numpy as np
import OpenEXR
from numpy.typing import NDArray

from ..errors import SampleError
from . import exr
from .resample import Floats, resample

__all__ = ["Cryptomatte", "label_id", "mattes", "read_cryptomatte", "resize_matte"]

_NAME = re.compile(rb"cryptomatte/.{7}/name")
# In pixels, unless the image is larger. OpenEXR allocates whole tiles of all channels.
_LARGEST_TILE = 1 << 20
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
    # JSON may contain lone surrogates. mmh3 crashes on them if it has to encode them itself.
    bits = mmh3.hash(label.encode(errors="surrogatepass"), signed=False)
    if bits >> 23 & 255 in (0, 255):
        bits ^= 1 << 23
    value: float = struct.unpack("<f", struct.pack("<I", bits))[0]
    return value


def read_cryptomatte(data: bytes, path: str, max_pixels: int) -> Cryptomatte:
    """Read the only cryptomatte of an OpenEXR file, all ranks at once.

    Parameters
    ----------
    data : bytes
        The whole file: scan lines or tiles, in any one part.
    path : str
        Its path, for errors.
    max_pixels : int
        The largest image to decode.

    Raises
    ------
    SampleError
        If it is not an OpenEXR file, is damaged or too large, or does not hold exactly one
        cryptomatte, with ids that are 32-bit floats.
    MemoryError
        If memory is short.
    """
    header = exr.read_header(data, path)
    name = _only_name(header, path)
    number, channels = _find_channels(header, name, path)
    part = header.parts[number]
    _check_size(part, path, max_pixels)
    if part.is_deep:
        raise SampleError(f"the cryptomatte {name} is deep: only flat images are supported", path)
    _check_pixels(part, name, channels, path)
    if header.is_multi_part:
        data = exr.extract_part(data, header, number, path)
    planes = _in_display_window(part, _decode(data, part, channels, path))
    return Cryptomatte(planes[0].shape, tuple(zip(planes[0::2], planes[1::2], strict=True)))


def _only_name(header: exr.Header, path: str) -> str:
    # Some renderers repeat the attribute in every part.
    found = {
        (attribute, value.partition(b"\0")[0])
        for part in header.parts
        for attribute, (kind, value) in part.attributes.items()
        if _NAME.fullmatch(attribute) and kind == b"string"
    }
    names = sorted(value.decode(errors="backslashreplace") for _, value in found)
    if len(names) != 1:
        listed = ", ".join(names) or "none"
        raise SampleError(f"exactly one cryptomatte is expected in the file, found: {listed}", path)
    return names[0]


def _find_channels(header: exr.Header, name: str, path: str) -> tuple[int, list[str]]:
    """Return the number of the part that holds a cryptomatte, and its ids and coverage in turn."""
    found = {
        number: channels
        for number, part in enumerate(header.parts)
        if (channels := _rank_channels(part, name))
    }
    if len(found) > 1:
        raise SampleError(f"the cryptomatte {name} is spread over {len(found)} parts", path)
    number, channels = next(iter(found.items()), (0, []))
    places = [[place for _, place, _ in layer] for _, layer in groupby(channels, key=itemgetter(0))]
    if not places or any(layer not in ([0, 1], [0, 1, 2, 3]) for layer in places):
        listed = ", ".join(channel for *_, channel in channels) or "none"
        raise SampleError(
            f"the channels of the cryptomatte {name} are no pairs of id and coverage: {listed}",
            path,
        )
    return number, [channel for *_, channel in channels]


def _rank_channels(part: exr.Part, name: str) -> list[tuple[str, int, str]]:
    """Return the layer, the place in it, and the name of each channel of a cryptomatte's ranks."""
    rank = re.compile(rf"({re.escape(name)}\d\d)\.({'|'.join(_ORDER)})", re.IGNORECASE)
    matches = [match for channel in part.channels if (match := rank.fullmatch(channel))]
    return sorted((match[1].lower(), _ORDER[match[2].lower()], match[0]) for match in matches)


def _check_size(part: exr.Part, path: str, max_pixels: int) -> None:
    for window in (part.data_window, part.display_window):
        height, width = window.shape
        if width < 1 or height < 1 or width * height > max_pixels:
            raise SampleError(
                f"the cryptomatte has {width} x {height} pixels, the limit is {max_pixels:,}", path
            )
    if prod(part.tile_shape) > max(_LARGEST_TILE, 4 * prod(part.data_window.shape)):
        height, width = part.tile_shape
        raise SampleError(f"the cryptomatte has tiles of {width} x {height} pixels", path)


def _check_pixels(part: exr.Part, name: str, channels: Sequence[str], path: str) -> None:
    found = [part.channels[channel] for channel in channels]
    if any(channel.sampling != (1, 1) for channel in found):
        problem = f"the channels of the cryptomatte {name} do not have a value for each pixel"
    elif any(channel.pixel_type != exr.FLOAT for channel in found[0::2]):
        problem = f"the ids of the cryptomatte {name} are not 32-bit floats, so they are lost"
    elif any(channel.pixel_type not in (exr.HALF, exr.FLOAT) for channel in found[1::2]):
        problem = f"the coverage of the cryptomatte {name} is not a float"
    else:
        return
    raise SampleError(problem, path)


def _decode(
    data: bytes, part: exr.Part, channels: Sequence[str], path: str
) -> list[NDArray[np.float32]]:
    """Decode channels as float32, without ``header()``, which crashes: see `exr`."""
    try:
        file = OpenEXR.InputFile(io.BytesIO(data))
        pixels = file.channels(channels, Imath.PixelType(Imath.PixelType.FLOAT))
        return [np.frombuffer(p, np.float32).reshape(part.data_window.shape) for p in pixels]
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        # OpenEXR does not tell clearly when memory is short. In that case this raises MemoryError.
        np.empty((2 * len(channels), *part.data_window.shape), np.float32)
        raise SampleError(f"OpenEXR cannot read the cryptomatte: {error}", path) from error


def _in_display_window(
    part: exr.Part, planes: list[NDArray[np.float32]]
) -> list[NDArray[np.float32]]:
    """Crop or pad planes if the file stores more or less than the image."""
    stored, shape = part.data_window.shape, part.display_window.shape
    y = part.data_window.top - part.display_window.top
    x = part.data_window.left - part.display_window.left
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
    for rank in cryptomatte.ranks:
        _add_rank(sums, rank, ids, members, path)
    yield from sums.reshape(-1, *cryptomatte.shape)


# Damaged files hold signalling NaNs, about which numpy warns wherever it reads them.
@np.errstate(invalid="ignore")
def _add_rank(
    sums: Floats,
    rank: tuple[NDArray[np.float32], NDArray[np.float32]],
    ids: NDArray[np.float32],
    members: NDArray[np.bool_],
    path: str,
) -> None:
    """Add the coverage of a rank to the sum of each pattern."""
    rank_ids, coverage = rank
    if not coverage.any():  # most ranks are empty, and looking is fast
        return
    found = np.flatnonzero(np.isin(rank_ids, ids))
    label = np.searchsorted(ids, rank_ids.ravel()[found])
    amount = coverage.ravel()[found].astype(np.float64)
    if not np.isfinite(amount).all():
        raise SampleError("the cryptomatte has a coverage that is not a number", path)
    for total, member in zip(sums, members, strict=True):
        total[found] += np.where(member[label], amount, 0)


def resize_matte(matte: Floats, size: tuple[int, int], out: NDArray[np.float32]) -> bool:
    """Resize a matte into a row, clipped to the matte's own range.

    Parameters
    ----------
    matte : ndarray of float64, shape (height, width)
    size : (int, int)
        Width and height of the row, in pixels.
    out : ndarray of float32, shape (new height, new width, 1)
        Receives the row.

    Returns
    -------
    bool
        Whether the matte covers anything.
    """
    resized = resample(lambda low, high: matte[low:high], matte.shape, size)
    least, most = matte.min(), matte.max()
    np.clip(resized, least, most, out=out[..., 0], casting="same_kind")
    return bool(least or most)
