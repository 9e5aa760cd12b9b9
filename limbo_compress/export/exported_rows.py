"""Rows with what the formats need of them: the picture, the annotations, where they come from."""

from __future__ import annotations

import heapq
import os
import warnings
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .. import filenames, limits
from ..dataset.dataset import Dataset
from ..dataset.row_views import Ints, release
from ..dataset.srgb import srgb8
from ..errors import InputError, MachineError, SampleError
from ..formats.pickling import no_garbage_collection
from ..oserrors import machine_errors
from ..run.executor import Ending, Executor, Progress
from ..run.processes import ProcessEngine
from ..run.shards import split
from ..samples.schema import own_file
from .annotations import XYWH, Annotation, Size, find_annotations, is_kept, printable

__all__ = ["Picture", "Row", "RowReader", "read_rows"]

# The kinds that the compressor reads.
_SUFFIXES = {"PNG": ".png", "JPEG": ".jpg", "MPO": ".jpg"}
_MIN_DIGITS = 6


@dataclass(frozen=True)
class Picture:
    """A picture: the bytes of a PNG, or the source image.

    Attributes
    ----------
    suffix : str
        Of its file name: ``.png`` or ``.jpg``.
    data : bytes
        Empty if it is a source image.
    source : str
        Path of the source image; empty if there are bytes.
    """

    suffix: str
    data: bytes = b""
    source: str = ""

    def write(self, path: str) -> None:
        """Write it to a new file. A source image is linked or, where that fails, copied."""
        if self.source:
            with suppress(OSError):  # another filesystem, or one without links
                os.link(os.path.realpath(self.source), path)
                return
        data = self.read()
        with open(path, "xb") as stream:
            stream.write(data)

    def read(self) -> bytes:
        """Return the bytes of the file."""
        if not self.source:
            return self.data
        with _open_source(self.source) as stream:
            return stream.read()


@dataclass(frozen=True)
class Row:
    """A row of the data set, ready to be written.

    Attributes
    ----------
    number : int
        Of the row in the whole data set.
    name : str
        The number with leading zeros: the name of its files.
    split : str
        ``train``, ``val`` or ``test``; empty if the rows are not divided.
    label : str or None
        The first of the labels that it has, if labels were asked for.
    size : (int, int)
        Width and height of the picture, in whose pixels the annotations are.
    picture : Picture or None
        None if the format has no pictures.
    annotations : tuple of Annotation
    dropped : int
        How many objects were too small, or too close to an edge.
    problems : tuple of str
        Why other annotations were left out.
    path : str or None
        Of the sample's metadata file; None if it is not known.
    campaign : str or None
        As in `Dataset.table`.
    provenance : dict of str to str
        What the metadata say about license, copyright and origin.
    """

    number: int
    name: str
    split: str
    label: str | None
    size: Size
    picture: Picture | None
    annotations: tuple[Annotation, ...]
    dropped: int
    problems: tuple[str, ...]
    path: str | None
    campaign: str | None
    provenance: dict[str, str]

    @property
    def file_name(self) -> str:
        """Name of the file of the picture."""
        return self.name + (self.picture.suffix if self.picture else "")

    @property
    def objects(self) -> Iterator[tuple[str, XYWH, Annotation]]:
        """The annotations that have a label and a box, after these two."""
        for found in self.annotations:
            if found.label is not None and found.box is not None:
                yield found.label, found.box, found

    @property
    def tags(self) -> list[str]:
        """The labels of the annotations that concern the whole picture."""
        labels = (found.label for found in self.annotations if found.box is None)
        return [label for label in dict.fromkeys(labels) if label is not None]


@dataclass(frozen=True)
class RowReader:
    """Reads rows of a data set. Each worker has its own.

    Attributes
    ----------
    dataset : Dataset
    numbers : ndarray of int, shape (rows,)
        The rows to read.
    splits : ndarray of str, shape (rows,)
        The split of each of them.
    labels : ndarray of object, shape (rows,)
        The label of each of them, or None.
    classes : mapping of str to str, optional
        The label of each category that belongs to one.
    from_source : bool
        Whether the pictures are the source images, not the rows.
    with_pictures, with_annotations : bool
        What to read.
    min_box, edge_margin : float
        Of objects: how many pixels a box covers at least, and how far from all edges its center is.
    """

    dataset: Dataset
    numbers: Ints
    splits: NDArray[np.str_]
    labels: NDArray[np.object_]
    classes: Mapping[str, str] | None
    from_source: bool
    with_pictures: bool
    with_annotations: bool
    min_box: float = 0
    edge_margin: float = 0

    def read(self, index: int) -> Row:
        """Read one of the rows.

        Raises
        ------
        InputError
            If it cannot be read, or its metadata do not say boxes and contours as Limbo does.
        """
        number = int(self.numbers[index])
        metadata = self._metadata(number)
        path = self._path(number)
        size, picture = self._picture(number, metadata, path)
        found: list[Annotation] = []
        problems: set[str] = set()
        try:
            if self.with_annotations:
                found = find_annotations(metadata, size, self.classes, problems.add)
        except ValueError as error:
            raise InputError(f"row {number}: {error}", path or "") from error
        kept = [a for a in found if is_kept(a.box, size, self.min_box, self.edge_margin)]
        digits = max(_MIN_DIGITS, len(str(len(self.dataset))))
        return Row(
            number=number,
            name=f"{number:0{digits}d}",
            split=str(self.splits[index]),
            label=self.labels[index],
            size=size,
            picture=picture,
            annotations=tuple(kept),
            dropped=len(found) - len(kept),
            problems=tuple(sorted(problems)),
            path=path and printable(path),
            campaign=path and self.dataset.campaigns[number],
            provenance=_provenance(metadata),
        )

    def _metadata(self, number: int) -> dict[str, Any]:
        """Return a row's metadata; empty if there are none, or they are not needed."""
        is_needed = self.with_annotations or self.from_source
        has_metadata = self.dataset.metadata is not None
        return self.dataset.compact[number] if has_metadata and is_needed else {}

    def _path(self, number: int) -> str | None:
        """Return the path of a row's metadata file; None if it is not known, nor needed."""
        try:
            return self.dataset.paths[number]
        except InputError:
            if self.from_source:
                raise
            return None

    def _picture(
        self, number: int, metadata: dict[str, Any], path: str | None
    ) -> tuple[Size, Picture | None]:
        """Return the size of a row's picture and, if the format has any, the picture."""
        if self.from_source:
            source = _source(path or "", metadata)
            size, suffix = _look_at(source)
            return size, Picture(suffix, source=source) if self.with_pictures else None
        if not self.with_pictures:
            return _row_size(self.dataset), None
        row = self.dataset.rows(filenames.IMAGES)[number]
        picture = Picture(".png", _png(row))
        release(row)
        return (row.shape[1], row.shape[0]), picture


