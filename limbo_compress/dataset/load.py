"""Open the outputs of a prefix."""

from __future__ import annotations

import gc
import os
import pickle
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from .. import names
from ..errors import InputError
from .arrays import open_arrays

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Dataset", "load"]


@dataclass(frozen=True)
class Dataset:
    """The outputs of a prefix. Row i of each belongs to the same sample.

    Attributes
    ----------
    images : memmap of float16, shape (samples, height, width, 3), or None
    masks : dict of str to memmap of float32, shape (samples, height, width, 1)
        By name of the mask.
    metadata : list of dict, or None
    """

    images: NDArray[Any] | None
    masks: dict[str, NDArray[Any]]
    metadata: list[dict[str, Any]] | None


def load(prefix: str) -> Dataset:
    """Open the outputs of a prefix. Arrays are mapped, not read.

    Nothing in a file is executed: a pickle that names a class or function is refused.

    Raises
    ------
    InputError
        If there are none, if one is damaged, or if their numbers of rows differ.
    """
    arrays = open_arrays(prefix)
    try:
        metadata = _load_metadata(f"{prefix}-{names.METADATA}")
    except (OSError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise InputError(f"cannot read the outputs: {error}", prefix) from error
    _check_rows(prefix, arrays, metadata)
    masks = {
        mask: array
        for name, array in arrays.items()
        if (mask := names.mask_of_array(name)) is not None
    }
    return Dataset(arrays.get(names.IMAGES), masks, metadata)


def _check_rows(
    prefix: str, arrays: dict[str, NDArray[Any]], metadata: list[dict[str, Any]] | None
) -> None:
    rows = {names.array_file(name): len(array) for name, array in arrays.items()}
    if metadata is not None:
        rows[names.METADATA] = len(metadata)
    if not rows:
        raise InputError(
            f"there are no outputs of this prefix: no {names.array_file(names.IMAGES)},"
            f" {names.array_file(names.mask_array('NAME'))} or {names.METADATA}",
            f"{prefix}-*",
            "give the `prefix` that they were written with",
        )
    if len(set(rows.values())) > 1:
        found = ", ".join(f"{name} has {number}" for name, number in rows.items())
        raise InputError(f"the outputs differ in their number of rows: {found}", f"{prefix}-*")


def _load_metadata(path: str) -> list[dict[str, Any]] | None:
    if not os.path.exists(path):
        return None
    # With many small lists, garbage collection would take most of the time.
    enabled = gc.isenabled()
    gc.disable()
    try:
        with open(path, "rb") as stream:
            metadata = _PlainUnpickler(stream).load()
    finally:
        if enabled:
            gc.enable()
    if not isinstance(metadata, list):
        raise pickle.UnpicklingError(f"{path} holds a {type(metadata).__name__}, not a list")
    return metadata


class _PlainUnpickler(pickle.Unpickler):
    """An unpickler that accepts plain values only."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"{module}.{name} does not belong in metadata: not loaded")
