"""How far a job is, who is at work on it, and what is missing."""

from __future__ import annotations

import json
import os
import re
import socket
from pathlib import Path
from typing import Any

import pytest

from limbo_compress import Options, compress, status
from tests.jobs import Command, error_line, files, job, leave_partition, work_in

WORK_DIR = ".out.partial"


def share(data: Path, index: int, **change: Any) -> Options:
    return job(data, data.parent, partition=f"{index}/3", **change)


def test_the_status_says_what_is_done_and_what_is_missing(data: Path, command: Command) -> None:
    flags = ("--status", "--prefix", "out")
    idle = command(*flags)
    assert (idle.returncode, idle.stderr) == (0, "")
    assert idle.stdout == f"{data.parent / WORK_DIR}: there is no unfinished work\n"
    compress(share(data, 1))
    before = files(data.parent / WORK_DIR)
    done = command(*flags)
    assert done.returncode == 0, done.stderr
    lines = [
        f"{data.parent / WORK_DIR}: 4 of 12 samples are done",
        "partition 0/3: 0 of 4 samples",
        "partition 2/3: 0 of 4 samples",
        "missing: rows 0 to 3",
        "missing: rows 8 to 11",
    ]
    assert done.stdout.splitlines() == lines
    assert command(*flags, "--images", "--", data).stdout == done.stdout
    assert files(data.parent / WORK_DIR) == before


@pytest.mark.parametrize("prefix", ["no-such-folder/out", ".", ""])
def test_the_status_of_what_cannot_be_a_prefix_is_refused(command: Command, prefix: str) -> None:
    error_line(command("--status", "--prefix", prefix), 2)


def test_the_status_names_bad_samples(data: Path, command: Command) -> None:
    image = sorted(data.rglob("image_*.*g"))[5]
    image.write_bytes(b"")
    compress(share(data, 1, on_error="skip"))
    (failure,) = status(data.parent / "out").failures
    assert image.name in failure.reason
    lines = command("--status", "--prefix", "out").stdout.splitlines()
    assert lines[0].endswith("4 of 12 samples are done, 1 of them bad")
    assert f"bad: row {failure.row}: {failure}" in lines


def test_the_status_names_who_is_at_work_and_how_fast(data: Path, command: Command) -> None:
    compress(share(data, 0))
    leave_partition(data.parent, 1, 90)
    shown: list[str] = []

    def progress(done: int, _: int) -> None:
        found = status(data.parent / "out")
        assert found.at_work == {"partition-2": f"process {os.getpid()} on {socket.gethostname()}"}
        assert found.lost == {"partition-1": "process 1 on elsewhere, SLURM 7_1"}
        if done < 2:  # only the parts of runs at work count, after the first of them
            assert found.rate is None
        elif done == 3:
            assert found.rate is not None
            assert found.seconds_left == pytest.approx(5 / found.rate)
            shown.extend(command("--status", "--prefix", "out").stdout.splitlines())

    compress(share(data, 2), progress)
    assert re.fullmatch(r"[\d.e+]+ samples/s lately; at this rate, 0:00:\d\d is left", shown[1])
    assert shown[2].startswith("at work on partition 2: process ")
    assert shown[3] == "lost on partition 1: process 1 on elsewhere, SLURM 7_1"


def test_the_status_of_a_job_of_many_partitions_is_short(data: Path, command: Command) -> None:
    compress(share(data, 1))
    (record,) = work_in(data.parent).glob("job-*.json")
    record.write_text(json.dumps(json.loads(record.read_text()) | {"partitions": 10**8}))
    lines = command("--status", "--prefix", "out").stdout.splitlines()
    assert len(lines) < 15
    record.write_text(json.dumps({"number of samples": 10**8, "partitions": 10**8}))
    lines = command("--status", "--prefix", "out").stdout.splitlines()
    assert len(lines) < 30
    assert "..." in lines