@dataclass(frozen=True)
class _Shard:
    """A range of the rows of a reader."""

    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def divide(self) -> list[_Shard]:
        return [_Shard(index, index + 1) for index in range(self.start, self.stop)]

    def give_up(self, ending: Ending) -> tuple[int, list[Row]]:
        raise MachineError(f"row {self.start} of those to be exported: a worker {ending.text}")


def read_rows(
    reader: RowReader, workers: int, progress: Progress | None
) -> Generator[Row, None, None]:
    """Read the rows in worker processes, and yield them in their order.

    Closing the generator ends all workers.

    Raises
    ------
    LimboError
        If a row cannot be read.
    """
    rows = len(reader.numbers)
    tasks = [_Shard(shard.start, shard.stop) for shard in split([range(rows)], workers)]
    waiting: list[tuple[int, list[Row]]] = []
    done = 0
    engine = ProcessEngine[_Shard, tuple[int, list[Row]]](partial(_read_shard, reader), workers)
    with engine, closing(Executor(engine).run(tasks)) as shards:
        for shard in shards:
            heapq.heappush(waiting, shard)
            while waiting and waiting[0][0] == done:
                _, found = heapq.heappop(waiting)
                yield from found
                done += len(found)
                if progress is not None:
                    progress(done, rows)


@machine_errors()
def _read_shard(reader: RowReader, shard: _Shard) -> tuple[int, list[Row]]:
    with no_garbage_collection():
        return shard.start, [reader.read(index) for index in range(shard.start, shard.stop)]


def _png(row: NDArray[Any]) -> bytes:
    # OpenCV takes blue first. Its defaults take half of Pillow's time, for as many bytes.
    _, encoded = cv2.imencode(".png", cv2.cvtColor(srgb8(row), cv2.COLOR_RGB2BGR))
    return encoded.tobytes()


def _row_size(dataset: Dataset) -> Size:
    """Return the width and height of all rows."""
    try:
        return dataset.row_size
    except InputError as error:
        error.add_hint("take the size of the source images: `source`")
        raise


def _source(path: str, metadata: dict[str, Any]) -> str:
    """Return the path of a sample's image."""
    try:
        return own_file(path, metadata.get("image"), "image")
    except SampleError as error:
        raise InputError(error.problem, error.path) from error


def _look_at(source: str) -> tuple[Size, str]:
    """Return the size of a source image, and the suffix for its kind, by its header."""
    with _open_source(source) as stream, warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            with Image.open(stream, formats=("PNG", "JPEG")) as image:
                most = limits.image_bytes(image.width * image.height)
                if os.fstat(stream.fileno()).st_size > most:
                    problem = f"the source image has more bytes than its pixels need, {most:,}"
                    raise InputError(problem, source)
                return image.size, _SUFFIXES[image.format or ""]
        except (OSError, ValueError, SyntaxError, KeyError, Image.DecompressionBombError) as error:
            raise InputError(
                "the source image is no PNG or JPEG that can be read", source
            ) from error


def _open_source(source: str) -> BinaryIO:
    try:
        if not os.path.isfile(source) and os.path.exists(source):
            raise InputError("the source image is not a regular file", source)
        return open(source, "rb")
    except OSError as error:
        hint = "export on the machine that has the sources, or the rows instead of them"
        problem = f"cannot read the source image: {error.strerror}"
        raise InputError(problem, source, hint) from error


def _provenance(metadata: dict[str, Any]) -> dict[str, str]:
    found = metadata.get("provenance")
    items = found.items() if isinstance(found, dict) else ()
    return {
        printable(key): printable(value)
        for key, value in items
        if isinstance(key, str) and isinstance(value, str)
    }
