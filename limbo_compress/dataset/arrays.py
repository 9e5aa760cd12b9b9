"""The arrays of a prefix: which files belong to it, and whether they are whole."""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import names
from ..errors import InputError
from ..output.npy import read_header

__all__ = ["find_arrays", "open_array"]

# dtype and channels, as `compress` and the reference write them.
_IMAGES = ("<f2", 3)
_MASK = ("<f4", 1)


def find_arrays(prefix: str) -> list[str]:
    """Find the arrays that are a prefix's own, as far as the names of files tell.

    Returns
    -------
    list of str
        ``images`` and ``masks-NAME``, as far as there are any.

    Raises
    ------
    InputError
        If the folder cannot be listed.
    """
    folder, start = os.path.split(f"{prefix}-")
    try:
        listed = sorted(os.listdir(folder or os.curdir))
    except OSError as error:
        raise InputError(f"cannot list this folder: {error.strerror}", folder) from error
    own = (name.removeprefix(start) for name in listed if name.startswith(start))
    arrays = [array for name in own if (array := names.array_of_file(name))]
    return [
        array
        for array in arrays
        if array == names.IMAGES
        or (names.mask_of_array(array) and not _is_of_another(prefix, array))
    ]


def open_array(path: str, name: str) -> NDArray[Any] | None:
    """Map an array, reading its header only; None if it is a stranger with the name of a mask.

    Returns
    -------
    memmap of float16 or float32, or None
        Of shape (samples, height, width, channels).

    Raises
    ------
    InputError
        If the file cannot be read, is longer or shorter than its header says, or holds no images.
    """
    if name != names.IMAGES:
        return _open(path, *_MASK)
    images = _open(path, *_IMAGES)
    if images is None:
        raise InputError("it is no array of float16 RGB images", path)
    return images


def _is_of_another(prefix: str, array: str) -> bool:
    """Whether a mask such as ``masks-x-masks-y`` is the mask y of the prefix ``PREFIX-masks-x``."""
    other, _, _ = array.rpartition("-" + names.mask_array(""))
    return bool(other) and any(
        os.path.exists(f"{prefix}-{other}-{file}")
        for file in (names.array_file(names.IMAGES), names.METADATA)
    )


def _open(path: str, dtype: str, channels: int) -> NDArray[Any] | None:
    """Map an array whose file has the size that its header says; None if it is of another kind."""
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
