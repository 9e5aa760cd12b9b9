from __future__ import annotations

from pathlib import Path

from limbo_compress import Options
from limbo_compress.plan import plan


def test_the_work_folder_is_beside_the_outputs(tmp_path: Path) -> None:
    options = Options((str(tmp_path),), str(tmp_path / "out"), images=True, image_size=(3, 2))
    job = plan(options, rows=5)
    assert job.final_path("images.npy") == str(tmp_path / "out-images.npy")
    assert job.work_path("images.npy") == str(
        tmp_path / ".out.partial" / f"work-{job.run}" / "images.npy"
    )
    assert [array.shape[1:] for array in job.arrays] == [(2, 3, 3)]
