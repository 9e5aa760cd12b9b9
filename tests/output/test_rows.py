from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from limbo_compress import Options, OutputError, compress
from limbo_compress.output.create import create_files
from limbo_compress.output.rows import RowWriter
from limbo_compress.plan import plan


@pytest.mark.parametrize("how", ["mmap", "pwrite"])
def test_each_row_is_written_in_its_place(tmp_path: Path, how: str) -> None:
    options = Options(
        (str(tmp_path),), str(tmp_path / "x"), images=True, image_size=(5, 4), write_rows=how
    )
    job = plan(options, 6)
    Path(job.folder).mkdir()
    job = create_files(job)
    (array,) = job.arrays
    path = Path(job.work_path(array.file_name))
    values = np.arange(2 * 60, dtype=np.float16).reshape(2, 4, 5, 3)
    with RowWriter(job, array, range(2, 5)) as rows:
        for row in (0, 1):
            with rows.row(2 + row) as out:
                out[...] = values[row]
        with pytest.raises(ZeroDivisionError), rows.row(4) as out:
            raise ZeroDivisionError
    written = np.load(path)
    np.testing.assert_array_equal(written[2:4], values)
    assert not written[[0, 1, 5]].any()


def test_mmap_and_pwrite_write_the_same_bytes(campaign: Path, tmp_path: Path) -> None:
    outputs = []
    for how in ("mmap", "pwrite"):
        prefix = str(tmp_path / how)
        masks = (("m", "."),)
        options = Options(
            (str(campaign),), prefix, images=True, masks=masks, write_rows=how, workers=2
        )
        compress(options)
        outputs.append([Path(f"{prefix}-{n}.npy").read_bytes() for n in ("images", "masks-m")])
    assert outputs[0] == outputs[1]


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    job = plan(Options((str(tmp_path),), str(tmp_path / "x"), images=True), 1)
    with pytest.raises(OutputError, match="cannot write it: No such file"):
        RowWriter(job, job.arrays[0], range(1)).__enter__()
