"""What the outputs are called, without their prefix: the only place that spells their names."""

from __future__ import annotations

__all__ = [
    "FAILURES",
    "IMAGES",
    "METADATA",
    "WARNINGS",
    "array_file",
    "array_of_file",
    "mask_array",
    "mask_of_array",
]

IMAGES = "images"
METADATA = "metadata.pickle"
FAILURES = "failures.jsonl"
WARNINGS = "warnings.jsonl"
_MASKS = "masks-"
_ARRAY_SUFFIX = ".npy"


def array_file(array: str) -> str:
    """Name of the file of an array: ``images.npy`` of ``images``."""
    return array + _ARRAY_SUFFIX


def array_of_file(file_name: str) -> str | None:
    """Name of the array that a file holds, by its name; None if it holds none."""
    name = file_name.removesuffix(_ARRAY_SUFFIX)
    return name if name != file_name else None


def mask_array(mask: str) -> str:
    """Name of the array that holds a mask: ``masks-big`` of ``big``."""
    return _MASKS + mask


def mask_of_array(array: str) -> str | None:
    """Name of the mask that an array holds, or None if it holds no mask."""
    return array.removeprefix(_MASKS) if array.startswith(_MASKS) else None
