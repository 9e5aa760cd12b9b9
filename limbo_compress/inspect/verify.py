"""Whether rows are what their sources say: the same code as the compressor's reads these again."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import dependencies, filenames, limits
from ..dataset.dataset import Dataset
from ..errors import InputError, SampleError, missing_extra, shown
from ..formats.index import Source as SourceFile
from ..formats.pickling import fragment
from ..imaging.file_size import check_file_size
from ..imaging.image import convert
from ..options import Options
from ..oserrors import machine_errors
from ..run.executor import Progress
from ..samples.reader import SampleFiles, SampleReader, read_file
from ..samples.schema import strip_regions
from .stretches import in_stretches

__all__ = ["Finding", "VerifyReport", "verify"]

# The reference rounds in other places, by at most one step of a float16.
_TOLERANCE = 0.001
_STRETCH = 8


@dataclass(frozen=True)
class Finding:
    """What is not as it should be about a row.

    Attributes
    ----------
    row : int or None
        Among all rows of the prefixes; None if a whole file is concerned.
    path : str
        The file concerned: the metadata file of a sample, or an output.
    problem : str
    is_gone : bool
        Whether a source is not there any more, so that nothing can be compared.
    has_changed : bool
        Whether a source is not what it was when it was compressed, so that nothing is compared.
    """

    row: int | None
    path: str
    problem: str
    is_gone: bool = False
    has_changed: bool = False

    def __str__(self) -> str:
        where = "" if self.row is None else f"row {self.row}: "
        return f"{where}{self.problem}: {shown(self.path)}"


@dataclass(frozen=True)
class VerifyReport:
    """What was found when rows were compared with their sources.

    Attributes
    ----------
    rows : int
        How many were compared.
    compared : tuple of str
        What of each row: ``images``, ``metadata``, ``masks-NAME``.
    findings : tuple of Finding
        In the order of the rows; none for a row that is right.
    """

    rows: int
    compared: tuple[str, ...]
    findings: tuple[Finding, ...]

    def describe(self) -> str:
        """Say it in one line."""
        gone = {found.row for found in self.findings if found.is_gone}
        changed = {found.row for found in self.findings if found.has_changed} - gone
        differ = {found.row for found in self.findings} - changed - gone
        same = self.rows - len(differ) - len(changed) - len(gone)
        what = ", ".join(self.compared)
        since = f" {len(changed):,} have changed since," if changed else ""
        return (
            f"compared {self.rows:,} rows with their sources ({what}):"
            f" {same:,} are the same, {len(differ):,} differ,{since} {len(gone):,} are gone"
        )

    def as_json(self) -> dict[str, Any]:
        """Return it as values that JSON has."""
        return asdict(self)


@machine_errors()
def verify(
    dataset: Dataset,
    rows: int | None = None,
    progress: Progress | None = None,
    *,
    workers: int | None = None,
) -> VerifyReport:
    """Read the sources of rows again, and compare them.

    Images and masks may differ by 0.001, and metadata may lack what ``--strip-regions`` leaves out.
    A mask is right if it is the sum of the mattes of some of the sample's labels. Where the index
    has the CRC-32 of a source that has changed since, that is said, and nothing is compared.

    Parameters
    ----------
    dataset : Dataset
    rows : int, optional
        How many rows to compare, spread evenly; by default, or if there are fewer, all.
    progress : callable, optional
        Called as ``progress(done, rows)``.
    workers : int, optional
        Number of processes; by default, one for each CPU that this process may use.

    Returns
    -------
    VerifyReport

    Raises
    ------
    InputError
        If the outputs do not say where their sources are, or cannot be read.
    MachineError
        If the machine keeps the sources from being read.
    """
    dataset.paths[:1]  # raises if there are none
    if dataset.masks:
        _import_mask_libraries()
    count = len(dataset) if rows is None else min(rows, len(dataset))
    places = np.unique(np.linspace(0, len(dataset) - 1, count).round().astype(np.intp))
    compared = dataset.select(places)
    found = dict(in_stretches(_compare_rows, compared, _STRETCH, progress, workers))
    return VerifyReport(
        len(places),
        ("metadata", *dataset.array_names),
        tuple(finding for place in sorted(found) for finding in found[place]),
    )


def _import_mask_libraries() -> None:
    try:
        dependencies.load("OpenEXR")
        dependencies.load("mmh3")
    except ModuleNotFoundError as error:
        raise missing_extra(f"comparing masks needs {error.name}", "masks") from error


def _compare_rows(dataset: Dataset, _: int) -> list[Finding]:
    return [
        finding
        for place, row in enumerate(dataset.row_numbers.tolist())
        for finding in _findings(dataset, place, row)
    ]


def _findings(dataset: Dataset, place: int, row: int) -> Iterator[Finding]:
    path = dataset.paths[place]
    if not os.path.exists(path):
        yield Finding(row, path, "its metadata file is gone", is_gone=True)
        return
    try:
        with machine_errors(path):
            changed = list(_changed_files(path, dataset.source_files[place]))
            for name in changed:
                problem = f"its {shown(name)} has changed since it was compressed"
                yield Finding(row, path, problem, has_changed=True)
            for problem in () if changed else _differences(dataset, place, path):
                yield Finding(row, path, problem)
    except SampleError as error:
        where = "" if error.path in ("", path) else f"{os.path.basename(error.path)}: "
        is_gone = bool(where) and not os.path.exists(error.path)
        yield Finding(row, path, f"{shown(where)}{error.problem}", is_gone)


def _changed_files(path: str, files: Iterable[SourceFile]) -> Iterator[str]:
    """Yield the name of each file of a sample that is not what was read of it."""
    for file in files:
        source = os.path.join(os.path.dirname(path), file.name)
        if os.path.exists(source):
            found = read_file(source, limits.IMAGE_BYTES).state
            if (found.size, found.checksum) != (file.size, file.checksum):
                yield file.name


def _differences(dataset: Dataset, place: int, path: str) -> Iterator[str]:
    arrays = {name: dataset.rows(name)[place] for name in dataset.array_names}
    masks = {name: row for name, row in arrays.items() if name != filenames.IMAGES}
    has_images = filenames.IMAGES in arrays
    options = Options(
        (os.path.dirname(path),),
        images=has_images,
        metadata=True,
        masks={"mask": "."} if masks else {},
    )
    with SampleReader(options, [path], check_file_size) as reader:
        files = reader.next()
    try:
        if not _is_metadata_of(dataset, place, files):
            yield "its metadata differ"
    except InputError as error:
        yield error.problem
    if files.image is not None:
        image = np.empty_like(arrays[filenames.IMAGES])
        convert(files.image.data, files.image.path, options, image)
        yield from _difference(filenames.IMAGES, arrays[filenames.IMAGES], image)
    for name, row in masks.items():
        yield from _difference(name, row, _expected_mask(row, files, options))


def _is_metadata_of(dataset: Dataset, place: int, files: SampleFiles) -> bool:
    """Whether a row has the metadata of a sample, in full or without regions."""
    assert dataset.metadata is not None
    # Pickled, NaN is equal to itself, and 1 is not equal to 1.0 or True.
    stored = fragment(dataset.metadata[place], files.path)
    if stored == fragment(files.metadata, files.path):
        return True
    return stored == fragment(strip_regions(files.metadata, files.path), files.path)


def _difference(name: str, row: NDArray[Any], expected: NDArray[Any]) -> Iterator[str]:
    difference = np.nan_to_num(np.abs(row.astype(np.float64) - expected), nan=np.inf)
    if difference.max(initial=0) > _TOLERANCE:
        yield f"its {name} differ by up to {difference.max():.3g}"


def _expected_mask(
    row: NDArray[np.float32], files: SampleFiles, options: Options
) -> NDArray[np.float32]:
    """Return what a mask should be if it shows those labels of the sample that it seems to show."""
    from .mask_labels import nearest_mask

    file = files.cryptomatte
    if file is None or not files.labels:
        return np.zeros_like(row)
    return nearest_mask(row, file.data, file.path, files.labels, options.max_pixels, _TOLERANCE)
