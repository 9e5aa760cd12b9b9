"""Draw the picture of docs/compress.md from the demo's outputs: an image and its mask."""

from __future__ import annotations

import sys

import cv2
import numpy as np


def main(prefix: str, mask: str, path: str) -> None:
    """Draw the sample with the largest mask that covers less than a third of its image."""
    images = np.load(f"{prefix}-images.npy", mmap_mode="r")
    masks = np.load(f"{prefix}-masks-{mask}.npy", mmap_mode="r")
    share = masks[:].mean(axis=(1, 2, 3))
    row = int(np.argmax(np.where(share < 0.3, share, 0)))
    light = images[row].astype(np.float32)
    srgb = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    pair = np.concatenate([srgb, np.repeat(masks[row], 3, axis=2)], axis=1)
    pixels = (255 * np.clip(pair, 0, 1) + 0.5).astype(np.uint8)
    cv2.imwrite(path, cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 9])
    print(f"{path}: row {row} of {prefix}")


if __name__ == "__main__":
    main(*sys.argv[1:])
