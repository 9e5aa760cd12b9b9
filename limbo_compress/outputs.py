"""The output files: create, join, verify, and publish them by rename."""

from __future__ import annotations

import heapq
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import BinaryIO

from .errors import OutputError
from .job import ArrayFile, Job
from .metadata import LIST_END, LIST_START
from .parts import Part, append_metadata

__all__ = ["Outputs", "Written", "output_errors"]

_METADATA = "metadata.pickle"


@dataclass(frozen=True)
class Written:
    """A file that was published.

    Attributes
    ----------
    path : str
    shape : tuple of int
        Of the array; for metadata, the number of samples.
    dtype : str
        Of the array; for metadata, ``list of dict``.
    bytes : int
        Size of the file.
    """

    path: str
    shape: tuple[int, ...]
    dtype: str
    bytes: int


@contextmanager
def output_errors(path: str) -> Iterator[None]:
    """Turn an operating system's error while writing into an OutputError about `path`."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"cannot write it: {error.strerror or error}", path) from error


class Outputs:
    """The files of a job from creation to publication.

    A context manager: leaving it discards whatever was not published.

    Parameters
    ----------
    job : Job
    rows : int
        Number of samples.

    Raises
    ------
    OutputError
        On entering, if the files cannot be created or there is no space for them.
    """

    def __init__(self, job: Job, rows: int) -> None:
        self._job = job
        self._rows = rows
        self._joined = 0
        self._waiting: list[tuple[int, Part]] = []
        self._metadata: BinaryIO | None = None

    def __enter__(self) -> Outputs:
        try:
            with output_errors(self._job.folder):
                self._create()
        except OutputError:
            self._discard()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._discard()

    def _create(self) -> None:
        self._discard()
        self._check_targets()
        os.mkdir(self._job.folder)
        self._check_space()
        for array in self._job.arrays:
            self._create_array(array)
        if self._job.options.metadata:
            self._metadata = open(self._job.work_path(_METADATA), "wb")  # noqa: SIM115
            self._metadata.write(LIST_START)

    def _check_targets(self) -> None:
        for file_name in self._file_names():
            target = self._job.final_path(file_name)
            if os.path.isdir(target):
                raise OutputError("a folder stands where an output is to be written", target)

    def _file_names(self) -> list[str]:
        names = [array.file_name for array in self._job.arrays]
        return [*names, _METADATA] if self._job.options.metadata else names

    def _check_space(self) -> None:
        needed = sum(array.file_bytes for array in self._job.arrays)
        free = shutil.disk_usage(self._job.folder).free
        if free < needed:
            raise OutputError(
                f"not enough space: {needed:,} bytes needed, {free:,} free",
                os.path.dirname(self._job.folder),
                "free some, or choose a --prefix elsewhere",
            )

    def _create_array(self, array: ArrayFile) -> None:
        """Create an array with all its space: on a full disk a mapping dies of SIGBUS."""
        with open(self._job.work_path(array.file_name), "wb") as stream:
            stream.write(array.header)
            stream.flush()
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(stream.fileno(), 0, array.file_bytes)
            else:  # macOS
                os.ftruncate(stream.fileno(), array.file_bytes)

    def collect(self, part: Part) -> None:
        """Take a finished shard, in any order, and join its metadata when its turn comes.

        Raises
        ------
        OutputError
            If the metadata cannot be written.
        """
        heapq.heappush(self._waiting, (part.start, part))
        while self._waiting and self._waiting[0][0] == self._joined:
            _, part = heapq.heappop(self._waiting)
            if self._metadata is not None:
                with output_errors(self._job.folder):
                    append_metadata(self._job.folder, part, self._metadata)
            self._joined = part.stop

    def publish(self) -> tuple[Written, ...]:
        """Verify what was written and rename it into place, the metadata last.

        Raises
        ------
        OutputError
            If something is missing, or the files cannot be renamed.
        """
        if self._joined != self._rows:
            raise OutputError(f"{self._joined} of {self._rows} samples came back", self._job.folder)
        sizes = {array.file_name: array.file_bytes for array in self._job.arrays}
        with output_errors(self._job.folder):
            if self._metadata is not None:
                self._metadata.write(LIST_END)
                sizes[_METADATA] = self._metadata.tell()
                self._metadata.close()
            for file_name, size in sizes.items():
                self._verify(file_name, size)
            self._rename(sizes)
        return tuple(self._written(file_name, size) for file_name, size in sizes.items())

    def _verify(self, file_name: str, size: int) -> None:
        path = self._job.work_path(file_name)
        with open(path, "rb") as stream:
            os.fsync(stream.fileno())
            found = os.fstat(stream.fileno()).st_size
        if found != size:
            raise OutputError(f"{found:,} bytes where {size:,} were written", path)

    def _rename(self, file_names: Iterable[str]) -> None:
        # Older metadata goes first: should this be the moment of a power cut, there are
        # images without metadata, but never with those of another run.
        if self._metadata is not None:
            with suppress(FileNotFoundError):
                os.remove(self._job.final_path(_METADATA))
        for file_name in file_names:
            os.replace(self._job.work_path(file_name), self._job.final_path(file_name))

    def _written(self, file_name: str, size: int) -> Written:
        shapes = {array.file_name: (array.row_shape, array.dtype) for array in self._job.arrays}
        row_shape, dtype = shapes.get(file_name, ((), "list of dict"))
        return Written(self._job.final_path(file_name), (self._rows, *row_shape), dtype, size)

    def _discard(self) -> None:
        if self._metadata is not None:
            self._metadata.close()
        shutil.rmtree(self._job.folder, ignore_errors=True)
