"""How images are compared with those of the reference."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchmarks.parity import ulps

__all__ = ["assert_parity"]


def assert_parity(ours: NDArray[np.float16], reference: NDArray[np.float16]) -> None:
    """Assert that values are at most one step apart, and nearly all equal."""
    apart = ulps(ours, reference)
    assert apart.max() <= 1
    assert (apart == 0).mean() >= 0.999
