"""Compare with the reference, live: ``make parity``.

Both commands run on the same folders, generated and (where they are) real; every
comparison is printed, and the exit code is 1 if one of them fails.
"""

from __future__ import annotations

import pickle
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from conftest import REAL_SAMPLES, ulps

from benchmarks.campaign import Campaign, write_campaign

SAMPLES = Path(__file__).parent / "reference" / "samples"
SIZES = ((224, 224), (100, 37), (719, 721), (800, 1000), (16, 300))


def main(reference: str) -> int:
    ours = str(Path(sys.executable).with_name("limbo-compress"))
    with tempfile.TemporaryDirectory() as folder:
        good = [
            compare(Path(folder), reference, ours, flags, data)
            for data in _data(Path(folder))
            for flags in _flags()
        ]
        good += [
            compare(Path(folder), reference, ours, flags, data)
            for data in _renders(Path(folder))
            for flags in _mask_flags()
        ]
    print(f"{sum(good)} of {len(good)} comparisons hold")
    return 0 if all(good) else 1


def _data(folder: Path) -> Iterator[Path]:
    write_campaign(folder / "campaign", Campaign(samples=6, photographs=3))
    yield folder / "campaign"
    yield SAMPLES
    if REAL_SAMPLES.is_dir():
        yield REAL_SAMPLES


def _flags() -> Iterator[list[str]]:
    for width, height in SIZES:
        yield ["--images", "--image-size", str(width), str(height)]
    yield ["--images", "--metadata", "--start", "1", "--end", "3"]
    yield ["--metadata", "--strip-regions"]


def _renders(folder: Path) -> Iterator[Path]:
    """Samples that all have cryptomattes: without one, the reference fails."""
    for instances in (3, 60):
        name = folder / f"{instances}-instances"
        write_campaign(name, Campaign(samples=2, photographs=0, instances=instances))
        yield name
    if REAL_SAMPLES.is_dir():
        real = folder / "real-renders"
        real.mkdir()
        for path in REAL_SAMPLES.glob("*_00000*"):
            shutil.copy(path, real)
        yield real


def _mask_flags() -> Iterator[list[str]]:
    for size in (224, 720, 61):
        yield ["--image-size", str(size), str(size), "--mask", "all", ".", "some", "^30B"]


def compare(folder: Path, reference: str, ours: str, flags: list[str], data: Path) -> bool:
    for program, prefix in ((reference, "reference"), (ours, "ours")):
        command = [program, "--prefix", prefix, *flags, "--", str(data)]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    outputs = sorted(path.name.removeprefix("ours-") for path in folder.glob("ours-*"))
    good = bool(outputs)
    for name in outputs:
        holds, said = compare_file(folder / f"ours-{name}", folder / f"reference-{name}")
        print(f"{'ok  ' if holds else 'FAIL'} {data.name:14} {' '.join(flags):46} {name}: {said}")
        good = good and holds
        for prefix in ("ours", "reference"):
            (folder / f"{prefix}-{name}").unlink()
    return good


def compare_file(ours: Path, reference: Path) -> tuple[bool, str]:
    if ours.suffix == ".pickle":
        pair = [_unordered(pickle.loads(path.read_bytes())) for path in (ours, reference)]
        same = repr(pair[0]) == repr(pair[1])
        return same, f"{len(pair[0])} samples {'equal' if same else 'DIFFER'}"
    if "-masks-" in ours.name:
        apart = float(np.abs(np.load(ours) - np.load(reference)).max())
        return apart <= 1e-6, f"at most {apart:.1e} apart"
    return _compare_images(ours, reference)


def _compare_images(ours: Path, reference: Path) -> tuple[bool, str]:
    apart = ulps(np.load(ours), np.load(reference))
    identical = float((apart == 0).mean())
    said = f"{100 * identical:.4f} % identical, at most {apart.max()} ULP apart"
    return bool(apart.max() <= 1 and identical >= 0.999), said


def _unordered(metadata: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Stripped categories come in the order of a set from the reference."""
    for sample in metadata:
        if all(list(a) == ["category"] for a in sample.get("annotations", [])):
            sample["annotations"].sort(key=repr)
    return metadata


if __name__ == "__main__":
    if not shutil.which(sys.argv[1]):
        sys.exit(f"{sys.argv[1]}: no such program; run this by make parity")
    sys.exit(main(str(Path(sys.argv[1]).absolute())))
