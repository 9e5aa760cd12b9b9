"""Outputs of earlier jobs under the same prefix that a job does not replace.

A job that writes only the metadata, for example, leaves older images where they are. Then row i of
both must belong to the same sample. The index of existing metadata names the sample of each row.
Other files do not, but they tell enough to notice when their samples are others: their number of
rows, and the list of samples that were left out.

Metadata that stay may have checksums of the rows of an array. Then the job may write only the same
rows: others would look as if they had rotted, and the metadata would say how other rows were made.
"""

from __future__ import annotations

import json
import os
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import BinaryIO

from .. import filenames
from ..array_kinds import KINDS, MASKS
from ..errors import OutputError, shown
from ..formats.filestate import open_regular
from ..formats.index import Index, read_index
from ..formats.npy import read_header
from ..formats.shard_record import SampleIssue, ShardRecord, read_issues
from ..oserrors import reading
from ..plan import Job
from .made import below_common_folder, how_made

__all__ = ["ExistingOutputs"]

_HINT = "write all outputs of a prefix in one command, or choose another `prefix`"
_METADATA_HINT = "add `metadata` and `fresh` to write them anew, or choose another `prefix`"
_IMAGES = filenames.array_file(filenames.IMAGES)


class ExistingOutputs:
    """The outputs under the prefix of a job that stay alongside those that it writes.

    Parameters
    ----------
    job : Job
    paths : sequence of str
        The metadata files, one per row.

    Attributes
    ----------
    warnings : tuple of SampleIssue
        The warnings about their samples.

    Raises
    ------
    OutputError
        If their rows are not those of the job, or they cannot be read.
    """

    def __init__(self, job: Job, paths: Sequence[str]) -> None:
        self._job = job
        self._paths = paths
        self._files = sorted(_remaining_files(job))
        self.warnings = self._read_issues(filenames.WARNINGS)
        self._left_out = {issue.row: issue.path for issue in self._read_issues(filenames.FAILURES)}
        if any(path not in paths[row : row + 1] for row, path in self._left_out.items()):
            raise self._other_failures("it lists samples that are not those of this job")
        # The rows of this job that the existing outputs have.
        self._rows = [row for row in range(len(paths)) if row not in self._left_out]
        self._checksums: dict[str, Sequence[int]] = {}
        for file_name in self._files:
            self._check_rows(file_name)
        if self._files and job.options.metadata:
            self._check_replaced_metadata()

    def check(self, record: ShardRecord) -> None:
        """Check that a shard leaves out the samples that the existing outputs lack, and no others.

        Raises
        ------
        OutputError
            If it does not.
        """
        if not self._files:
            return
        self._check_bad(record)
        first = bisect_left(self._rows, record.start)
        for name, expected in self._checksums.items():
            found = record.checksums.get(name, ())
            if tuple(expected[first : first + len(found)]) != found:
                rows = f"{record.start} to {record.stop - 1}"
                raise self._other_rows(f"rows {rows} of {name} are others now")

    def _check_bad(self, record: ShardRecord) -> None:
        bad = {issue.row for issue in record.failures}
        for row in record.rows:
            if (row in bad) != (row in self._left_out):
                state = "is bad now, but not in this list" if row in bad else "is no longer bad"
                raise self._other_failures(f"{shown(self._paths[row])} {state}")

    def _check_rows(self, file_name: str) -> None:
        path, index = self._job.final_path(file_name), None
        try:
            with reading(path), open_regular(path) as stream:
                if file_name == filenames.METADATA:
                    index = _read_index(stream)
                rows = _count_rows(stream) if index is None else len(index)
        except ValueError as error:
            raise OutputError(
                f"the existing output cannot be read: {error}", path, _HINT
            ) from error
        if rows != len(self._rows) or rows == 0:
            raise _mismatch(path, f"there are {rows}, and {len(self._rows)} in this job")
        if index is not None:
            self._check_paths(path, _paths(index))
            self._check_made(index)

    def _check_made(self, index: Index) -> None:
        """Check that the job makes arrays as metadata that stay say of them."""
        found, wanted = dict(index.made or {}), how_made(self._job.options, self._paths, False)
        for array in self._job.arrays:
            if (checksums := index.row_checksums(array.name)) is not None:
                self._checksums[array.name] = checksums
        if not self._checksums:
            return
        for made in (found, wanted):
            made["masks"] = {
                name: pattern
                for name, pattern in made.get("masks", ())
                if filenames.mask_array(name) in self._checksums
            }
        for name in ("pixels", "image_size", "masks"):
            if found.get(name) != wanted[name]:
                raise self._other_rows(f"`{name}` was {found.get(name)}")

    def _other_rows(self, problem: str) -> OutputError:
        path = self._job.final_path(filenames.METADATA)
        problem = f"the existing metadata belong to other arrays: {problem}"
        return OutputError(problem, path, _METADATA_HINT)

    def _check_replaced_metadata(self) -> None:
        """Check older metadata: they name the samples of the outputs that stay, if they can."""
        path = self._job.final_path(filenames.METADATA)
        try:
            with open_regular(path) as stream:
                paths = _paths(_read_index(stream))
        except (OSError, ValueError):
            return
        if len(paths) != len(self._rows):
            raise _mismatch(path, f"there are {len(paths)}, and {len(self._rows)} in this job")
        self._check_paths(path, paths)

    def _check_paths(self, path: str, found: list[str]) -> None:
        """Check the path of each row, as it is below the folder that all have in common.

        So a campaign may have been moved, or mounted elsewhere.
        """
        expected = [self._paths[row] for row in self._rows]
        pairs = zip(below_common_folder(found), below_common_folder(expected), strict=True)
        for row, (name, expected_name) in enumerate(pairs):
            if name != expected_name:
                raise _mismatch(path, f"row {row} is that of {shown(found[row])}")

    def _read_issues(self, file_name: str) -> tuple[SampleIssue, ...]:
        """Read a list about the existing outputs; empty if there are none."""
        path = self._job.final_path(file_name)
        if not self._files or not os.path.exists(path):
            return ()
        try:
            with reading(path), open_regular(path) as stream:
                records = [json.loads(line) for line in stream]
            return read_issues(records)
        except (ValueError, TypeError, LookupError, RecursionError) as error:
            raise OutputError("this list cannot be read", path, _HINT) from error

    def _other_failures(self, problem: str) -> OutputError:
        return _mismatch(self._job.final_path(filenames.FAILURES), problem)


