"""What the commands print, and what cannot be: streams that are full, closed or not read."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from PIL import Image

from limbo_compress import __version__
from tests.jobs import Command, files, run, run_on_terminal, script
from tests.jpegs import noisy
from tests.pictures import encoded

STREAMS = {
    "stderr full": "2>/dev/full",
    "stdout full": ">/dev/full",
    "stderr closed": "2>&-",
    "stdout closed": ">&-",
    "both full": ">/dev/full 2>&1",
    "all closed": "<&- >&- 2>&-",
    "no reader": "2>&1 | head -c 0",
}


def run_shell(folder: Path, command: str, streams: str) -> int:
    """Run a command in a shell that redirects its streams, and return its own exit code."""
    line = f"{script(command.split()[0])} {command.partition(' ')[2]}"
    redirected = f"({line}; echo $? >code) {streams}"
    if "|" not in streams:
        redirected = f"{line} {streams}; echo $? >code"
    done = run("sh", "-c", redirected, cwd=folder, check=True)
    assert "Traceback" not in done.stderr
    code = int((folder / "code").read_text())
    (folder / "code").unlink()
    return code


@pytest.fixture(scope="module")
def whole(campaign: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("whole")
    job = f"limbo-compress --images --metadata --image-size 8 8 {campaign}"
    assert run_shell(folder, job, "") == 0
    return files(folder)


def write(folder: Path, content: dict[str, bytes]) -> None:
    for name, data in content.items():
        (folder / name).write_bytes(data)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("streams", STREAMS)
def test_the_job_is_published_whatever_the_streams_are(
    tmp_path: Path, campaign: Path, whole: dict[str, bytes], streams: str, workers: int
) -> None:
    flags = f"--images --metadata --image-size 8 8 --workers {workers}"
    assert run_shell(tmp_path, f"limbo-compress {flags} {campaign}", STREAMS[streams]) == 0
    assert files(tmp_path) == whole


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
@pytest.mark.parametrize("streams", STREAMS)
def test_streams_change_no_exit_code(tmp_path: Path, whole: dict[str, bytes], streams: str) -> None:
    write(tmp_path, whole)
    for command, code in (
        ("limbo-compress --images no-such-folder", 2),
        ("limbo-compress --help", 0),
        ("limbo-inspect compressed", 0),
        ("limbo-export compressed --to yolo -o out", 0),
    ):
        assert run_shell(tmp_path, command, STREAMS[streams]) == code
    assert (tmp_path / "out" / "data.yaml").exists()


@pytest.mark.parametrize(
    "command",
    [
        ("limbo-compress", "--metadata", "CAMPAIGN"),
        ("limbo-inspect", "compressed"),
        ("limbo-export", "compressed", "--to", "yolo", "-o", "out"),
    ],
    ids=lambda command: command[0],
)
def test_a_terminal_shows_a_bar(
    tmp_path: Path,
    campaign: Path,
    whole: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    command: tuple[str, ...],
) -> None:
    """Even with nonsense for it in the environment."""
    for name in ("TQDM_MININTERVAL", "TQDM_NO_SUCH_ARGUMENT", "TQDM_TOTAL"):
        monkeypatch.setenv(name, "nonsense")
    write(tmp_path, whole)
    program, *words = (str(campaign) if word == "CAMPAIGN" else word for word in command)
    bar = run_on_terminal(tmp_path, script(program), *words)
    assert "100%" in bar
    assert "12/12" in bar


@pytest.mark.parametrize("command", ["limbo-compress", "limbo-inspect", "limbo-export"])
def test_each_command_says_its_version(command: str) -> None:
    first = run(script(command), "--version").stdout.splitlines()[0]
    assert first == f"{command} {__version__}"


def write_noisy_jpegs(folder: Path, count: int, stem: str = "") -> None:
    """Samples whose images decode, but with a warning."""
    data = noisy(encoded(Image.new("RGB", (40, 30), (200, 10, 10)), "JPEG"))
    for number in range(count):
        (folder / f"{stem}{number:02}.jpg").write_bytes(data)
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
    bad = f"1 bad sample was left out; {tmp_path}/compressed-failures.jsonl lists it"
    odd = f"1 warning about a sample; {tmp_path}/compressed-warnings.jsonl lists it"
    assert {f"limbo-compress: {line}" for line in (bad, odd)} < set(done.stderr.splitlines())
    record = json.loads((tmp_path / "compressed-failures.jsonl").read_text())
    assert record["path"] == str(folder / "bad.json")
