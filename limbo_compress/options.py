"""What the user asks for, validated once."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from importlib.util import find_spec
from operator import index
from typing import Any, ClassVar, Literal, get_args

from . import limits
from .errors import UsageError, missing_extra
from .oserrors import is_folder
from .partition import parse_partition

__all__ = ["Options", "check_prefix"]

OnError = Literal["stop", "skip"]
Decoder = Literal["auto", "opencv"]
WriteRows = Literal["auto", "mmap", "pwrite"]

_OPENCV_MAX_PIXELS = 1 << 30
_SCHEDULER_VARIABLE = "DASK_SCHEDULER_ADDRESS"
_MAX_FAILURES = re.compile(r"(\d+)|(\d+(?:\.\d+)?)%")

# Whether the bytes of a finished sample depend on a field. Work is resumed only with equal values
# of those that decide. The record of a job lists its samples besides, and bad ones are done again.
_BYTES = {"decides_bytes": True}
_OTHER = {"decides_bytes": False}


@dataclass(frozen=True)
class Options:
    """What a job is asked to do.

    Parameters
    ----------
    directories : tuple of str
        Where to look for samples. A single str or path is one directory; paths become str.
    prefix : str
        Outputs are ``{prefix}-images.npy``, ``{prefix}-masks-{NAME}.npy`` and
        ``{prefix}-metadata.pickle``. A path becomes a str.
    images : bool
        Whether to write the images.
    image_size : (int, int)
        Width and height of a row of the images and masks, in pixels.
    masks : dict of str to str
        For each mask its name, and the regular expression that selects its labels. Pairs of the
        two are accepted as well.
    metadata : bool
        Whether to write the metadata.
    strip_regions : bool
        Whether to reduce ``annotations`` to their distinct categories.
    start, end : int, optional
        Half-open range over the ordered samples; all of them by default.
    workers : int, optional
        Number of processes; by default the number of CPUs that this process may use.
    on_error : {"stop", "skip"}
        Whether a bad sample stops the job, or is left out of every output.
    max_failures : str, optional
        How many bad samples may be skipped: a number or a percentage such as ``"2%"``. By default
        any number, but not 20 in a row, which points at the machine.
    max_pixels : int
        The largest image or cryptomatte to decode, in pixels.
    decoder : {"auto", "opencv"}
        Whether plain PNGs may be decoded without OpenCV, which is faster.
    fresh : bool
        Whether to discard unfinished work and start over.
    write_rows : {"auto", "mmap", "pwrite"}
        How workers write rows; by default whatever suits the filesystem.
    partition : str, optional
        ``"I/N"``: do only the share I of N of the samples, I from 0, and publish nothing. A job
        with the same options but this one does what is left and publishes all. ``"auto"`` is the
        task of a job array that this process is.
    scheduler : str, optional
        Address of a Dask scheduler, whose workers do the work. By default that in
        ``DASK_SCHEDULER_ADDRESS``, unless `workers`, `partition` or `scheduler_file` is given.
    scheduler_file : str, optional
        The file in which a Dask scheduler writes its address.
    wait : float
        How long to wait at most, in seconds: for the scheduler file, for a Dask worker, and to see
        whether a run that holds the work folder is alive, if its process cannot be seen from here.

    Raises
    ------
    UsageError
        If the options contradict each other or name a folder that does not exist.
    """

    directories: tuple[str, ...] = field(metadata=_OTHER)
    prefix: str = field(default="compressed", metadata=_OTHER)
    images: bool = field(default=False, metadata=_BYTES)
    image_size: tuple[int, int] = field(default=(224, 224), metadata=_BYTES)
    masks: Mapping[str, str] = field(default_factory=dict, hash=False, metadata=_BYTES)
    metadata: bool = field(default=False, metadata=_BYTES)
    strip_regions: bool = field(default=False, metadata=_BYTES)
    start: int | None = field(default=None, metadata=_OTHER)
    end: int | None = field(default=None, metadata=_OTHER)
    workers: int | None = field(default=None, metadata=_OTHER)
    on_error: OnError = field(default="stop", metadata=_OTHER)
    max_failures: str | None = field(default=None, metadata=_OTHER)
    max_pixels: int = field(default=limits.DEFAULT_PIXELS, metadata=_OTHER)
    decoder: Decoder = field(default="auto", metadata=_OTHER)
    fresh: bool = field(default=False, metadata=_OTHER)
    write_rows: WriteRows = field(default="auto", metadata=_OTHER)
    partition: str | None = field(default=None, metadata=_OTHER)
    scheduler: str | None = field(default=None, metadata=_OTHER)
    scheduler_file: str | None = field(default=None, metadata=_OTHER)
    wait: float = field(default=300.0, metadata=_OTHER)

    CHOICES: ClassVar[dict[str, tuple[str, ...]]] = {
        "on_error": get_args(OnError),
        "decoder": get_args(Decoder),
        "write_rows": get_args(WriteRows),
    }

    def __post_init__(self) -> None:
        self._normalize()
        if not (self.images or self.masks or self.metadata):
            raise UsageError("nothing to do: ask for `images`, `masks` or `metadata`")
        self._check_values()
        self._check_partition()
        self._check_scheduler()
        self._check_masks()
        self._check_range()
        check_prefix(self.prefix)
        folder = os.path.dirname(os.path.abspath(self.prefix))
        if not os.access(folder, os.W_OK | os.X_OK):
            raise UsageError("cannot write to the folder of `prefix`", folder)
        self._check_directories()

    def _normalize(self) -> None:
        """Bring what Python callers may pass to the types of the fields."""
        given: Any = self.directories
        directories = (given,) if isinstance(given, str | bytes | os.PathLike) else given
        try:
            values = {
                "directories": tuple(map(os.fsdecode, directories)),
                "prefix": os.fsdecode(self.prefix),
                "image_size": tuple(map(index, self.image_size)),
                "masks": _masks(self.masks),
                "max_pixels": index(self.max_pixels),
                "wait": float(self.wait),
            }
            for name in ("start", "end", "workers"):
                value = getattr(self, name)
                values[name] = None if value is None else index(value)
        except (TypeError, ValueError) as error:
            raise UsageError(f"an option has a value of the wrong type: {error}") from error
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def _check_values(self) -> None:
        if len(self.image_size) != 2 or min(self.image_size) < 1:
            size = " ".join(map(str, self.image_size))
            raise UsageError(f"`image_size` {size}: must be two numbers, at least 1 pixel each")
        if self.workers is not None and self.workers < 1:
            raise UsageError(f"`workers` {self.workers}: must be at least 1")
        if not 1 <= self.max_pixels <= _OPENCV_MAX_PIXELS:
            raise UsageError(
                f"`max_pixels` {self.max_pixels}: must be from 1 to {_OPENCV_MAX_PIXELS}"
            )
        if not self.wait >= 0:  # which NaN is not, either
            raise UsageError(f"`wait` {self.wait:g}: must be at least 0 seconds")
        for name, choices in self.CHOICES.items():
            if (value := getattr(self, name)) not in choices:
                raise UsageError(f"`{name}` {value}: must be one of {', '.join(choices)}")
        if self.max_failures is None:
            return
        if self.on_error == "stop":
            raise UsageError("`max_failures` needs `on_error` skip")
        if not _MAX_FAILURES.fullmatch(str(self.max_failures)):
            raise UsageError(
                f"`max_failures` {self.max_failures}: must be a number or a percentage such as 2%"
            )

    def _check_partition(self) -> None:
        if self.partition is None:
            return
        object.__setattr__(self, "partition", str(parse_partition(self.partition)))
        if self.fresh:
            raise UsageError(
                "`fresh` would discard the work of other partitions, too",
                "",
                "remove the work folder before the array starts",
            )

    def _check_scheduler(self) -> None:
        local = [f"`{name}`" for name in ("workers", "partition") if getattr(self, name)]
        given = [f"`{name}`" for name in ("scheduler", "scheduler_file") if getattr(self, name)]
        if not given and not local and (address := os.environ.get(_SCHEDULER_VARIABLE)):
            given = [_SCHEDULER_VARIABLE]
            object.__setattr__(self, "scheduler", address)
        if len(given) > 1 or (given and local):
            raise UsageError(f"{' and '.join(given + local)}: give only one of them")
        if given and not find_spec("distributed"):
            raise missing_extra(f"{given[0]} needs Dask", "dask")
        if self.scheduler_file:
            folder = os.path.dirname(os.path.abspath(self.scheduler_file))
            if not is_folder(folder):
                raise UsageError("no such folder for `scheduler_file`", folder)
            if os.path.exists(self.scheduler_file) and not os.path.isfile(self.scheduler_file):
                raise UsageError("`scheduler_file` must be a file", self.scheduler_file)

    @property
    def is_on_dask(self) -> bool:
        """Whether workers of a Dask cluster do the work."""
        return bool(self.scheduler or self.scheduler_file)

    def _check_masks(self) -> None:
        for name, pattern in self.masks.items():
            if not name or "/" in name or os.sep in name or "\0" in name:
                raise UsageError(f"`masks` {name!r}: the name becomes part of a file's name")
            try:
                re.compile(pattern)
            except re.error as error:
                raise UsageError(
                    f"`masks` {name} {pattern!r}: not a regular expression: {error}"
                ) from error
        if self.masks and not all(map(find_spec, ("OpenEXR", "mmh3"))):
            raise missing_extra("`masks` needs OpenEXR and mmh3", "masks")

    def _check_range(self) -> None:
        for name, bound in (("start", self.start), ("end", self.end)):
            if bound is not None and bound < 0:
                raise UsageError(f"`{name}` {bound}: must not be negative")
        if self.end is not None and self.end <= (self.start or 0):
            raise UsageError(
                f"`start` {self.start or 0} `end` {self.end}: the range is empty"
                " (it ends before sample `end`)"
            )

    def _check_directories(self) -> None:
        if not self.directories:
            raise UsageError("name at least one directory of Limbo data")
        for directory in self.directories:
            if not is_folder(directory):
                raise UsageError("no such directory", directory)

    @property
    def deciding_bytes(self) -> dict[str, Any]:
        """The fields that decide the bytes of the outputs, by their names."""
        names = [each.name for each in fields(self) if each.metadata["decides_bytes"]]
        return {name: getattr(self, name) for name in names}

    def failure_limit(self, samples: int) -> float:
        """How many of `samples` may be bad before the job fails."""
        if self.on_error == "stop":
            return 0
        if self.max_failures is None:
            return math.inf
        most = str(self.max_failures)
        return samples * float(most[:-1]) / 100 if most.endswith("%") else int(most)

    def rows(self, samples: int) -> range:
        """Select the rows of the job out of `samples` ordered samples.

        Raises
        ------
        UsageError
            If the range holds no sample.
        """
        rows = range(samples)[slice(self.start, self.end)]
        if not rows:
            raise UsageError(
                f"`start` {self.start}: the range is empty, there are {samples} samples"
            )
        return rows


def check_prefix(prefix: str) -> None:
    """Check that files can have a prefix.

    Raises
    ------
    UsageError
        If it ends in no name, or there is no such folder.
    """
    if os.path.basename(prefix) in ("", os.curdir, os.pardir):
        raise UsageError(f"`prefix` {prefix!r}: it must end in a name for the files")
    if "\0" in prefix:
        raise UsageError(f"`prefix` {prefix!r}: a file name cannot hold a null byte")
    folder = os.path.dirname(os.path.abspath(prefix))
    if not is_folder(folder):
        raise UsageError("no such folder for `prefix`", folder, "create it first")


def _masks(given: Any) -> dict[str, str]:
    """Check names and patterns. A str of two letters, such as ``"ab"``, would pass for a pair."""
    masks: dict[str, str] = {}
    for pair in given.items() if isinstance(given, Mapping) else given:
        name, pattern = ("", None) if isinstance(pair, str) else pair
        if not isinstance(name, str) or not isinstance(pattern, str):
            raise TypeError(f"`masks` takes pairs of a name and a pattern, both str, not {pair!r}")
        if name in masks:
            raise UsageError(f"`masks` {name}: the name is given twice")
        masks[name] = pattern
    return masks
