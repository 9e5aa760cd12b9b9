"""A job as a value: what it writes, in which shapes, and where it works."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from . import deflate, filenames
from .formats.npy import ArrayFile, kind_of
from .options import Options
from .partition import Partition, parse_partition

__all__ = ["PLACE", "Job", "links_of", "plan", "work_folder_of"]

# Each run has a place of its own, so that what another run asks for by its old name is not found.
PLACE = "work-"


@dataclass(frozen=True)
class Job:
    """What the coordinator and every worker know of a job; small, because every task carries it.

    Attributes
    ----------
    options : Options
        What was asked for.
    samples : int
        Number of samples, of all partitions.
    target : str
        Absolute prefix of the outputs.
    root : str
        The work folder next to the target, with the locks.
    arrays : tuple of ArrayFile
        The images, if asked for, and the masks.
    run : str
        A random name, by which the lock and the files of this run are told from those of others.
    links : mapping of str to str
        Where the outputs are whose names are symbolic links.
    partition : Partition or None
        The share of the rows that this run does; None for all that are missing.
    place : str
        Name, in the work folder, of the folder of unfinished outputs and shard records.
    mapped : frozenset of str
        Names of the arrays whose rows are written through a shared mapping, the others with
        ``pwrite``. It is known once the files are created.
    locked : frozenset of str
        Names of the arrays on which each writer holds a lock of the kernel; known as `mapped` is.
    """

    options: Options
    samples: int
    target: str
    root: str
    arrays: tuple[ArrayFile, ...]
    run: str
    links: Mapping[str, str] = field(default_factory=dict)
    partition: Partition | None = None
    place: str = ""
    mapped: frozenset[str] = frozenset()
    locked: frozenset[str] = frozenset()

    @property
    def folder(self) -> str:
        """The folder of shard records, and of unfinished outputs that are no links."""
        return os.path.join(self.root, self.place)

    @property
    def file_names(self) -> tuple[str, ...]:
        """Names, without the prefix, of all outputs that the job may write or remove.

        In the order in which they appear. The metadata are last, so that others do not take a
        part of the outputs for all.
        """
        metadata = (filenames.METADATA,) if self.options.metadata else ()
        arrays = (array.file_name for array in self.arrays)
        return (*arrays, filenames.FAILURES, filenames.WARNINGS, *metadata)

    @property
    def rows(self) -> range:
        """The rows that this run may do."""
        return self.partition.rows(self.samples) if self.partition else range(self.samples)

    def for_other_machines(self) -> Job:
        """Return the job as workers on other machines do it, which may see another filesystem."""
        mapped = self.mapped if self.options.write_rows == "mmap" else frozenset()
        return replace(self, mapped=mapped, locked=frozenset())

    @property
    def syncs_shards(self) -> bool:
        """Whether a shard is on the disk once it is done, and not in a machine's memory only."""
        return bool(self.arrays) and not self.mapped

    @property
    def linked_roots(self) -> tuple[str, ...]:
        """The work folders next to the files to which outputs are linked."""
        return tuple(map(self.root_of, self.links))

    def root_of(self, file_name: str) -> str:
        """The work folder on the filesystem where an output will be published."""
        if file_name not in self.links:
            return self.root
        folder, name = os.path.split(self.links[file_name])
        # Other prefixes may be linked to the same file.
        owner = deflate.crc32(os.fsencode(self.root))
        return os.path.join(folder, f".{name}.{owner:08x}.partial")

    def work_folder(self, file_name: str) -> str:
        """Folder of an unfinished output, on the filesystem where it will be published."""
        return os.path.join(self.root_of(file_name), self.place)

    def work_path(self, file_name: str) -> str:
        """Path of an unfinished output, or another file in the work folder, of all runs."""
        return os.path.join(self.work_folder(file_name), file_name)

    def own_path(self, file_name: str) -> str:
        """Path of an unfinished output, or another file in the work folder, of this run alone."""
        return os.path.join(self.work_folder(file_name), f"{self.run}-{file_name}")

    def final_path(self, file_name: str) -> str:
        """Path of an output once it is published, as the user knows it."""
        return f"{self.target}-{file_name}"

    def real_path(self, file_name: str) -> str:
        """Path of the published file itself: the same, or where its link leads."""
        return self.links.get(file_name) or self.final_path(file_name)


def work_folder_of(prefix: str) -> str:
    """Return the absolute path of the work folder of a prefix."""
    folder, name = os.path.split(os.path.abspath(prefix))
    return os.path.join(folder, f".{name}.partial")


def plan(options: Options, rows: int) -> Job:
    """Decide what a job over `rows` samples writes, and where."""
    target = os.path.abspath(options.prefix)
    names = [filenames.IMAGES] if options.images else []
    names += map(filenames.mask_array, options.masks)
    arrays = (ArrayFile(name, rows, options.image_size, kind_of(name)) for name in names)
    run = os.urandom(8).hex()
    job = Job(
        options,
        rows,
        target,
        work_folder_of(target),
        tuple(arrays),
        run=run,
        partition=parse_partition(options.partition) if options.partition else None,
        place=PLACE + run,
    )
    return replace(job, links=links_of(job))


def links_of(job: Job) -> dict[str, str]:
    """Where the outputs lead whose names are symbolic links, whether a file is there or not."""
    paths = {file_name: job.final_path(file_name) for file_name in job.file_names}
    return {
        file_name: os.path.realpath(path)
        for file_name, path in paths.items()
        if os.path.islink(path)
    }
