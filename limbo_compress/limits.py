"""What a file may cost. Each limit is checked by arithmetic on sizes that headers state.

So a sample is good or bad on every machine alike. Within the limits, a sample needs at most four
times its decoded size plus 256 MB of memory, and some 60 seconds of one CPU.
"""

from __future__ import annotations

__all__ = [
    "ARITHMETIC_SCAN_PIXELS",
    "CHUNKS",
    "CHUNK_BYTES",
    "DECODED_BYTES",
    "DEFAULT_PIXELS",
    "EXR_PARTS",
    "FRAGMENT_BYTES",
    "HEAD_BYTES",
    "IMAGE_BYTES",
    "JPEG_SCANS",
    "JPEG_SEGMENTS",
    "LABELS",
    "METADATA_BYTES",
    "OBJECTS",
    "PATH_BYTES",
    "PNG_CHUNKS",
    "SIDE",
    "SMALL_BYTES",
    "image_bytes",
    "why_too_large",
]

# The size of files, in bytes. A real metadata file has one megabyte.
METADATA_BYTES = 1 << 26
IMAGE_BYTES = 1 << 30
# Files up to this size are read at once. Of larger ones, the head is read first: it says how many
# pixels there are, and so how many bytes there may be.
SMALL_BYTES = 1 << 26
HEAD_BYTES = 1 << 24

# The pixels of an image or a cryptomatte, if the user asks for no other limit.
DEFAULT_PIXELS = 179_000_000
# The longest side of an image, in pixels. The resampling operator grows with it.
SIDE = 1 << 18

# The chunks of a PNG. libpng writes 8 KiB into each.
PNG_CHUNKS = 1 << 18

# Segments in the header of a JPEG; an ICC profile and metadata can have some hundreds. Scans after
# it: each one goes through all pixels again, however little it holds. Real images have about ten.
# An arithmetic decoder goes on where a scan has no data left, at up to 30 ns a pixel.
JPEG_SEGMENTS = 10_000
JPEG_SCANS = 100
ARITHMETIC_SCAN_PIXELS = 2_000_000_000

# An OpenEXR file: the decoded size of its first part, in bytes, with all channels, because the
# channels of a pixel are compressed together; that of one chunk; the number of chunks; the number
# of parts. A cryptomatte of 720 x 720 pixels and 28 channels has 58 MB.
DECODED_BYTES = 4_000_000_000
CHUNK_BYTES = 1 << 28
CHUNKS = 1 << 20
EXR_PARTS = 1000

# Labels in a manifest; boxes or contours of a sample that is exported.
LABELS = 1 << 16
OBJECTS = 2000

# In bytes: a sample's metadata in the pickle, and a path in its index. No system opens longer
# ones.
FRAGMENT_BYTES = 1 << 28
PATH_BYTES = 1 << 12


def why_too_large(width: int, height: int, max_pixels: int) -> str:
    """Say which limit an image exceeds; empty if none."""
    if width * height > max_pixels:
        return f"{width} x {height} pixels, the limit is {max_pixels:,}"
    if max(width, height) > SIDE:
        return f"{width} x {height} pixels, the limit is {SIDE:,} on a side"
    return ""


def image_bytes(pixels: int) -> int:
    """Return the largest size, in bytes, of an image file with this many pixels.

    That is 8 bytes a pixel, which no PNG or JPEG needs, and more for what may come with them: color
    profiles, previews, a second picture, a video.
    """
    return SMALL_BYTES + 8 * pixels
