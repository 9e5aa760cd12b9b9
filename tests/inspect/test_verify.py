"""Rows against their sources: the same, changed, exchanged, gone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from limbo_compress import InputError, VerifyReport, choose_rows, compress, load, verify
from tests.jobs import MASKS, REAL_SAMPLES, Command, job


def verified(folder: Path, count: int | None = None, **chosen: Any) -> VerifyReport:
    return verify(choose_rows(load(folder / "out"), **chosen), count)


def problems(report: VerifyReport) -> dict[int, str]:
    return {finding.row: finding.problem for finding in report.findings if finding.row is not None}


@pytest.mark.parametrize("change", [{}, {"strip_regions": True}, {"images": False}])
def test_all_is_well(data: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    compress(job(data, tmp_path, masks=MASKS, **change))
    report = verified(tmp_path)
    assert (report.rows, report.findings) == (12, ())
    images = () if change.get("images") is False else ("images",)
    assert report.compared == ("metadata", *images, "masks-all", "masks-big")
    assert verified(tmp_path, 5).rows == 5


@pytest.mark.uniform
def test_every_kind_of_change_is_found(data: Path, tmp_path: Path) -> None:
    compress(job(data, tmp_path, masks=MASKS))
    folder = data / "0000"

    metadata = json.loads((folder / "image_0000001.json").read_text())
    metadata["image"]["extra"] = 1
    (folder / "image_0000001.json").write_text(json.dumps(metadata))
    (folder / "image_0000002.json").unlink()
    (folder / "image_0000004.png").unlink()
    shutil.copy(folder / "image_0000006.png", folder / "image_0000005.png")
    (folder / "image_0000006.json").write_text("{")
    (folder / "image_0000008.png").write_bytes(b"no image")
    for name in ("masks-all", "masks-big"):
        mask = np.load(tmp_path / f"out-{name}.npy", mmap_mode="r+")
        mask[9] = mask[9, ::-1]

    report = verified(tmp_path)
    found = problems(report)
    assert list(found) == [1, 2, 4, 5, 6, 8, 9]
    assert found[1] == "its image_0000001.json has changed since it was compressed"
    assert found[2] == "its metadata file is gone"
    assert found[4] == "image_0000004.png: cannot read it: No such file or directory"
    assert found[5] == "its image_0000005.png has changed since it was compressed"
    assert found[6] == "its image_0000006.json has changed since it was compressed"
    assert found[8] == "its image_0000008.png has changed since it was compressed"
    assert found[9].startswith("its masks-big differ by up to ")
    assert [finding.row for finding in report.findings if finding.is_gone] == [2, 4]
    assert [finding.row for finding in report.findings if finding.has_changed] == [1, 5, 6, 8]
    assert report.describe().endswith("5 are the same, 1 differ, 4 have changed since, 2 are gone")


def test_exchanged_rows_are_found(data: Path, tmp_path: Path) -> None:
    compress(job(data, tmp_path))
    images = np.load(tmp_path / "out-images.npy", mmap_mode="r+")
    images[[2, 10]] = images[[10, 2]]
    images.flush()
    assert list(problems(verified(tmp_path))) == [2, 10]
    assert list(problems(verified(tmp_path, rows="5:"))) == [10]


def test_a_campaign_that_is_gone(data: Path, tmp_path: Path, inspect: Command) -> None:
    compress(job(data, tmp_path))
    shutil.rmtree(data)
    done = inspect("out", "--verify", "3")
    assert (done.returncode, done.stderr) == (1, "")
    *rows, last = done.stdout.splitlines()
    assert [line.split(":")[0] for line in rows] == ["row 0", "row 6", "row 11"]
    assert last.endswith("0 are the same, 0 differ, 3 are gone")


@pytest.mark.uniform
def test_a_damaged_row_is_a_finding(data: Path, tmp_path: Path) -> None:
    compress(job(data, tmp_path))
    path = tmp_path / "out-metadata.pickle"
    content = bytearray(path.read_bytes())
    content[content.index(b"image_0000007") + 8] ^= 1
    path.write_bytes(content)
    assert "it is damaged" in problems(verified(tmp_path))[7]


def test_without_paths_nothing_can_be_compared(data: Path, tmp_path: Path) -> None:
    compress(job(data, tmp_path, metadata=False))
    with pytest.raises(InputError, match=r"out-metadata.pickle: there is no such output"):
        verified(tmp_path)


@pytest.mark.skipif(not REAL_SAMPLES.exists(), reason="the real samples are not here")
def test_the_real_samples(tmp_path: Path) -> None:
    compress(job(REAL_SAMPLES, tmp_path, masks=(("all", "."), ("none", "^48"))))
    assert verified(tmp_path).findings == ()


def test_the_command(data: Path, tmp_path: Path, inspect: Command) -> None:
    compress(job(data, tmp_path))
    done = inspect("out", "--verify", "all")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "compared 12 rows with their sources (metadata, images):"
        " 12 are the same, 0 differ, 0 are gone\n"
    )
    found = json.loads(inspect("out", "--verify", "--json").stdout)
    assert found == {"verify": {"rows": 12, "compared": ["metadata", "images"], "findings": []}}
