"""The real command in a subprocess."""

from __future__ import annotations

import os
import shutil
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import limbo_compress
from benchmarks.campaign import Campaign, write_campaign
from limbo_compress.dependencies import why_not_compiled
from tests.jobs import Command, error_line, outputs, run, script


def test_a_command_line_of_the_reference_works(
    command: Command, campaign: Path, tmp_path: Path
) -> None:
    done = command("--prefix", "test", "--images", "--metadata", "--", campaign)
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"{tmp_path}/test-images.npy  (12, 224, 224, 3)  float16  3,612,")
    assert lines[1].startswith(f"{tmp_path}/test-metadata.pickle  (12,)  list of dict  ")
    assert len(lines) == 2
    assert done.stderr.startswith("limbo-compress: 12 of 12 samples, ")
    assert done.stderr.count("\n") == 1
    assert "\r" not in done.stderr
    assert np.load(tmp_path / "test-images.npy").shape == (12, 224, 224, 3)


def test_the_console_script_is_the_same_program(command: Command) -> None:
    lines = run(script("limbo-compress"), "--version").stdout.splitlines()
    assert lines == command("--version").stdout.splitlines()
    assert f"other images: opencv-python-headless {version('opencv-python-headless')}" in lines


def wheel(number: str, flags: str) -> dict[str, str]:
    version = f"opencv_version = '{number}.84'\n{flags}"
    return {"__init__": f"from . import version\n__version__ = '{number}'", "version": version}


@pytest.mark.parametrize(
    ("module", "shown"),
    [
        (wheel("4.10.0", "contrib = headless = False"), "opencv-python 4.10.0.84"),
        (wheel("5.0.0", "contrib = headless = True"), "opencv-contrib-python-headless 5.0.0.84"),
        ({"__init__": "__version__ = '4.6.0'"}, "OpenCV 4.6.0, {file}"),
        ({"__init__": ""}, "OpenCV of unknown version, {file}"),
        (
            {"__init__": "raise ImportError('no libGL.so.1')"},
            "cv2 cannot be imported: no libGL.so.1",
        ),
    ],
    ids=["over ours", "over ours, contrib", "of no wheel", "empty", "damaged"],
)
def test_the_version_is_that_of_the_opencv_in_use(
    command: Command, tmp_path: Path, module: dict[str, str], shown: str
) -> None:
    """All packages of OpenCV install the module cv2, over each other's files."""
    package = tmp_path / "installed over" / "cv2"
    package.mkdir(parents=True)
    for name, text in module.items():
        (package / f"{name}.py").write_text(text)
    done = command("--version", env={"PYTHONPATH": str(package.parent)})
    assert (done.returncode, done.stderr) == (0, "")
    assert f"other images: {shown.format(file=package / '__init__.py')}" in done.stdout.splitlines()


def test_a_missing_library_is_named(command: Command) -> None:
    done = command("cv2", "main", "--version", module="tests.programs.without")
    assert (done.returncode, done.stderr) == (0, "")
    assert "other images: cv2 is missing" in done.stdout.splitlines()


def test_quiet_prints_nothing(command: Command, campaign: Path, tmp_path: Path) -> None:
    done = command("--quiet", "--metadata", campaign, campaign / "0000", "--workers", 2)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "compressed-metadata.pickle").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--images", "--strip-regions"), "--strip-regions has no effect without --metadata"),
        (
            ("--metadata", "--image-size", 10, 10),
            "--image-size has no effect without --images or --mask",
        ),
        (("--metadata", "--mask"), "--mask without NAME PATTERN has no effect"),
        (("--metadata", "--strip-regions"), None),
        (("--image-size", 10, 10, "--mask", "all", "."), None),
    ],
)
def test_an_option_without_effect_is_reported(
    command: Command, campaign: Path, flags: tuple[object, ...], message: str | None
) -> None:
    done = command(*flags, "--", campaign)
    assert done.returncode == 0, done.stderr
    first, *others = done.stderr.splitlines()
    if message is not None:
        assert first == f"limbo-compress: {message}"
        first, *others = others
    assert first.startswith("limbo-compress: 12 of 12 samples, ")
    assert others == []


def test_overlapping_directories_are_reported(command: Command, campaign: Path) -> None:
    done = command("--metadata", campaign, campaign / "0000")
    assert done.returncode == 0
    assert "12 metadata files were reached more than once" in done.stderr.splitlines()[0]
    assert "(12,)" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["DATA"],
        ["--images"],
        ["--images", "DATA", "--no-such-option"],
        ["--images", "no-such-folder"],
        ["--images", "--image-size", "0", "10", "DATA"],
        ["--images", "--image-size", "ten", "10", "DATA"],
        ["--images", "--start", "12", "DATA"],
        ["--images", "--start", "3", "--end", "3", "DATA"],
        ["--images", "--end", "-1", "DATA"],
        ["--images", "--workers", "0", "DATA"],
        ["--images", "--prefix", "no/such/folder", "DATA"],
    ],
)
def test_a_usage_error_is_one_line(
    command: Command, campaign: Path, tmp_path: Path, arguments: list[str]
) -> None:
    error_line(command(*[campaign if word == "DATA" else word for word in arguments]), 2)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "words", [("m", "^48"), ("m", "^48", "DATA"), ("m", "^48", "DATA", "DATA")]
)
def test_a_forgotten_end_of_the_masks_is_explained(
    command: Command, campaign: Path, words: tuple[str, ...]
) -> None:
    """All words after --mask are its own, and so may be the directories."""
    done = command("--mask", *[campaign if word == "DATA" else word for word in words])
    assert error_line(done, 2) == (
        "limbo-compress: name at least one directory of Limbo data; --mask takes every word up to"
        " the next option: write -- before the directories\n"
    )
    odd = error_line(command("--mask", "m", "^48", campaign, "--metadata", campaign), 2)
    assert "names and patterns go in pairs; --mask takes every word up to the next" in odd


