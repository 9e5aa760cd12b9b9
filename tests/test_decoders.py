"""Jobs with images and cryptomattes that crash decoders, or that decoders get wrong."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from limbo_compress.imaging.cryptomatte import label_id
from tests.exrs import NAMED, Part, attribute, exr
from tests.jobs import Command
from tests.jpegs import jpeg, segment, split
from tests.pictures import chunk, encoded, picture, png_header, png_of

RED, GREEN = (255, 0, 0), (0, 255, 0)
LARGE = Image.new("RGB", (64, 64), GREEN)


def flat(colour: tuple[int, int, int]) -> bytes:
    return zlib.compress((b"\0" + bytes(colour) * 4) * 3)


def hidden_still_image() -> bytes:
    frame = struct.pack(">5I2H2B", 0, 4, 3, 0, 0, 1, 10, 0, 0)
    return png_of(
        png_header((4, 3), 8, 2),
        chunk(b"acTL", struct.pack(">II", 1, 0)),
        chunk(b"IDAT", flat(RED)),
        chunk(b"fcTL", frame),
        chunk(b"fdAT", b"\0\0\0\1" + flat(GREEN)),
    )


def small_header() -> bytes:
    head, scan = split(encoded(LARGE, "JPEG"))
    frame = segment(0xC0, b"\x08\0\1\0\1\1\1\x11\0")
    junk = b"\xff\0" + (len(head) + 6).to_bytes(2, "big")
    return b"\xff\xd8" + junk + head + segment(0xFE, frame) + scan


def interrupted() -> bytes:
    head, scan = split(encoded(picture().convert("L"), "JPEG"))
    return b"\xff\xd8" + head + scan[:20] + b"\xff\xf7" + scan[22:]


def extraneous() -> bytes:
    data = encoded(Image.new("RGB", (8, 8), GREEN), "JPEG")
    return data[:-2] + b"\0" * 9 + data[-2:]


# By name: the file, and the pixel that it has or the reason why it is bad.
IMAGES: dict[str, tuple[bytes, tuple[float, ...] | str]] = {
    "animated.png": (hidden_still_image(), (1, 0, 0)),
    "extraneous.jpg": (extraneous(), (0, 1, 0)),
    "interrupted.jpg": (interrupted(), "damaged: the marker FF F7 is in its data"),
    "lossless.jpg": (jpeg(np.full((8, 8, 1), 255), 0xC3), (1, 1, 1)),
    "precision.jpg": (jpeg(np.full((8, 8, 3), 4095), 0xC3, 12), "has 12 bits per sample"),
    "small-header.jpg": (small_header(), "too large: 64 x 64 pixels"),
    "two-headers.png": (
        png_of(png_header((4, 3), 8, 2), png_header((4, 3), 8, 2), chunk(b"IDAT", flat(RED))),
        "damaged: OpenCV cannot decode it",
    ),
}
PLANES = {
    b"crypto00.R": np.full((4, 5), label_id("box"), "<f4"),
    b"crypto00.G": np.full((4, 5), 0.75, "<f4"),
}
CRYPTOMATTES: dict[str, tuple[bytes, float | str]] = {
    "channel.exr": (exr(Part(PLANES | {b"z\xfc": PLANES[b"crypto00.R"]})), 0.75),
    "deep.exr": (exr(Part(PLANES), deep=True), "crypto is deep"),
    "half.exr": (
        exr(Part({name: plane.astype("<f2") for name, plane in PLANES.items()})),
        "the ids of the cryptomatte crypto are not 32-bit floats",
    ),
    "later-part.exr": (
        exr(Part({b"R": PLANES[b"crypto00.G"]}, ()), Part(PLANES)),
        "the cryptomatte crypto has channels outside the first part of the file",
    ),
    "name.exr": (exr(Part(PLANES, (NAMED, attribute(b"k\xe4fig", b"string", b"x")))), 0.75),
    "preview.exr": (
        exr(Part(PLANES, (NAMED, attribute(b"preview", b"preview", b"\1\0\0\0" * 2 + bytes(4))))),
        0.75,
    ),
}


def write_samples(folder: Path) -> None:
    folder.mkdir()
    for name, (data, _) in {**IMAGES, **CRYPTOMATTES}.items():
        (folder / name).write_bytes(data)
        if name.endswith(".exr"):
            cryptomatte = {"filename": name, "manifest": ["\ud800", "box"]}
            metadata = {
                "image": {"filename": "white.png"},
                "synthetic": {"cryptomatte": cryptomatte},
            }
        else:
            metadata = {"image": {"filename": name}}
        (folder / f"{name}.json").write_text(json.dumps(metadata))
    (folder / "white.png").write_bytes(encoded(Image.new("RGB", (4, 3), (255, 255, 255))))


@pytest.mark.parametrize("workers", [1, 2])
def test_no_file_ends_a_process_or_gives_wrong_rows(
    command: Command, tmp_path: Path, workers: int
) -> None:
    write_samples(tmp_path / "data")
    flags = ["--images", "--image-size", 4, 3, "--max-pixels", 2000, "--on-error", "skip"]
    flags += ["--workers", workers, "--mask", "m", "."]
    done = command("--prefix", "out", *flags, "--", "data")
    assert done.returncode == 0, done.stderr
    assert "killed" not in done.stderr
    expected = {**IMAGES, **CRYPTOMATTES}
    bad = {
        Path(failure["path"]).stem: failure["reason"]
        for failure in map(json.loads, (tmp_path / "out-failures.jsonl").read_text().splitlines())
    }
    assert set(bad) == {name for name, (_, right) in expected.items() if isinstance(right, str)}
    for name, reason in bad.items():
        right = expected[name][1]
        assert isinstance(right, str)
        assert right in reason
    good = [name for name in sorted(expected) if name not in bad]
    images, masks = np.load(tmp_path / "out-images.npy"), np.load(tmp_path / "out-masks-m.npy")
    for name, image, mask in zip(good, images, masks, strict=True):
        right = expected[name][1]
        pixel = right if isinstance(right, tuple) else (1, 1, 1)
        np.testing.assert_allclose(image, np.broadcast_to(pixel, (3, 4, 3)), atol=0.02)
        np.testing.assert_array_equal(mask, 0 if isinstance(right, tuple) else right)


SHORT_OF_MEMORY = """
import re, resource, sys
import numpy as np
from pathlib import Path
from limbo_compress.imaging.cryptomatte import covered, open_cryptomatte
from limbo_compress.imaging.decode import decode

