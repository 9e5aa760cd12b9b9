"""The files of samples: which they are, and reading them, where needed ahead of the work."""

from __future__ import annotations

import os
import resource
import stat
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from . import metadata
from .errors import SampleError
from .options import Options

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

__all__ = ["File", "Files", "Reader", "cryptomatte_section", "own_file", "read_file"]

# The largest files that are read, in bytes: real ones are a thousand times smaller.
_MOST_METADATA = 1 << 28
_MOST_DATA = 1 << 30
# Samples that wait for the work on them, with their files in memory.
_AHEAD = 2
_LONG_WAIT_SECONDS = 0.002


@dataclass(frozen=True)
class File:
    """A file that was read.

    Attributes
    ----------
    path : str
    data : bytes
        All of it.
    """

    path: str
    data: bytes


@dataclass(frozen=True)
class Files:
    """What was read of a sample.

    Attributes
    ----------
    path : str
        Its metadata file.
    metadata : dict
        The metadata, parsed, for they name the other files.
    image, cryptomatte : File or None
        None where not asked for, or where a sample has no cryptomatte.
    """

    path: str
    metadata: metadata.Metadata
    image: File | None = None
    cryptomatte: File | None = None


class Reader:
    """Reads the files of samples; ahead of their use, where it has to wait for them.

    On a network filesystem to open a file takes milliseconds, in which a worker can do
    the sample before. From a local disk a thread would only cost time (4 % of a job's).

    A context manager.

    Parameters
    ----------
    options : Options
        They tell which files are wanted.
    paths : sequence of str
        The metadata files.
    """

    def __init__(self, options: Options, paths: Sequence[str]) -> None:
        self._options = options
        self._paths = iter(paths)
        self._threads: ThreadPoolExecutor | None = None
        self._ahead: deque[Future[Files]] = deque()

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)

    def next(self) -> Files:
        """Give the files of the next sample.

        Raises
        ------
        SampleError
            If they cannot be read; the next call is for the sample after it.
        """
        if self._threads is not None:
            files = self._ahead.popleft()
            self._start_reading(1)
            return files.result()
        begun, waits = time.monotonic(), _waits()
        working = time.thread_time()
        try:
            return _read(self._options, next(self._paths))
        finally:
            working = time.thread_time() - working
            # On a busy machine others take their turn as well: that is no waiting for files.
            if time.monotonic() - begun - working > _LONG_WAIT_SECONDS and _waits() > waits:
                self._read_ahead()

    def _read_ahead(self) -> None:
        from concurrent.futures import ThreadPoolExecutor

        self._threads = ThreadPoolExecutor(_AHEAD)
        self._start_reading(_AHEAD)

    def _start_reading(self, samples: int) -> None:
        assert self._threads is not None
        for path in islice(self._paths, samples):
            self._ahead.append(self._threads.submit(_read, self._options, path))


def _waits() -> int:
    """How often this thread has waited for something; on macOS, this process."""
    who = getattr(resource, "RUSAGE_THREAD", resource.RUSAGE_SELF)
    return resource.getrusage(who).ru_nvcsw


def _read(options: Options, path: str) -> Files:
    sample = metadata.parse(read_file(path, _MOST_METADATA), path)
    image = cryptomatte = None
    if options.images:
        image = _read_own(path, sample.get("image"), "image")
    if options.masks:
        section = cryptomatte_section(sample, path)
        if section is not None:
            cryptomatte = _read_own(path, section, "synthetic.cryptomatte")
    return Files(path, sample, image, cryptomatte)


def _read_own(metadata_path: str, section: Any, what: str) -> File:
    path = own_file(metadata_path, section, what)
    return File(path, read_file(path, _MOST_DATA))


def own_file(metadata_path: str, section: Any, what: str) -> str:
    """Path of a file that a section of a sample's metadata names.

    Parameters
    ----------
    metadata_path : str
        The sample's metadata file.
    section : object
        What stands at ``image`` or ``synthetic.cryptomatte``; expected is a dict with a
        ``filename``, which must lie in the folder of the metadata file.
    what : str
        How to call the section in an error.

    Returns
    -------
    str

    Raises
    ------
    SampleError
        If the section names no file, or one outside the sample's folder.
    """
    name = section.get("filename") if isinstance(section, dict) else None
    if not isinstance(name, str) or not name:
        raise SampleError(f"its metadata has no {what}.filename", metadata_path)
    if name in (os.curdir, os.pardir) or "/" in name or os.sep in name or "\0" in name:
        raise SampleError(
            f"{what}.filename {name!r} is not a plain file name in the sample's folder",
            metadata_path,
        )
    return os.path.join(os.path.dirname(metadata_path), name)


def read_file(path: str, most: int) -> bytes:
    """Read a file of a sample, be it through a link, but nothing that is no regular file.

    Parameters
    ----------
    path : str
    most : int
        The largest file to read, in bytes.

    Raises
    ------
    SampleError
        If it cannot be read, is a pipe or a device, is too large, or changes meanwhile.
    """
    try:
        # Without blocking: to open a pipe that nobody writes to would wait for ever.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as stream:
            before = os.fstat(stream.fileno())
            if not stat.S_ISREG(before.st_mode):
                raise SampleError("it is not a regular file", path)
            if before.st_size > most:
                raise SampleError(f"it is too large: {before.st_size:,} bytes of {most:,}", path)
            data = stream.read(before.st_size + 1)
            after = os.fstat(stream.fileno())
    except (OSError, ValueError) as error:
        raise SampleError(f"cannot read it: {getattr(error, 'strerror', error)}", path) from error
    if (len(data), before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise SampleError("it changed while it was read", path)
    return data


def cryptomatte_section(metadata: dict[str, Any], path: str) -> dict[str, Any] | None:
    """Give what a sample's metadata says of its cryptomatte, or None where it has none.

    Raises
    ------
    SampleError
        If it says something that is not a file name and a list of labels.
    """
    synthetic = metadata.get("synthetic")
    section = synthetic.get("cryptomatte") if isinstance(synthetic, dict) else None
    if section is None:
        return None
    labels = section.get("manifest") if isinstance(section, dict) else None
    if (
        isinstance(section, dict)
        and isinstance(labels, list)
        and all(isinstance(label, str) for label in labels)
    ):
        return section
    raise SampleError("its synthetic.cryptomatte.manifest is not a list of labels", path)
