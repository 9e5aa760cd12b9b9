"""The markers of a JPEG: what its header says, and whether its data are interrupted.

If a marker interrupts the data, libjpeg fills the rest of the image with gray, prints a warning,
and fails when it reads on. Pillow then refuses the file, but OpenCV returns the image.
`find_stray_marker` finds such markers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from .. import limits
from ..errors import SampleError

__all__ = [
    "SIGNATURE",
    "JpegHeader",
    "find_stray_marker",
    "has_end",
    "has_too_many_segments",
    "most_scans",
    "read_header",
]

SIGNATURE = b"\xff\xd8\xff"

_SOF0, _EOI, _SOS, _DRI = 0xC0, 0xD9, 0xDA, 0xDD
_RESTARTS = range(0xD0, 0xD8)
# Markers without contents: TEM, the restarts and SOI.
_BARE = frozenset((0x01, *_RESTARTS, 0xD8))
# What libjpeg skips after the data: TEM, the restarts, DNL, APPn and COM.
_SKIPPED = frozenset((0x01, *_RESTARTS, 0xDC, *range(0xE0, 0xF0), 0xFE))
# ITU-T T.81 table B.1 and T.87; DHP begins a hierarchical image.
_KINDS = {
    0xC0: "baseline",
    0xC1: "extended sequential",
    0xC2: "progressive",
    0xC3: "lossless",
    0xC9: "arithmetic-coded",
    0xCA: "arithmetic-coded progressive",
    0xCB: "arithmetic-coded lossless",
    0xF7: "JPEG-LS",
} | dict.fromkeys((0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF, 0xDE), "hierarchical")

_UNSUPPORTED = frozenset(("arithmetic-coded lossless", "hierarchical", "JPEG-LS"))

_END = bytes((0xFF, _EOI))
# FF 00 is data or junk, FF FF a fill byte; the rest of a file may be fill bytes.
_MARKER = re.compile(rb"\xff(?:[^\x00\xff]|\xff++(?:[^\xff]|\Z))")
# Markers that are not part of a scan's data.
_AFTER_DATA = re.compile(rb"\xff([\xc0-\xcf\xd9-\xfe])")


class JpegHeader(NamedTuple):
    """Everything before the data of the first scan."""

    kind: str  # the process, such as "baseline"
    precision: int  # bits per sample
    width: int
    height: int
    sampling: tuple[tuple[int, int], ...]  # horizontal and vertical factor of each component
    restart_interval: int  # MCUs between two restart markers; 0 if there are none
    scan_components: int  # of the first scan
    data_start: int  # of the first scan

    @property
    def description(self) -> str:
        components = len(self.sampling)
        return f"{self.kind} JPEG of {components} component{'' if components == 1 else 's'}"

    @property
    def is_supported(self) -> bool:
        """Whether libjpeg knows the process, and OpenCV its colors."""
        return self.kind not in _UNSUPPORTED and len(self.sampling) in (1, 3, 4)

    @property
    def is_lossless(self) -> bool:
        return self.kind.endswith("lossless")

    @property
    def has_one_scan(self) -> bool:
        """Whether libjpeg decodes the image line by line, before it has seen the end."""
        return "progressive" not in self.kind and self.scan_components == len(self.sampling)

    @property
    def restarts(self) -> int:
        """How many restart markers the only scan has."""
        if not self.restart_interval:
            return 0
        unit = 1 if self.is_lossless else 8
        # A single component is not interleaved: its sampling factors mean nothing.
        across, down = (1, 1) if len(self.sampling) == 1 else map(max, *self.sampling)
        units = -(-self.width // (unit * across)) * -(-self.height // (unit * down))
        return (units - 1) // self.restart_interval


def read_header(data: bytes, path: str) -> JpegHeader:
    """Read the header of a JPEG, which begins with `SIGNATURE`, as libjpeg does.

    That includes junk between the markers.

    Raises
    ------
    SampleError
        If it has no frame header, an incomplete one, or too much before it.

    Notes
    -----
    ITU-T T.81 annex B; T.87 annex C for JPEG-LS.
    """
    kind, frame, restart_interval = "", b"", 0
    scan_components, data_start = 0, len(data)
    segments = _segments(data, len(SIGNATURE) - 1)
    for marker, start, stop in islice(segments, limits.JPEG_SEGMENTS):
        if marker == _SOS:
            scan_components = int.from_bytes(data[start + 2 : start + 3])
            data_start = min(stop, len(data))
        if marker in (_SOS, _EOI):
            break
        if marker in _KINDS and not frame:
            kind, frame = _KINDS[marker], data[start + 2 : stop]
        elif marker == _DRI:
            restart_interval = int.from_bytes(data[start + 2 : stop], "big")
    if len(frame) < 6 or len(frame) < 6 + 3 * frame[5]:
        raise SampleError("the image is truncated or damaged: its header is incomplete", path)
    return JpegHeader(
        kind=kind,
        precision=frame[0],
        width=int.from_bytes(frame[3:5], "big"),
        height=int.from_bytes(frame[1:3], "big"),
        sampling=tuple((pair >> 4, pair & 15) for pair in frame[7 : 6 + 3 * frame[5] : 3]),
        restart_interval=restart_interval,
        scan_components=scan_components,
        data_start=data_start,
    )


def has_end(data: bytes, header: JpegHeader) -> bool:
    """Whether an end-of-image marker follows the data."""
    return data.find(_END, header.data_start) >= 0


def most_scans(header: JpegHeader) -> int:
    """Return how many scans an image of this kind and size may have."""
    if not header.kind.startswith("arithmetic-coded"):
        return limits.JPEG_SCANS
    pixels = max(1, header.width * header.height)
    return min(limits.JPEG_SCANS, max(1, limits.ARITHMETIC_SCAN_PIXELS // pixels))


def has_too_many_segments(data: bytes, header: JpegHeader) -> bool:
    """Whether more scans, or other segments, follow the header than images have.

    For each scan libjpeg goes through all pixels, even if it holds nothing. It keeps each APP1.
    """
    most = most_scans(header)
    scans, at = 1, header.data_start
    for _ in range(limits.JPEG_SEGMENTS):
        match = _AFTER_DATA.search(data, at)
        if match is None or match[1][0] == _EOI:
            return False
        scans += match[1][0] == _SOS
        if scans > most:
            break
        at = match.end() + int.from_bytes(data[match.end() : match.end() + 2], "big")
    return True


def find_stray_marker(data: bytes, header: JpegHeader) -> int | None:
    """Return the code of a marker after or amid the data on which libjpeg fails, or None.

    libjpeg reads several scans to the end before it returns the first line, so OpenCV notices by
    itself. Restart markers are followed as in libjpeg's ``jpeg_resync_to_restart``.
    """
    if not header.has_one_scan:
        return None
    at = header.data_start
    for number in range(header.restarts):
        at = _pass_restart(data, at, number % 8)
    for marker, _, _ in _segments(data, at):
        if marker == _EOI:
            break
        if marker not in _SKIPPED:
            return marker
    return None


def _segments(data: bytes, at: int) -> Iterator[tuple[int, int, int]]:
    """Yield each marker, and where its contents begin and end, their length included."""
    while (found := _find_marker(data, at)) is not None:
        marker, at = found
        start = at
        if marker not in _BARE:
            at += max(2, int.from_bytes(data[at : at + 2], "big"))
        yield marker, start, at


def _find_marker(data: bytes, at: int) -> tuple[int, int] | None:
    """Return the next marker and where it ends."""
    for match in _MARKER.finditer(data, at):
        marker = data[match.end() - 1]
        if marker not in (0x00, 0xFF):
            return marker, match.end()
    return None


def _pass_restart(data: bytes, at: int, expected: int) -> int:
    """Return where libjpeg reads on after a restart: after the marker, or at a later one."""
    while (found := _find_marker(data, at)) is not None:
        marker, at = found
        if marker in _RESTARTS:
            ahead = (marker - _RESTARTS.start - expected) % 8
            if ahead in (1, 2):  # the expected one was lost
                return at - 2
            if ahead not in (6, 7):  # 6 and 7: one from before
                return at
        elif marker >= _SOF0:
            return at - 2
    return len(data)
