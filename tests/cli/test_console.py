"""What cannot be printed decides nothing: streams that are full, closed, or without a reader."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.jobs import Command, files

STREAMS = {
    "stderr full": "2>/dev/full",
    "stdout full": ">/dev/full",
    "stderr closed": "2>&-",
    "stdout closed": ">&-",
    "both full": ">/dev/full 2>&1",
    "all closed": "<&- >&- 2>&-",
    "no reader": "2>&1 | head -c 0",
}


def run_shell(folder: Path, arguments: str, streams: str) -> int:
    """Run the command in a shell that redirects its streams, and return its own exit code."""
    command = f"{sys.executable} -m limbo_compress {arguments}"
    script = f"({command}; echo $? >code) {streams}"
    if "|" not in streams:
        script = f"{command} {streams}; echo $? >code"
    subprocess.run(["sh", "-c", script], cwd=folder, timeout=120, check=True, capture_output=True)
    return int((folder / "code").read_text())


@pytest.fixture(scope="module")
def whole(campaign: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("whole")
    assert run_shell(folder, f"--images --metadata --image-size 8 8 {campaign}", "") == 0
    (folder / "code").unlink()
    return files(folder)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("streams", STREAMS)
def test_the_job_is_published_whatever_the_streams_are(
    tmp_path: Path, campaign: Path, whole: dict[str, bytes], streams: str, workers: int
) -> None:
    arguments = f"--images --metadata --image-size 8 8 --workers {workers} {campaign}"
    assert run_shell(tmp_path, arguments, STREAMS[streams]) == 0
    (tmp_path / "code").unlink()
    assert files(tmp_path) == whole


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
@pytest.mark.parametrize("streams", STREAMS)
def test_the_exit_code_of_an_error_is_its_own(tmp_path: Path, streams: str) -> None:
    assert run_shell(tmp_path, "--images no-such-folder", STREAMS[streams]) == 2
    assert run_shell(tmp_path, "--help", STREAMS[streams]) == 0


def write_noisy_jpegs(folder: Path, count: int, stem: str = "") -> None:
    """Samples whose images decode, but with a warning."""
    stream = io.BytesIO()
    Image.new("RGB", (40, 30), (200, 10, 10)).save(stream, "JPEG")
    data = stream.getvalue()
    table = data.index(b"\xff\xdb")
    noisy = data[:table] + b"noise" + data[table:]
    for number in range(count):
        (folder / f"{stem}{number:02}.jpg").write_bytes(noisy)
        sample = {"image": {"filename": f"{stem}{number:02}.jpg"}}
        (folder / f"{stem}{number:02}.json").write_text(json.dumps(sample))


@pytest.mark.parametrize("workers", [1, 2])
def test_all_warnings_are_listed_in_a_file(command: Command, tmp_path: Path, workers: int) -> None:
    (tmp_path / "data").mkdir()
    write_noisy_jpegs(tmp_path / "data", 12)
    done = command("--images", "--image-size", 8, 8, "--workers", workers, "data")
    assert done.returncode == 0, done.stderr
    path = tmp_path / "compressed-warnings.jsonl"
    warnings = [json.loads(line) for line in path.read_text().splitlines()]
    assert [warning["row"] for warning in warnings] == list(range(12))
    assert {warning["reason"] for warning in warnings} == {
        "Corrupt JPEG data: 5 extraneous bytes before marker 0xdb"
    }
    assert done.stderr.count("Corrupt JPEG data") == 10
    assert f"12 warnings about samples; {path} lists them" in done.stderr
    (tmp_path / "data" / "00.json").rename(tmp_path / "data" / "kept")
    for path_of_sample in (tmp_path / "data").glob("*.json"):
        path_of_sample.write_text("{}")
    assert command("--metadata", "--prefix", "other", "data").returncode == 0
    assert not (tmp_path / "other-warnings.jsonl").exists()


def test_a_path_stays_one_readable_line(command: Command, tmp_path: Path) -> None:
    folder = tmp_path / "a\nb\x1b[31m"
    folder.mkdir()
    for _ in range(15):
        folder /= 200 * "d"
    folder.mkdir(parents=True)
    write_noisy_jpegs(folder, 1, "new\nline")
    (folder / "bad.json").write_text("[]")
    done = command("--images", "--on-error", "skip", tmp_path)
    assert done.returncode == 0, done.stderr
    for line in done.stderr.splitlines():
        assert line.startswith("limbo-compress: ")
        assert line.isprintable()
        assert len(line) < 600
    record = json.loads((tmp_path / "compressed-failures.jsonl").read_text())
    assert record["path"] == str(folder / "bad.json")
