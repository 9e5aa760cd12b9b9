"""The state of the sources: the time of each, in a hidden file next to the outputs.

The index has what follows from contents alone: sizes and checksums, but no times. The state belongs
to the metadata file whose identity it repeats. It may be deleted or damaged at any time: then the
contents of the sources are compared.
"""

from __future__ import annotations

import logging
import os
from array import array
from collections.abc import Callable
from contextlib import suppress

from .. import deflate, filenames
from ..errors import OutputError
from ..formats import columns
from ..formats.filestate import FileState, open_regular
from ..formats.index import identity
from ..plan import Job
from ..renaming import move

__all__ = ["known_time", "new_times", "read_times", "state_of", "write_times"]

_log = logging.getLogger("limbo_compress")

_MAGIC = b"limbost1"


def state_of(target: str) -> str:
    """Return the path of the state of the outputs with this absolute prefix."""
    folder, name = os.path.split(target)
    return os.path.join(folder, f".{name}.state")


def known_time(file: FileState) -> int:
    """Return the time of a file, in ns since the epoch; the last one that fits if it is later."""
    return max(-(1 << 63), min(file.mtime_ns, (1 << 63) - 1))


def new_times() -> array[int]:
    """Return an array for times, in ns since the epoch."""
    return array("q")


def write_times(job: Job, times: array[int], check: Callable[[], None]) -> None:
    """Write the time of each source of outputs that are published, in the order of the index.

    Without them the next run only takes longer, so an error is a warning.

    Parameters
    ----------
    job : Job
    times : array of int64
        As of `new_times`.
    check : callable
        Raises an error if the folder of the outputs is no longer this run's.
    """
    path, draft = state_of(job.target), job.own_path("state")
    try:
        with open_regular(job.final_path(filenames.METADATA)) as stream:
            owner = identity(stream.fileno())
        body = owner + columns.pack(times)
        with open(draft, "wb") as stream:
            stream.write(_MAGIC + deflate.crc32(body).to_bytes(4, "little") + body)
        check()
        move(draft, path)
    except (OSError, OutputError) as error:
        _log.warning(
            "the outputs are complete, but the times of their sources are not kept: %s", error
        )


def read_times(job: Job, metadata: int, sources: int) -> array[int] | None:
    """Read the time of each source of older outputs.

    Parameters
    ----------
    job : Job
    metadata : int
        Descriptor of their metadata file.
    sources : int
        How many there are.

    Returns
    -------
    array of int64, or None
        None if the state is missing, damaged, or that of other outputs.
    """
    with suppress(OSError, ValueError), open_regular(state_of(job.target)) as stream:
        magic, checksum, body = stream.read(8), stream.read(4), stream.read()
        owner = identity(metadata)
        is_whole = magic == _MAGIC and deflate.crc32(body).to_bytes(4, "little") == checksum
        if is_whole and body.startswith(owner):
            times = columns.unpack(body[len(owner) :], new_times())
            return times if len(times) == sources else None
    return None
