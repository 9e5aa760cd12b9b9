"""What the outputs are called: the only place that spells their names."""

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
    """File name of an array, without the prefix of the job.

    Examples
    --------
    >>> array_file(IMAGES)
    'images.npy'
    """
    return array + _ARRAY_SUFFIX


def array_of_file(file_name: str) -> str | None:
    """Name of the array that a file holds, by its name without the prefix; None if it holds none.

    Examples
    --------
    >>> array_of_file("images.npy"), array_of_file("metadata.pickle")
    ('images', None)
    """
    name = file_name.removesuffix(_ARRAY_SUFFIX)
    return name if name != file_name else None


def mask_array(mask: str) -> str:
    """Name of the array that holds a mask.

    Examples
    --------
    >>> mask_array("big")
    'masks-big'
    """
    return _MASKS + mask


def mask_of_array(array: str) -> str | None:
    """Name of the mask that an array holds, or None if it holds no mask.

    Examples
    --------
    >>> mask_of_array("masks-big"), mask_of_array("images")
    ('big', None)
    """
    return array.removeprefix(_MASKS) if array.startswith(_MASKS) else None
