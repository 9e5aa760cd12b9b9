"""Run the reference and this command on the same data and compare: ``make parity``.

The data are generated campaigns of both profiles and the folders given. Every comparison is
printed; the exit code is 1 if any of them fails.

The reference fails on some samples, which are left out: samples without `synthetic`, such as
photographs, where masks are asked for, and samples without an image where images are. Masks are
square, because the zeros that it gives a sample without a cryptomatte have width and height
exchanged.
"""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.campaign import Campaign, write_campaign
from benchmarks.mixed import MixedCampaign, write_mixed

SIZES = ((224, 224), (100, 37), (719, 721), (800, 1000), (16, 300))
_MIXED = MixedCampaign(samples=24, size=(160, 120))


def main(reference: str, folders: Sequence[Path]) -> int:
    ours = str(Path(sys.executable).with_name("limbo-compress"))
    with tempfile.TemporaryDirectory() as folder:
        good = [
            compare(Path(folder), reference, ours, flags, data)
            for data in _data(Path(folder), folders)
            for flags in _flags()
        ]
        good += [
            compare(Path(folder), reference, ours, flags, _imageless(Path(folder)))
            for flags in (["--metadata"], ["--metadata", "--strip-regions"])
        ]
        good += [
            compare(Path(folder), reference, ours, flags, data)
            for data in _renders(Path(folder), folders)
            for flags in _mask_flags()
        ]
    print(f"{sum(good)} of {len(good)} comparisons hold")
    return 0 if all(good) else 1


def _data(folder: Path, folders: Sequence[Path]) -> Iterator[Path]:
    write_campaign(folder / "campaign", Campaign(samples=6, photographs=3))
    yield folder / "campaign"
    write_mixed(folder / "mixed", _MIXED)
    yield folder / "mixed"
    yield from folders


def _imageless(folder: Path) -> Path:
    write_mixed(folder / "imageless", MixedCampaign(samples=0, imageless=3, size=_MIXED.size))
    return folder / "imageless"


def _flags() -> Iterator[list[str]]:
    for width, height in SIZES:
        yield ["--images", "--image-size", str(width), str(height)]
    yield ["--images", "--metadata", "--start", "1", "--end", "3"]
    yield ["--metadata", "--strip-regions"]


def _renders(folder: Path, folders: Sequence[Path]) -> Iterator[Path]:
    """Yield folders in which every sample is a render; the reference fails on others."""
    for instances in (3, 60):
        name = folder / f"{instances}-instances"
        write_campaign(name, Campaign(samples=2, photographs=0, instances=instances))
        yield name
    # Among these are backgrounds, which have no cryptomatte.
    write_mixed(folder / "mixed-renders", _MIXED)
    shutil.rmtree(folder / "mixed-renders" / "ref")
    yield folder / "mixed-renders"
    for number, given in enumerate(folders):
        renders = folder / f"renders-{number}"
        renders.mkdir()
        for path in sorted(given.glob("*.json")):
            if "cryptomatte" in json.loads(path.read_bytes()).get("synthetic", {}):
                _copy_sample(path, renders)
        if any(renders.iterdir()):
            yield renders


def _copy_sample(path: Path, target: Path) -> None:
    sample = json.loads(path.read_bytes())
    names = (sample["image"]["filename"], sample["synthetic"]["cryptomatte"]["filename"])
    for name in (path.name, *names):
        shutil.copy(path.with_name(name), target)


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
        holds, result = compare_file(folder / f"ours-{name}", folder / f"reference-{name}")
        print(f"{'ok  ' if holds else 'FAIL'} {data.name:14} {' '.join(flags):46} {name}: {result}")
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
        difference = float(np.abs(np.load(ours) - np.load(reference)).max())
        return difference <= 1e-6, f"at most {difference:.1e} apart"
    return _compare_images(ours, reference)


def ulps(ours: NDArray[np.float16], reference: NDArray[np.float16]) -> NDArray[np.int64]:
    """Return the distance of values in float16 steps; +0.0 and -0.0 are equal."""
    assert ours.dtype == reference.dtype == np.float16
    assert ours.shape == reference.shape
    ordinals = []
    for values in (ours, reference):
        bits = values.view(np.int16).astype(np.int64)
        # Negative numbers are stored as a sign and a magnitude.
        ordinals.append(np.where(bits < 0, -(bits & 0x7FFF), bits))
    steps: NDArray[np.int64] = np.abs(ordinals[0] - ordinals[1])
    return steps


def _compare_images(ours: Path, reference: Path) -> tuple[bool, str]:
    steps = ulps(np.load(ours), np.load(reference))
    identical = float((steps == 0).mean())
    result = f"{100 * identical:.4f} % identical, at most {steps.max()} ULP apart"
    return bool(steps.max() <= 1 and identical >= 0.999), result


def _unordered(metadata: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Sort stripped categories; the reference writes them in the order of a set."""
    for sample in metadata:
        annotations = sample.get("annotations", [])
        if all(list(a) == ["category"] for a in annotations):
            annotations.sort(key=repr)
    return metadata


if __name__ == "__main__":
    if not shutil.which(sys.argv[1]):
        sys.exit(f"{sys.argv[1]}: no such program; run make parity instead")
    reference, *folders = (Path(name).absolute() for name in sys.argv[1:])
    sys.exit(main(str(reference), folders))
