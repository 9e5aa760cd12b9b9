"""Small files made to cost much, and what they cost: ``make bombs``."""

from __future__ import annotations

import json
import os
import pickle
import re
import struct
import sys
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import OpenEXR

from limbo_compress import compress
from limbo_compress.imaging.cryptomatte import label_id
from tests.annotations import box, contour, square
from tests.exrs import Part, exr
from tests.jobs import job, run
from tests.jpegs import segment
from tests.pickles import indexed
from tests.pictures import chunk, encoded, picture, png_header, png_of

COMPRESS = ("-m", "limbo_compress", "--prefix", "out", "--workers", "1", "--on-error", "skip")
INSPECT = ("-c", "import sys; from limbo_compress.cli.start import inspect; sys.exit(inspect())")
EXPORT = ("-c", "import sys; from limbo_compress.cli.start import export; sys.exit(export())")
READ = """
from limbo_compress import LimboError, load
try:
    print(load("out").metadata[0])
except LimboError as error:
    print(error)
"""
IMAGES = (*COMPRESS, "--images", "--metadata", "--", "data")
MASKS = (*COMPRESS, "--mask", "m", ".", "--", "data")


@dataclass(frozen=True)
class Bomb:
    """Files, and a command that meets them.

    Attributes
    ----------
    write : callable
        Writes the files into a folder, and returns the file whose size counts.
    command : tuple of str
        Arguments of Python, to be run in that folder.
    says : str
        A regular expression that occurs in what the command says, or lists as failures.
    """

    write: Callable[[Path], Path]
    command: tuple[str, ...]
    says: str


@dataclass(frozen=True)
class Cost:
    """What a command needed, and what it said."""

    code: int
    peak_mib: int
    cpu_seconds: float
    said: str


# A child's peak is at least that of the process that started it, so a small one does.
_START = """
import json, os, sys
both = [(os.POSIX_SPAWN_DUP2, 1, 2)]  # stderr goes where stdout goes
command = [sys.executable, *sys.argv[1:]]
pid = os.posix_spawn(sys.executable, command, os.environ, file_actions=both)
_, status, usage = os.wait4(pid, 0)
code = os.waitstatus_to_exitcode(status)
sys.stderr.write(json.dumps([code, usage.ru_maxrss, usage.ru_utime + usage.ru_stime]))
"""


