"""The files of samples: read in order, and ahead of their use where reading means waiting."""

from __future__ import annotations

import os
import resource
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import deflate, limits
from ..errors import SampleError
from ..formats.filestate import FileState, open_regular
from ..options import Options
from ..oserrors import is_about_file, machine_errors, retry
from . import schema
from .metadata_json import parse

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

__all__ = ["CheckSize", "DataFile", "SampleFiles", "SampleReader", "read_file"]

# Checks the size of a large file by its head: takes this, the size in bytes, and the path.
CheckSize = Callable[[bytes, int, str], None]

# How many samples are read ahead once a read has had to wait, and at most. The limit of bytes is
# for the files of large samples; the fewest are read ahead all the same.
_FEWEST_AHEAD = 2
_MOST_AHEAD = 8
_MOST_BYTES_AHEAD = 1 << 26
_LONG_WAIT_SECONDS = 0.002


class DataFile(NamedTuple):
    """A file that was read."""

    path: str
    data: bytes
    state: FileState  # how it was meanwhile


class SampleFiles(NamedTuple):
    """What was read of a sample. The image or the cryptomatte is None if it is not asked for."""

    path: str  # of its metadata file
    metadata: schema.Metadata
    states: tuple[FileState, ...]  # of all the files that were read
    image: DataFile | None = None
    cryptomatte: DataFile | None = None  # None, too, if the sample has none
    labels: tuple[str, ...] = ()  # the manifest of the cryptomatte

    @property
    def has_jpeg(self) -> bool:
        """Whether the image is a JPEG, which two versions of OpenCV may decode to other values."""
        return self.image is not None and self.image.data.startswith(b"\xff\xd8\xff")


class SampleReader:
    """Reads the files of samples in order.

    Opening a file on a network filesystem takes milliseconds, in which a worker can convert the
    previous sample. So threads read ahead, but only once a read has had to wait: on a local
    disk they would cost 4 to 10 % of a job's CPU time. They read twice as far ahead each time that
    the next sample is late. The next reader of this process begins as far ahead, or with one
    sample less if none was late.

    A context manager.

    Parameters
    ----------
    options : Options
        They decide which files are read.
    paths : sequence of str
        The metadata files.
    check_size : callable, optional
        Called as ``check_size(head, size, path)`` before an image or cryptomatte of more than
        `limits.SMALL_BYTES` is read. It raises a SampleError if the file is too large.
    """

    # How far ahead the next reader of this process begins.
    _next_depth = 0

    def __init__(
        self, options: Options, paths: Sequence[str], check_size: CheckSize | None = None
    ) -> None:
        self._read = partial(_read, options, check_size)
        self._paths = iter(paths)
        self._threads: ThreadPoolExecutor | None = None
        self._ahead: deque[Future[SampleFiles]] = deque()
        self._depth = SampleReader._next_depth
        self._was_late = False

    def __enter__(self) -> SampleReader:
        return self

    def __exit__(self, *_: object) -> None:
        SampleReader._next_depth = self._depth if self._was_late else max(0, self._depth - 1)
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)

    def next(self) -> SampleFiles:
        """Return the files of the next sample.

        Raises
        ------
        SampleError
            If they are bad. The next call returns the sample after it.
        MachineError
            If the machine keeps them from being read.
        """
        if self._threads is not None:
            return self._next_ahead()
        path = next(self._paths)
        if self._depth:
            self._read_ahead()
            return self._read(path)
        begun, waits = time.monotonic(), _count_waits()
        working = time.thread_time()
        try:
            return self._read(path)
        finally:
            working = time.thread_time() - working
            # On a busy machine the thread also loses time to others, which is not waiting.
            if time.monotonic() - begun - working > _LONG_WAIT_SECONDS and _count_waits() > waits:
                self._depth, self._was_late = _FEWEST_AHEAD, True
                self._read_ahead()

    def _next_ahead(self) -> SampleFiles:
        future = self._ahead.popleft()
        is_late = not future.done()
        self._was_late |= is_late
        self._read_ahead()
        files = future.result()
        size = sum(state.size for state in files.states)
        most = min(_MOST_AHEAD, max(_FEWEST_AHEAD, _MOST_BYTES_AHEAD // size))
        self._depth = min(self._depth * 2 if is_late else self._depth, most)
        return files

    def _read_ahead(self) -> None:
        """Let threads begin to read the next samples, as far ahead as is due."""
        if self._threads is None:
            from concurrent.futures import ThreadPoolExecutor

            self._threads = ThreadPoolExecutor(_MOST_AHEAD)
        for path in islice(self._paths, max(0, self._depth - len(self._ahead))):
            self._ahead.append(self._threads.submit(self._read, path))


def _count_waits() -> int:
    """How often this thread (on macOS: this process) has waited for something."""
    who = getattr(resource, "RUSAGE_THREAD", resource.RUSAGE_SELF)
    return resource.getrusage(who).ru_nvcsw


def _read(options: Options, check_size: CheckSize | None, path: str) -> SampleFiles:
    source = read_file(path, limits.METADATA_BYTES)
    metadata, states = parse(source.data, path), [source.state]
    del source  # the image is read into the memory that the CPU still caches
    image = cryptomatte = None
    labels: tuple[str, ...] = ()
    if options.images:
        image = _read_own(path, metadata.get("image"), "image", check_size)
    if options.masks:
        section = schema.cryptomatte_section(metadata, path)
        if section is not None:
            cryptomatte = _read_own(path, section, "synthetic.cryptomatte", check_size)
            labels = tuple(section["manifest"])
    states += [file.state for file in (image, cryptomatte) if file is not None]
    return SampleFiles(path, metadata, tuple(states), image, cryptomatte, labels)


def _read_own(
    metadata_path: str, section: Any, what: str, check_size: CheckSize | None
) -> DataFile:
    path = schema.own_file(metadata_path, section, what)
    return read_file(path, limits.IMAGE_BYTES, check_size)


def read_file(path: str, max_bytes: int, check_size: CheckSize | None = None) -> DataFile:
    """Read a regular file of a sample, or one that a link leads to, of at most `max_bytes`.

    Raises
    ------
    SampleError
        If it is missing, may not be read, is a pipe or a device, is too large, or changes
        meanwhile.
    MachineError
        If its folder is gone, or the machine keeps it from being read.
    """
    with machine_errors(path):
        try:
            return retry(partial(_read_file, path, max_bytes, check_size), path)
        except ValueError as error:  # a name that no file can have
            raise SampleError(f"cannot read it: {error}", path) from error
        except OSError as error:
            if not is_about_file(error, path):
                raise
            raise SampleError(f"cannot read it: {error.strerror}", path) from error


def _read_file(path: str, max_bytes: int, check_size: CheckSize | None) -> DataFile:
    with open_regular(path) as stream:
        before = os.fstat(stream.fileno())
        if before.st_size > max_bytes:
            raise SampleError(
                f"it is too large: {before.st_size:,} bytes, the limit is {max_bytes:,}", path
            )
        if check_size is not None and before.st_size > limits.SMALL_BYTES:
            check_size(stream.read(limits.HEAD_BYTES), before.st_size, path)
            stream.seek(0)
        data = stream.read(before.st_size + 1)
        after = os.fstat(stream.fileno())
    if (len(data), before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise SampleError("it changed while it was read", path)
    return DataFile(path, data, FileState.of(path, after, deflate.crc32(data)))
