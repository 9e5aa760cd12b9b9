"""Show the outputs of a job, read as a user would read them: the last step of ``make demo``."""

from __future__ import annotations

import pickle
import sys
from collections import Counter
from pathlib import Path

import numpy as np


def main(prefix: str) -> None:
    images = np.load(f"{prefix}-images.npy", mmap_mode="r")
    metadata = pickle.loads(Path(f"{prefix}-metadata.pickle").read_bytes())
    print(f"images    {images.shape} {images.dtype}, mean light {images[:].mean(dtype=float):.3f}")
    for path in sorted(Path(prefix).parent.glob(f"{Path(prefix).name}-masks-*.npy")):
        mask = np.load(path, mmap_mode="r")
        shown = int(mask[:].any(axis=(1, 2, 3)).sum())
        print(f"mask      {mask.shape} {mask.dtype}, {path.name}: not empty in {shown} samples")
    print(f"metadata  {len(metadata)} samples, keys {sorted(set().union(*metadata))}")
    labels = [{annotation["category"] for annotation in m["annotations"]} for m in metadata]
    for category, count in Counter(label for sample in labels for label in sample).most_common():
        print(f"label     {category:10} {count:4} samples")


if __name__ == "__main__":
    main(sys.argv[1])
