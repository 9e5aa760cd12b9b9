"""The command: options, exit codes, and one clear line for whatever is wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.inspect.sets import HOSTILE, write_set
from tests.jobs import Command, error_line, run, script, wait_until

COMMAND = script("limbo-inspect")


def test_verify_takes_the_next_word_only_if_it_is_a_number_or_all(
    prefix: Path, inspect: Command
) -> None:
    for words, rows in (
        (("--verify", prefix), 12),
        (("--verify", "3", prefix), 3),
        (("--verify", "all", "--", prefix), 12),
        (("--verify", "--", prefix), 12),
        ((prefix, "--verify"), 12),
    ):
        assert inspect(*words).stdout.startswith(f"compared {rows} rows "), words


@pytest.mark.uniform
@pytest.mark.parametrize("option", [(), ("--verify",), ("--html=g", "--json")])
def test_the_number_of_workers_changes_nothing(
    prefix: Path, inspect: Command, option: tuple[str, ...]
) -> None:
    one, three = (inspect(prefix, *option, "--workers", workers) for workers in (1, 3))
    assert one.returncode == three.returncode == 0
    assert one.stdout == three.stdout != ""


@pytest.mark.uniform
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: PREFIX"),
        (["--verify=out"], "argument --verify: it takes a number of rows or all, not 'out'"),
        (["--verify", "3"], "the following arguments are required: PREFIX"),
        (["PREFIX", "--workers", "0"], "--workers is 0, expected 1 or more"),
        (["PREFIX", "--verify", "0"], "it takes a number of rows or all"),
        (["PREFIX", "--rows", "x"], "rows are numbers such as 5, 5:20 or -10:, not 'x'"),
        (["PREFIX", "--where", "("], "'(' is not a regular expression"),
        (["PREFIX", "--sample", "0"], "a sample is of one row or more"),
        (["PREFIX", "--sheet", "s.bmp"], "s.bmp: a sheet is a .png or .jpg file"),
        (["PREFIX", "--no-such-option"], "unrecognized arguments"),
    ],
)
def test_a_wrong_option_is_one_line(
    prefix: Path, inspect: Command, arguments: list[str], message: str
) -> None:
    done = inspect(*(str(prefix) if word == "PREFIX" else word for word in arguments))
    assert message in error_line(done, 2)


@pytest.mark.parametrize(
    "name", ["none", "a/b/c", "x" * 5000, "two\nlines", "<script>", "\u202ertl"]
)
def test_a_prefix_that_does_not_exist_is_one_line(inspect: Command, name: str) -> None:
    assert len(error_line(inspect(name))) < 700


def test_hostile_labels_and_paths_stay_on_their_lines(tmp_path: Path, inspect: Command) -> None:
    samples = [
        {
            "annotations": [{"category": text}],
            "provenance": {"license": text, "copyright": [text]},
        }
        for text in HOSTILE
    ]
    paths = [f"/data/{text[:200].encode('ascii', 'ignore').decode()}/x.json" for text in HOSTILE]
    paths = [path.replace("\0", "") for path in paths]
    write_set(tmp_path / "x", np.zeros((len(HOSTILE), 8, 8, 3)), samples, paths)
    done = inspect("x")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.removesuffix("\n").split("\n")
    assert len(lines) <= 60
    for line in lines:
        assert line.isprintable()
        assert len(line) < 200
    assert "<script>window." in done.stdout
    assert set(json.loads(inspect("x", "--json").stdout)["summary"]["licenses"]) == set(HOSTILE)


def test_no_row_is_one_line(prefix: Path, inspect: Command) -> None:
    start = "limbo-inspect: none of the 12 rows is chosen; --where no such category: no category"
    assert error_line(inspect(prefix, "--where", "no such category")).startswith(start)


@pytest.mark.uniform
def test_damaged_metadata_are_told_by_the_exit_code(
    prefix: Path, tmp_path: Path, inspect: Command
) -> None:
    data = bytearray(Path(f"{prefix}-metadata.pickle").read_bytes())
    data[data.index(b"image_0000007") + 8] ^= 1
    (tmp_path / "x-metadata.pickle").write_bytes(data)
    done = inspect("x")
    assert done.returncode == 1
    assert "the metadata of 1 rows are DAMAGED, such as row 7" in done.stdout
    summary = json.loads(inspect("x", "--json").stdout)["summary"]
    assert list(summary["damaged"]) == ["7"]
    assert "damaged" in summary["damaged"]["7"]
    assert summary["parts"]["image"] == 11


def test_without_pillow_one_line_says_what_to_install(prefix: Path, tmp_path: Path) -> None:
    (tmp_path / "PIL").mkdir()
    (tmp_path / "PIL" / "__init__.py").write_text("raise ModuleNotFoundError('no Pillow here')")
    env = {"PYTHONPATH": str(tmp_path)}
    for option in ("--sheet=s.png", "--html=gallery"):
        assert error_line(run(COMMAND, prefix, option, cwd=tmp_path, env=env), 2) == (
            "limbo-inspect: pictures need Pillow: no Pillow here;"
            " pip install 'limbo-compress[inspect]'\n"
        )
    assert run(COMMAND, prefix, env=env).returncode == 0


@pytest.mark.parametrize(
    ("option", "name", "begun"),
    [("--sheet", "s.png", ".s-*.partial/*"), ("--html", "g", ".g.*.partial/new/data/thumbs/*")],
)
def test_a_signal_leaves_nothing(tmp_path: Path, option: str, name: str, begun: str) -> None:
    pytest.importorskip("PIL.Image", reason="pictures need Pillow")
    write_set(tmp_path / "x", np.zeros((30_000, 8, 8, 3)))
    command = [str(COMMAND), "x", option, name]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        wait_until(lambda: any(tmp_path.glob(begun)), "the first file")
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (143, "limbo-inspect: stopped by SIGTERM\n")
    assert os.listdir(tmp_path) == ["x-images.npy"]


@pytest.mark.parametrize(("option", "name"), [("--sheet", "s.png"), ("--html", "g")])
@pytest.mark.parametrize("rows", [40, 300])
def test_a_full_disk_is_one_line(tmp_path: Path, option: str, name: str, rows: int) -> None:
    pytest.importorskip("PIL.Image", reason="pictures need Pillow")
    write_set(tmp_path / "x", np.random.default_rng(0).random((rows, 64, 64, 3)))
    program = f"ulimit -f 64; exec {COMMAND} x {option} {name}"
    line = error_line(run("bash", "-c", program, cwd=tmp_path))
    assert line.startswith(f"limbo-inspect: {tmp_path if option == '--html' else ''}")
    assert "cannot write it: File too large (ulimit -f allows 65,536 bytes)" in line
    assert os.listdir(tmp_path) == ["x-images.npy"]


HUGE = 10**240_000


@pytest.mark.parametrize(
    "sample",
    [
        {1: {2: 3}},
        {"image": {"res": [HUGE, HUGE]}},
        {"annotations": [{"category": HUGE, "bbox": [HUGE] * 4}, {1: None}]},
        {"provenance": {"license": HUGE, "copyright": {(1, 2): 3}}},
    ],
    ids=["numbers as keys", "a huge size", "huge annotations", "a huge license"],
)
@pytest.mark.parametrize("option", [[], ["--json"], ["--html", "gallery"]])
def test_hostile_metadata_are_shown(
    tmp_path: Path, inspect: Command, sample: dict[str, Any], option: list[str]
) -> None:
    prefix = write_set(tmp_path / "hostile", np.zeros((1, 8, 8, 3)), [sample])
    done = inspect(prefix, *option)
    is_damaged = "DAMAGED" in done.stdout or '"damaged": {"' in done.stdout
    assert done.returncode == is_damaged
    assert done.stderr == ""


@pytest.mark.parametrize("option", [[], ["--json"], ["--html", "gallery"]])
@pytest.mark.parametrize(
    "item",
    [b"]" * 200_000 + b"a" * 199_999, b"}X\x01\0\0\0x" + b"\x8f(K\x01\x90s"],
    ids=["deep lists", "a set"],
)
def test_hostile_pickles_are_named(
    tmp_path: Path, inspect: Command, item: bytes, option: list[str]
) -> None:
    np.save(tmp_path / "hostile-images.npy", np.zeros((1, 8, 8, 3), np.float16))
    (tmp_path / "hostile-metadata.pickle").write_bytes(b"\x80\x04]" + item + b"a.")
    done = inspect(tmp_path / "hostile", *option)
    assert "Traceback" not in done.stderr
    if option[:1] == ["--html"]:
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
    else:
        is_damaged = "DAMAGED" in done.stdout or '"damaged": {"' in done.stdout
        assert done.returncode == is_damaged