def measure(bomb: Bomb, folder: Path) -> Cost:
    """Run the command; the peak is that of its largest process."""
    start = (sys.executable, "-S", "-c", _START)
    done = run(*start, *bomb.command, cwd=folder, env={"OPENBLAS_NUM_THREADS": "1"}, check=True)
    code, peak, cpu = json.loads(done.stderr)
    failures = folder / "out-failures.jsonl"
    said = failures.read_text() if failures.exists() else done.stdout
    return Cost(code, peak // (1 << 20 if sys.platform == "darwin" else 1 << 10), cpu, said)


def sample(folder: Path, name: str, **metadata: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(metadata))
    return path


def good_sample(folder: Path) -> None:
    sample(folder, "good", image={"filename": "good.png", "res": [40, 30]})
    (folder / "good.png").write_bytes(encoded(picture()))


def image(name: str, data: Callable[[], bytes], sparse_bytes: int = 0) -> Callable[[Path], Path]:
    """A sample with this image, after a good one."""

    def write(folder: Path) -> Path:
        good_sample(folder / "data")
        sample(folder / "data", "x", image={"filename": name, "res": [8, 8]})
        path = folder / "data" / name
        path.write_bytes(data())
        if sparse_bytes:
            os.truncate(path, sparse_bytes)
        return path

    return write


def cryptomatte(data: Callable[[], bytes]) -> Callable[[Path], Path]:
    """A sample with this cryptomatte, after a good one without."""

    def write(folder: Path) -> Path:
        good_sample(folder / "data")
        section = {"filename": "x.exr", "manifest": ["box"]}
        sample(folder / "data", "x", synthetic={"cryptomatte": section})
        path = folder / "data" / "x.exr"
        path.write_bytes(data())
        return path

    return write


def output(name: str, data: Callable[[], bytes]) -> Callable[[Path], Path]:
    """An output of a job."""

    def write(folder: Path) -> Path:
        path = folder / f"out-{name}"
        path.write_bytes(data())
        return path

    return write


IDS = np.full((6, 7), label_id("box"), "<f4")
PLANES = {b"crypto00.R": IDS, b"crypto00.G": np.ones((6, 7), "<f4")}
WINDOW = struct.pack("<4i", 0, 0, 6, 5)


def layers() -> bytes:
    """16 layers of 4096 x 4096 pixels: a file with one chunk, whose chunk is repeated."""
    lines, side = 256, 4096
    channels = {
        f"crypto{layer:02d}.{letter}": np.zeros((lines, side), np.float32)
        for layer in range(16)
        for letter in "rgba"
    }
    header = {
        "type": OpenEXR.scanlineimage,
        "compression": OpenEXR.DWAB_COMPRESSION,
        "cryptomatte/abcdef0/name": "crypto",
    }
    with tempfile.NamedTemporaryFile(suffix=".exr") as file:
        OpenEXR.File(header, channels).write(file.name)
        data = Path(file.name).read_bytes()
    table = _end_of_header(data)
    body = data[table + 8 + 8 :]  # behind one offset, y and the size
    chunks = [struct.pack("<2i", y, len(body)) + body for y in range(0, side, lines)]
    offsets = np.cumsum([table + 8 * len(chunks), *map(len, chunks[:-1])]).astype("<u8").tobytes()
    old, new = (struct.pack("<4i", 0, 0, side - 1, rows - 1) for rows in (lines, side))
    return data[:table].replace(old, new) + offsets + b"".join(chunks)


def _end_of_header(data: bytes) -> int:
    at = 8
    while data[at]:
        for _ in range(2):  # the name and the type
            at = data.index(b"\0", at) + 1
        at += 4 + int.from_bytes(data[at : at + 4], "little")
    return at + 1


def many_channels() -> bytes:
    data = exr(Part({b"crypto%02d.%c" % (n // 4, b"RGBA"[n % 4]): IDS for n in range(400)}))
    return data.replace(WINDOW, struct.pack("<4i", 0, 0, 12_999, 12_999))


def wide_display() -> bytes:
    data = exr(Part(PLANES))
    at = data.rindex(WINDOW)
    return data[:at] + struct.pack("<4i", 0, 0, 170_000_000, 0) + data[at + 16 :]


def scans(count: int) -> bytes:
    """A progressive JPEG of 13 300 x 13 300 pixels whose scans are all but empty."""
    frame = struct.pack(">BHHB", 8, 13_300, 13_300, 3)
    code = bytes((1, *[0] * 15, 0))
    parts = [
        b"\xff\xd8",
        segment(0xDB, b"\0" + b"\1" * 64),
        segment(0xC2, frame + b"".join(bytes((n, 0x11, 0)) for n in (1, 2, 3))),
        segment(0xC4, b"\0" + code) + segment(0xC4, b"\x10" + code),
        segment(0xDA, b"\3\1\0\2\0\3\0" + bytes(3)) + bytes(4),
    ]
    parts += [segment(0xDA, bytes((1, 1 + n % 3, 0, 1, 63, 0))) for n in range(count - 1)]
    return b"".join((*parts, b"\xff\xd9"))


def compressed_texts() -> bytes:
    text = zlib.compress(bytes(8_000_000 - 100), 9)
    texts = (chunk(b"zTXt", b"k%d\0\0" % number + text) for number in range(1000))
    pixels = zlib.compress(bytes((1 + 8 * 4) * 8))
    return png_of(png_header((8, 8), 8, 6), *texts, chunk(b"IDAT", pixels))


def large_memo() -> bytes:
    put = pickle.LONG_BINPUT + struct.pack("<I", 1 << 28)
    return indexed([{"a": 1}], change=lambda data: data[:1] + put + data[1:])


def shared_lists() -> bytes:
    """A contour of twice a list of twice … a list: 2 to the 22nd values."""
    lists = b"]"
    for level in range(22):
        lists = b"](%bq%ch%ce" % (lists, level, level)
    annotation = b"}X\x08\0\0\0contours%bs" % lists
    return b"\x80\x02]}X\x0b\0\0\0annotations]%basa." % annotation


def empty_rows() -> bytes:
    header = "{'descr': '<f2', 'fortran_order': False, 'shape': (100000000, 0, 8, 3), }"
    return b"\x93NUMPY\x01\x00\x76\x00" + header.ljust(117).encode() + b"\n"


def nested_folders() -> bytes:
    return indexed([{}] * 2000, [f"{'/d' * depth}/x.json" for depth in range(1, 2001)])


def linked_folders(folder: Path) -> Path:
    for number in range(8000):
        sample(folder / "store" / f"{number}", "x")
    (folder / "data").mkdir()
    for number in range(8000):
        (folder / "data" / f"{number}").symlink_to(f"../store/{number}")
    return folder / "data"


def annotated(folder: Path) -> Path:
    """A job's outputs, with 300 boxes and 300 contours in a sample."""
    random = np.random.default_rng(0)
    corners = random.integers(0, 600, (300, 2)).tolist()
    annotations = [box(x, y, 50, 40) for x, y in corners]
    annotations += [contour(square(x, y, 49, 41)) for x, y in corners]
    good_sample(folder / "data")
    image = {"filename": "good.png", "res": [720, 720]}
    path = sample(folder / "data", "x", image=image, annotations=annotations)
    compress(job(folder / "data", folder))
    return path


def many_labels(folder: Path) -> Path:
    """A job's outputs, with a mask of half of 1200 labels."""
    labels = [f"{'box' if number % 2 else 'cone'}/{number}" for number in range(1200)]
    ids = np.array([label_id(label) for label in labels], "<f4").reshape(30, 40)
    planes = {b"crypto00.R": ids.repeat(12, 0).repeat(12, 1)}
    planes[b"crypto00.G"] = np.ones_like(planes[b"crypto00.R"])
    section = {"filename": "x.exr", "manifest": labels}
    sample(folder / "data", "x", synthetic={"cryptomatte": section})
    path = folder / "data" / "x.exr"
    path.write_bytes(exr(Part(planes)))
    options = {"images": False, "image_size": (160, 120), "masks": (("boxes", "box"),)}
    compress(job(folder / "data", folder, **options))
    return path


def sparse_source(folder: Path) -> Path:
    """A job's outputs, of which a source has become a sparse file of 3 GB."""
    good_sample(folder / "data")
    compress(job(folder / "data", folder))
    path = folder / "data" / "good.png"
    os.truncate(path, 3 * 10**9)
    return path


def beside_images(folder: Path) -> Path:
    """A pickle that asks for a large memo, under the prefix of a job of images."""
    good_sample(folder / "data")
    path = folder / "out-metadata.pickle"
    path.write_bytes(b"\x80\x03](K\1r\0\0\0\x10e.")
    return path


PNG_HEAD = b"\x89PNG\r\n\x1a\n" + png_header((8, 8), 8, 2)

BOMBS = {
    "EXR: 16 layers of 4096 x 4096": Bomb(cryptomatte(layers), MASKS, "too large: 64 channels"),
    "EXR: 400 channels of 13 000 x 13 000": Bomb(
        cryptomatte(many_channels), MASKS, "too large: 400 channels"
    ),
    "EXR: shown 170 million pixels wide": Bomb(
        cryptomatte(wide_display), MASKS, "the limit is 262,144 on a side"
    ),
    "JPEG: 300 scans": Bomb(image("x.jpg", lambda: scans(300)), IMAGES, "more than 100 scans"),
    "JPEG: 1 MB of scans": Bomb(
        image("x.jpg", lambda: scans(100_000)), IMAGES, "more than 100 scans"
    ),
    "PNG: 4 KB on disk, 128 MiB long": Bomb(
        image("x.png", lambda: PNG_HEAD, 1 << 27), IMAGES, "too large: 134,217,728 bytes"
    ),
    "PNG: 64 MiB of zeros": Bomb(
        image("x.png", lambda: PNG_HEAD, 1 << 26), IMAGES, "more than 262,144 chunks"
    ),
    "PNG: 1000 compressed texts": Bomb(image("x.png", compressed_texts), IMAGES, "^"),
    "pickle with an index: LONG_BINPUT": Bomb(
        output("metadata.pickle", large_memo), ("-c", READ), "opcode 0x72 does not belong"
    ),
    "pickle without an index: shared lists": Bomb(
        output("metadata.pickle", shared_lists), (*INSPECT, "out"), "more values than bytes"
    ),
    "pickle next to --images: LONG_BINPUT": Bomb(
        beside_images, (*COMPRESS, "--images", "--", "data"), "^"
    ),
    "npy: shape (10^8, 0, 8, 3)": Bomb(
        output("images.npy", empty_rows), (*INSPECT, "out"), "its rows have a side of 0"
    ),
    "index: 2000 nested folders": Bomb(
        output("metadata.pickle", nested_folders), (*INSPECT, "out", "--json"), "2000"
    ),
    "8000 links to folders": Bomb(
        linked_folders,
        (*COMPRESS, "--metadata", "--end", "1", "--", "store", "data"),
        "8000 samples are reached more than once|8000",
    ),
    "export: 300 boxes, 300 contours": Bomb(
        annotated, (*EXPORT, "out", "--to", "coco", "--out", "coco", "--quiet"), "^"
    ),
    "limbo-inspect --verify: 1200 labels": Bomb(
        many_labels, (*INSPECT, "out", "--verify", "1"), "1 are the same"
    ),
    "export from source: 3 GB long": Bomb(
        sparse_source,
        (*EXPORT, "out", "--to", "webdataset", "--from", "source", "--out", "web"),
        "more bytes than its pixels need",
    ),
}


def main() -> None:
    """Print a table of all bombs, or of those whose names contain a given text."""
    chosen = sys.argv[1] if len(sys.argv) > 1 else ""
    print(
        "| input | bytes | exit | peak MiB | CPU s | said |\n| --- | --- | --- | --- | --- | --- |"
    )
    for name, bomb in BOMBS.items():
        if chosen not in name:
            continue
        with tempfile.TemporaryDirectory() as folder:
            size = bomb.write(Path(folder)).stat().st_size
            cost = measure(bomb, Path(folder))
        lines = cost.said.strip().splitlines()
        said = re.sub(r"\S*/tmp\S*?(/|: )", "", lines[-1] if lines else "")
        print(
            f"| {name} | {size:,} | {cost.code} | {cost.peak_mib:,} | {cost.cpu_seconds:.1f}"
            f" | {said[:200].replace('|', ' ')} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