def _remaining_files(job: Job) -> Iterator[str]:
    """Names, without the prefix, of the existing outputs that a job does not replace."""
    replaced = {array.file_name for array in job.arrays}
    if job.options.metadata:
        replaced.add(filenames.METADATA)
    folder, start = os.path.split(job.final_path(""))
    for name in os.listdir(folder):
        file_name = name.removeprefix(start)
        if not name.startswith(start) or file_name in replaced:
            continue
        if file_name in (_IMAGES, filenames.METADATA) or _is_mask(
            file_name, job.final_path(file_name)
        ):
            yield file_name


def _is_mask(file_name: str, path: str) -> bool:
    """Whether a file is a mask of the prefix, and not an output of a longer prefix."""
    mask = filenames.mask_of_array(filenames.array_of_file(file_name) or "")
    if mask is None or f"-{filenames.mask_array('')}" in mask:
        return False
    try:
        with open_regular(path) as stream:
            return read_header(stream).is_of(MASKS)
    except (OSError, ValueError):
        return False


def _read_index(stream: BinaryIO) -> Index:
    """Read the index of existing metadata."""
    index = read_index(stream.fileno())
    if index is None:
        raise ValueError("it has no index, so nothing says whose rows these are")
    return index


def _paths(index: Index) -> list[str]:
    return [index.path(row) for row in range(len(index))]


def _count_rows(stream: BinaryIO) -> int:
    """Count the rows of existing images or masks."""
    array = read_header(stream)
    if not any(map(array.is_of, KINDS)):
        raise ValueError("it is not an array of images or masks")
    array.check_size(stream)
    return array.shape[0]


def _mismatch(path: str, problem: str) -> OutputError:
    return OutputError(
        f"the rows of existing outputs are not those of this job: {problem}", path, _HINT
    )
