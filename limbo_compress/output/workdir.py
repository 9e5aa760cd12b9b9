"""The work folder of a job: held by one run, with all the work that is already done."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from typing import Any

from .. import deflate
from ..errors import UsageError, output_errors
from ..plan import Job
from .lock import Lock
from .parts import Part, read_parts

__all__ = ["WorkDir", "missing"]

_CHUNK = 1 << 20


class WorkDir:
    """The work folder, while a run holds it.

    A context manager. On leaving, the folder stays if any shard is done, and is removed if
    none is, or if all is published.

    Parameters
    ----------
    job : Job
    paths : sequence of str
        The metadata files, one per row.

    Attributes
    ----------
    done : list of Part
        The parts of earlier runs that are whole and whose rows are intact, in order.

    Raises
    ------
    OutputError
        On entering, if another run holds the folder, or it cannot be created.
    UsageError
        On entering, if the folder belongs to another job.
    """

    def __init__(self, job: Job, paths: Sequence[str]) -> None:
        self._job = job
        self._fingerprint = _fingerprint(job, paths)
        self._stack = ExitStack()
        self.done: list[Part] = []

    def __enter__(self) -> WorkDir:
        folder = self._job.folder
        with output_errors(folder), ExitStack() as stack:
            os.makedirs(folder, exist_ok=True)
            stack.callback(self._remove_if_empty)
            stack.enter_context(Lock(self._job.work_path("lock")))
            self._claim()
            self.done = list(_disjoint(filter(self._is_good, read_parts(folder))))
            self._remove_all_but({os.path.basename(part.path(folder)) for part in self.done})
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _claim(self) -> None:
        """Check that the folder belongs to this job; write the fingerprint into a new one."""
        path = self._job.work_path("job.json")
        try:
            with open(path, encoding="utf-8") as stream:
                found = json.load(stream)
        except (FileNotFoundError, ValueError):
            found = None
        if found is not None and found != self._fingerprint and not self._job.options.fresh:
            raise UsageError(
                f"unfinished work of another job: {_difference(found, self._fingerprint)}",
                self._job.folder,
                "`fresh` starts over",
            )
        if found != self._fingerprint or self._job.options.fresh:
            self._remove_all_but(set())
            with open(path, "w", encoding="utf-8") as stream:
                json.dump(self._fingerprint, stream)

    def _is_good(self, part: Part) -> bool:
        """Whether a part can be trusted. Bad samples are tried again: they may have been fixed."""
        return not part.failures and all(
            self._checksum(array.file_name, array.offset(part.start), array.offset(part.stop))
            == part.checksums.get(array.name)
            for array in self._job.arrays
        )

    def _checksum(self, file_name: str, start: int, stop: int) -> int:
        checksum = 0
        with suppress(FileNotFoundError), open(self._job.work_path(file_name), "rb") as stream:
            stream.seek(start)
            while start < stop and (chunk := stream.read(min(_CHUNK, stop - start))):
                checksum = deflate.crc32(chunk, checksum)
                start += len(chunk)
        return checksum

    def _remove_all_but(self, parts: set[str]) -> None:
        arrays = {array.file_name for array in self._job.arrays} if parts else set()
        for name in set(os.listdir(self._job.folder)) - parts - arrays - {"lock", "job.json"}:
            os.unlink(self._job.work_path(name))

    def _remove_if_empty(self) -> None:
        if os.path.isdir(self._job.folder) and not any(
            name.endswith(".part") for name in os.listdir(self._job.folder)
        ):
            self.remove()

    def is_kept(self) -> bool:
        """Whether the folder still exists."""
        return os.path.isdir(self._job.folder)

    def remove(self) -> None:
        """Remove the folder, once the job is published, and those of linked outputs."""
        for folder in (self._job.folder, *self._job.linked_folders):
            shutil.rmtree(folder, ignore_errors=True)


def _disjoint(parts: Iterable[Part]) -> Iterable[Part]:
    """Leave out shards that are done twice, as after a shard was divided."""
    row = 0
    for part in parts:
        if part.start >= row:
            row = part.stop
            yield part


def missing(done: Iterable[Part], rows: int) -> list[range]:
    """Ranges of rows that no part covers; the parts are disjoint and in order.

    Examples
    --------
    >>> missing([Part(2, 4), Part(4, 5)], 9)
    [range(0, 2), range(5, 9)]
    """
    edges = [0, *(edge for part in done for edge in (part.start, part.stop)), rows]
    pairs = zip(edges[0::2], edges[1::2], strict=True)
    return [range(start, stop) for start, stop in pairs if start < stop]


def _fingerprint(job: Job, paths: Sequence[str]) -> dict[str, Any]:
    """What must not change for work to be resumed: the options that matter, and the samples."""
    import hashlib  # here because no worker needs it

    options = job.options
    names, states = hashlib.sha256(), hashlib.sha256()
    for path in paths:
        names.update(os.fsencode(path) + b"\0")
        states.update(_state(path))
    return {
        "format": 2,
        "images": options.images,
        "image_size": list(options.image_size),
        "masks": [list(mask) for mask in options.masks],
        "metadata": options.metadata,
        "strip_regions": options.strip_regions,
        "number of samples": len(paths),
        "list of samples": names.hexdigest(),
        "sizes and times of the metadata files": states.hexdigest(),
    }


def _state(path: str) -> bytes:
    try:
        status = os.stat(path)
    except OSError:
        return b"none"
    return b"%d %d," % (status.st_size, status.st_mtime_ns)


def _difference(found: Any, wanted: dict[str, Any]) -> str:
    if not isinstance(found, dict):
        return "its job.json is damaged"
    changes = []
    for name, value in wanted.items():
        if found.get(name) != value:
            if isinstance(value, str):  # a digest means nothing to a reader
                changes.append(f"the {name} changed")
            else:
                changes.append(f"`{name}` was {found.get(name)}")
    return ", ".join(changes)
