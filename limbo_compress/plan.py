"""A job as a value: what it writes, in which shapes, and where it works."""

from __future__ import annotations

import os
from dataclasses import dataclass

from . import names
from .options import Options
from .output.npy import ArrayFile

__all__ = ["Job", "plan"]


@dataclass(frozen=True)
class Job:
    """What the coordinator and every worker know of a job; small, because every task carries it.

    Attributes
    ----------
    options : Options
        What was asked for.
    target : str
        Absolute prefix of the outputs.
    folder : str
        The work folder beside the target, with unfinished outputs and part-files.
    arrays : tuple of ArrayFile
        The images, if asked for, and the masks.
    mapped : frozenset of str
        Names of the arrays whose rows are written through a shared mapping, the others with
        ``pwrite``. It is known once the files are created.
    """

    options: Options
    target: str
    folder: str
    arrays: tuple[ArrayFile, ...]
    mapped: frozenset[str] = frozenset()

    def work_path(self, file_name: str) -> str:
        """Path of an output in the work folder."""
        return os.path.join(self.folder, file_name)

    def final_path(self, file_name: str) -> str:
        """Path of an output once it is published."""
        return f"{self.target}-{file_name}"


def plan(options: Options, rows: int) -> Job:
    """Decide what a job over `rows` samples writes, and where."""
    target = os.path.abspath(options.prefix)
    folder, name = os.path.split(target)
    width, height = options.image_size
    arrays = [
        ArrayFile(names.mask_array(mask), rows, (height, width, 1), "float32")
        for mask, _ in options.masks
    ]
    if options.images:
        arrays.insert(0, ArrayFile(names.IMAGES, rows, (height, width, 3), "float16"))
    return Job(options, target, os.path.join(folder, f".{name}.partial"), tuple(arrays))