def test_finding_no_sample_is_one_line(command: Command, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    line = f"limbo-compress: no sample (no *.json file) found below {tmp_path / 'empty'}\n"
    assert error_line(command("--images", "empty")) == line


@pytest.mark.parametrize("workers", [1, 2])
def test_a_bad_sample_is_one_line(command: Command, tmp_path: Path, workers: int) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "x.json").write_text('{"image": {"filename": "x.png"}}')
    (tmp_path / "data" / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    line = error_line(command("--images", "--workers", workers, "data"))
    assert line.startswith(f"limbo-compress: {tmp_path}/data/x.json: x.png: the image is")
    assert os.listdir(tmp_path) == ["data"]


def test_the_hash_seed_changes_no_byte(command: Command, campaign: Path, tmp_path: Path) -> None:
    for seed in ("1", "2"):
        flags = ["--prefix", seed, "--images", "--metadata", "--strip-regions", "--workers", "2"]
        assert command(*flags, campaign, env={"PYTHONHASHSEED": seed}).returncode == 0
    assert outputs(tmp_path, "1") == outputs(tmp_path, "2")


@pytest.fixture
def not_compiled(tmp_path: Path) -> dict[str, str]:
    """The environment of a command that has no compiled code."""
    package = tmp_path / "interpreted" / "limbo_compress"
    shutil.copytree(
        Path(limbo_compress.__file__).parent, package, ignore=shutil.ignore_patterns("*.so")
    )
    return {"PYTHONPATH": str(package.parent)}


def test_without_compiled_code_the_bytes_are_the_same(
    command: Command, campaign: Path, tmp_path: Path, not_compiled: dict[str, str]
) -> None:
    flags = ["--images", "--image-size", 64, 50, "--workers", 2]
    assert command(*flags, "--prefix", "compiled", campaign).returncode == 0
    assert command(*flags, "--prefix", "other", campaign, env=not_compiled).returncode == 0
    assert outputs(tmp_path, "compiled") == outputs(tmp_path, "other")


def test_the_version_and_a_large_job_say_whether_code_is_compiled(
    command: Command, tmp_path: Path, not_compiled: dict[str, str]
) -> None:
    assert "resampling: numpy" in command("--version", env=not_compiled).stdout
    write_campaign(tmp_path / "data", Campaign(samples=1000, distinct=2, size=(16, 16)))
    slower = "images take two to three times as long here (not compiled); install limbo-compress"
    flags = ["--images", "--image-size", 4, 4, "--workers", 2, "data"]
    assert slower not in command("--prefix", "small", "--end", 999, *flags, env=not_compiled).stderr
    assert slower in command("--prefix", "large", *flags, env=not_compiled).stderr.splitlines()[0]
    if why_not_compiled("imaging._resample") == "":
        assert "resampling: compiled" in command("--version").stdout.splitlines()
        assert slower not in command("--prefix", "compiled", *flags).stderr
        plain = command("isal", "main", "--prefix", "p", *flags, module="tests.programs.without")
        assert "pip install 'limbo-compress[fast]'" in plain.stderr.splitlines()[0]
        if find_spec("isal") is not None:
            assert "limbo-compress[fast]" not in command("--prefix", "fast", *flags).stderr


def test_compiled_code_that_cannot_be_loaded_is_named(
    command: Command, campaign: Path, tmp_path: Path, not_compiled: dict[str, str]
) -> None:
    module = Path(not_compiled["PYTHONPATH"], "limbo_compress", "imaging", "_resample.abi3.so")
    module.write_bytes(b"damaged")
    assert f"({module}: " in command("--version", env=not_compiled).stdout
    assert command("--images", campaign, env=not_compiled).returncode == 0


def test_a_login_node_is_reported(command: Command, campaign: Path, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "sbatch").write_text("#!/bin/sh\n")
    (tmp_path / "bin" / "sbatch").chmod(0o755)
    env = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    message = "this is a SLURM login node"
    assert message in command("--metadata", campaign, env=env).stderr
    assert message not in command("--metadata", campaign, "--workers", 2, env=env).stderr
    assert message not in command("--metadata", campaign, env=env | {"SLURM_JOB_ID": "1"}).stderr
