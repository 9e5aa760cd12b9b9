"""What the files of a format depend on besides the rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Layout"]


@dataclass(frozen=True)
class Layout:
    """How a writer arranges rows.

    Attributes
    ----------
    out : str
        Absolute path that the folder will have.
    classes : sequence of str
        The labels in the order of their numbers; empty if the rows have none.
    parts : sequence of str
        ``("train", "val")`` or ``("train", "val", "test")``; ``("",)`` if rows are not divided.
    with_contours : bool
        Whether YOLO gets contours instead of boxes.
    shard_size : int
        How many rows a shard of WebDataset has.
    """

    out: str
    classes: Sequence[str]
    parts: Sequence[str]
    with_contours: bool
    shard_size: int
