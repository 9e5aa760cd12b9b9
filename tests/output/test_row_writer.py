from __future__ import annotations

import io
import os
import zlib
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from limbo_compress import Options, OutputError, compress
from limbo_compress.options import WriteRows
from limbo_compress.output.allocate import create_files, open_files
from limbo_compress.output.row_writer import RowWriter
from limbo_compress.plan import Job, plan
from tests.jobs import job, outputs

PAGE = 1 << 16


@pytest.mark.parametrize("how", ["mmap", "pwrite"])
@pytest.mark.parametrize(
    ("size", "cuts"),
    [
        ((5, 4), [0, 3, 4, 9]),  # no whole page
        ((150, 120), [0, 1, 2, 7, 9]),  # 108 000 bytes a row
        ((256, 256), [0, 4, 5, 9]),  # 6 pages a row, and the header before them
    ],
)
def test_shards_write_whole_pages_and_keep_their_edges(
    tmp_path: Path, how: WriteRows, size: tuple[int, int], cuts: list[int]
) -> None:
    options = Options(
        (str(tmp_path),), str(tmp_path / "x"), images=True, image_size=size, write_rows=how
    )
    job = plan(options, cuts[-1])
    job = created(job)
    (array,) = job.arrays
    path = Path(job.work_path(array.file_name))
    values = np.random.default_rng(0).random(array.shape).astype(np.float16)
    for start, stop in pairwise(cuts):
        before = path.read_bytes()
        with RowWriter(job, array, range(start, stop)) as writer:
            for row in range(start, stop):
                with writer.row(row) as out:
                    out[...] = values[row]
        after = path.read_bytes()
        changed = {n for n in range(0, len(after), PAGE) if is_changed(before, after, n)}
        shard = range(array.offset(start), array.offset(stop))
        assert changed == {n for n in range(0, len(after), PAGE) if is_within(n, shard)}
        with open(path, "r+b") as stream:
            edges = io.BytesIO(writer.edges)
            for edge in array.edges(range(start, stop)):
                stream.seek(edge.start)
                stream.write(edges.read(len(edge)))
        assert writer.checksums == [zlib.crc32(row.tobytes()) for row in values[start:stop]]
    np.testing.assert_array_equal(np.load(path), values)


def created(job: Job) -> Job:
    """Create the files of a job, and leave them to others."""
    Path(job.folder).mkdir(parents=True)
    create_files(job)
    files: dict[str, int] = {}
    job = open_files(job, files)
    for file in files.values():
        os.close(file)
    return job


def is_changed(before: bytes, after: bytes, page: int) -> bool:
    return before[page : page + PAGE] != after[page : page + PAGE]


def is_within(page: int, shard: range) -> bool:
    return shard.start <= page and page + PAGE <= shard.stop


def test_a_row_that_is_left_by_an_exception_is_not_written(tmp_path: Path) -> None:
    options = Options((str(tmp_path),), str(tmp_path / "x"), images=True, write_rows="pwrite")
    job = plan(options, 2)
    job = created(job)
    (array,) = job.arrays
    with RowWriter(job, array, range(2)) as writer:
        with pytest.raises(ZeroDivisionError), writer.row(0) as out:
            out[...] = 1 // 0
        with writer.row(1) as out:
            out[...] = 2
    written = np.load(job.work_path(array.file_name))
    assert not written[0].any()
    assert written[1].any()


def test_mmap_and_pwrite_write_the_same_bytes(campaign: Path, tmp_path: Path) -> None:
    for how in ("mmap", "pwrite"):
        change = {"prefix": str(tmp_path / how), "write_rows": how, "workers": 2}
        compress(job(campaign, tmp_path, masks=(("m", "."),), **change))
    assert outputs(tmp_path, "mmap") == outputs(tmp_path, "pwrite")


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    job = plan(Options((str(tmp_path),), str(tmp_path / "x"), images=True), 1)
    with pytest.raises(OutputError, match="cannot write it: No such file"):
        RowWriter(job, job.arrays[0], range(1)).__enter__()
