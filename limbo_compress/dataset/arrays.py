"""The arrays of a prefix: which files belong to it, and whether they are whole."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any

from .. import names
from ..errors import InputError
from ..output.npy import read_header

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["open_arrays"]

# dtype and channels, as `compress` and the reference write them.
_IMAGES = ("<f2", 3)
_MASK = ("<f4", 1)


def open_arrays(prefix: str) -> dict[str, NDArray[Any]]:
    """Map the images and masks of a prefix, by the names of the arrays. Only headers are read.

    Files of other prefixes and arrays of other kinds are ignored.

    Returns
    -------
    dict of str to memmap
        Of shape (samples, height, width, channels).

    Raises
    ------
    InputError
        If a file cannot be read, is damaged, or holds no images.
    """
    arrays = {}
    path = _path(prefix, names.IMAGES)
    if os.path.exists(path):
        images = _open(path, *_IMAGES)
        if images is None:
            raise InputError("it is no array of float16 RGB images", path)
        arrays[names.IMAGES] = images
    for name in _mask_names(prefix):
        mask = _open(_path(prefix, name), *_MASK)
        if mask is not None:
            arrays[name] = mask
    return arrays


def _path(prefix: str, array: str) -> str:
    return f"{prefix}-{names.array_file(array)}"


def _mask_names(prefix: str) -> list[str]:
    """Names of the arrays that are masks of this prefix, as far as file names tell."""
    folder, start = os.path.split(f"{prefix}-")
    try:
        listed = sorted(os.listdir(folder or os.curdir))
    except OSError as error:
        raise InputError(f"cannot list this folder: {error.strerror}", folder) from error
    found = [
        names.array_of_file(name.removeprefix(start)) for name in listed if name.startswith(start)
    ]
    return [
        name
        for name in found
        if name and names.mask_of_array(name) and not _is_of_another(prefix, name)
    ]


def _is_of_another(prefix: str, array: str) -> bool:
    """Whether a mask such as ``masks-x-masks-y`` is the mask y of the prefix ``PREFIX-masks-x``."""
    other, _, _ = array.rpartition("-" + names.mask_array(""))
    return bool(other) and any(
        os.path.exists(f"{prefix}-{other}-{file}")
        for file in (names.array_file(names.IMAGES), names.METADATA)
    )


def _open(path: str, dtype: str, channels: int) -> NDArray[Any] | None:
    """Map an array whose file has the size that its header says; None if it is of another kind."""
    import numpy as np  # here because the command starts faster without it

    try:
        with open(path, "rb") as stream:
            descr, shape = read_header(stream)
            if descr != dtype or len(shape) != 4 or shape[-1] != channels:
                return None
            offset, found = stream.tell(), os.fstat(stream.fileno()).st_size
            size = offset + math.prod(shape) * np.dtype(dtype).itemsize
            if found != size:
                raise ValueError(f"{found:,} bytes where its header says {size:,}")
            return np.memmap(stream, dtype, "r", offset, shape)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read it: {error}", path) from error
