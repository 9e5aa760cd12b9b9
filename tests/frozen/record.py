"""Record outputs of this version for all later ones: ``python -m tests.frozen.record VERSION``.

Nothing that is there is changed: see README.md. Needs Linux, and root: the lock of the work folder
names the host ``frozen``.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from pathlib import Path

from tests.cli.test_console import write_noisy_jpegs
from tests.jobs import ROOT, run, write_tiny_campaign
from tests.pictures import encoded, picture_with_alpha
from tests.running import on_host

HERE = Path(__file__).parent
SAMPLES = HERE / "samples"
SUMS = HERE / "SHA256SUMS"
# Wherever the repository is, the same paths lead to the samples of a process that runs in `HERE`.
SOURCE = "/proc/self/cwd/samples"
FLAGS = ("--workers", "1", "--on-error", "skip", "--image-size", "8", "6", "--images", "--metadata")
MASKS = ("--mask", "big", "^48", "all", ".")
# The command, killed once two samples are done.
_KILLED = """
import os, signal
from limbo_compress import Options, compress

def progress(done, samples):
    if done >= 2:
        os.kill(os.getpid(), signal.SIGKILL)

masks = (("big", "^48"), ("all", "."))
compress(Options({source!r}, {prefix!r}, images=True, metadata=True, masks=masks, image_size=(8, 6),
    workers=1, on_error="skip"), progress)
"""


def make_samples() -> None:
    """Write the samples."""
    with tempfile.TemporaryDirectory() as folder:
        write_tiny_campaign(Path(folder), 3)
        (Path(folder) / "0000").rename(SAMPLES)
    write_noisy_jpegs(SAMPLES, 1, "noisy-")
    alpha = encoded(picture_with_alpha())
    for name, content in (("alpha", alpha), ("truncated", alpha[: len(alpha) // 2])):
        (SAMPLES / f"{name}.png").write_bytes(content)
        sample = {
            "annotations": [{"category": "real"}, {"category": "30B"}, {"category": "30B"}],
            "image": {"filename": f"{name}.png"},
            "text": "K\u00e4fig \U0001f4e6",
        }
        (SAMPLES / f"{name}.json").write_text(json.dumps(sample), encoding="utf-8")


def record(version: str) -> None:
    """Run this version on the samples and keep its outputs, and an unfinished work folder."""
    folder = HERE / version
    folder.mkdir()
    for name, flags in (("out", MASKS), ("stripped", ("--strip-regions",))):
        prefix = str(folder / name)
        command = ["-m", "limbo_compress", "--prefix", prefix, *FLAGS, *flags, "--", SOURCE]
        run(sys.executable, *command, cwd=HERE, check=True)
        (folder / f".{name}.state").unlink()  # times, which no copy of the sources keeps
    code = _KILLED.format(source=SOURCE, prefix=str(folder / "unfinished"))
    killed = run(*on_host("frozen"), sys.executable, "-c", code, cwd=HERE)
    assert killed.returncode == -9
    (folder / ".unfinished.partial").rename(folder / "unfinished")


def record_reference(program: str) -> None:
    """Run the reference, by the path of its command, and keep its outputs as they are."""
    folder = HERE / "limbo-ml-0.4.0"
    folder.mkdir()
    samples = ROOT / "tests" / "reference" / "samples"
    for name, flags in (
        ("out", ("--images", "--image-size", "16", "16")),
        ("stripped", ("--strip-regions",)),
    ):
        command = [program, "--prefix", name, "--metadata", *flags, "--", str(samples)]
        run(*command, cwd=folder, check=True)


def checksums() -> str:
    """Return the lines of `SHA256SUMS`, as the command of that name prints them."""
    own = {HERE / "README.md", HERE / "__init__.py", HERE / "record.py", SUMS}
    paths = sorted(path for path in HERE.rglob("*") if path.is_file() and path not in own)
    return "".join(
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(HERE)}\n"
        for path in paths
        if path.suffix != ".pyc"
    )


if __name__ == "__main__":
    record(sys.argv[1])
    SUMS.write_text(checksums(), encoding="utf-8")