small, large = (Path(path) for path in sys.argv[1:])
ids = np.ones(1, np.float32)
if small.suffix == ".exr":
    read = lambda data: list(covered(open_cryptomatte(data, "", 10**9), ids))
else:
    read = lambda data: decode(data, "")
read(small.read_bytes())
data = large.read_bytes()
used = int(re.search(r"VmSize:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) << 10
resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20), -1))
try:
    read(data)
except BaseException as error:
    print(type(error).__name__)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the address space")
@pytest.mark.parametrize("kind", ["png", "jpg", "progressive.jpg", "exr"])
def test_when_memory_is_short_the_image_is_not_to_blame(tmp_path: Path, kind: str) -> None:
    for name, side in (("small", 8), ("large", 8000)):
        path = tmp_path / f"{name}.{kind}"
        if kind == "exr":
            planes = {channel: np.zeros((side // 8, 4 * side), "<f4") for channel in PLANES}
            path.write_bytes(exr(Part(planes)))
        else:
            image = Image.new("RGB", (side, side // 2))
            options = {"progressive": True} if "progressive" in kind else {}
            path.write_bytes(encoded(image, "PNG" if kind == "png" else "JPEG", **options))
    paths = [str(tmp_path / f"{name}.{kind}") for name in ("small", "large")]
    done = subprocess.run(
        [sys.executable, "-c", SHORT_OF_MEMORY, *paths], capture_output=True, text=True, check=True
    )
    assert done.stdout == "MemoryError\n"
