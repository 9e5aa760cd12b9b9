"""Sets that no campaign gives: outputs written by hand, with paths and labels of any text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.pickles import indexed

HOSTILE = (
    "<script>window.hacked = 1</script>",
    "<img src=x onerror='window.hacked = 1'>",
    "</script><script>window.hacked = 1</script>",
    "\"'`&amp;\\ ${window.hacked = 1}",
    "two\nlines\r\ttab\u2028separator\x00null\x1b[31m",
    "x" * 5000,
    "\u202eright to left\u202c שלום مرحبا",
    "\ud800 alone",
    "__proto__",
    "",
    " ",
)


def write_set(
    prefix: Path,
    images: NDArray[Any],
    samples: Sequence[dict[str, Any]] | None = None,
    paths: Sequence[str] | None = None,
    masks: NDArray[Any] | None = None,
) -> Path:
    """Write outputs, whose samples have these paths, and return the prefix."""
    np.save(f"{prefix}-images.npy", images.astype(np.float16))
    if masks is not None:
        np.save(f"{prefix}-masks-m.npy", masks.astype(np.float32))
    if samples is not None:
        Path(f"{prefix}-metadata.pickle").write_bytes(indexed(samples, paths))
    return prefix
