from __future__ import annotations

import errno
import json
import os
import socket
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from limbo_compress import Options
from limbo_compress.errors import MachineError, SampleError
from limbo_compress.samples.reader import SampleReader, read_file
from tests.jobs import wait_until


@pytest.fixture(autouse=True)
def _no_reader_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each test begin like a process that has read nothing yet."""
    monkeypatch.setattr(SampleReader, "_next_depth", 0)


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    """Nine samples; the third is not JSON, and the fifth has no image."""
    for number in range(9):
        text = "{" if number == 2 else json.dumps({"image": {"filename": f"{number}.png"}})
        (tmp_path / f"{number}.json").write_text(text)
        if number != 4:
            (tmp_path / f"{number}.png").write_bytes(bytes([number]))
    return [str(tmp_path / f"{number}.json") for number in range(9)]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The names of the files that were opened, which takes as long as on a network filesystem."""
    names: set[str] = set()
    open_now = os.open

    def open_late(path: Any, *arguments: Any, **keywords: Any) -> int:
        time.sleep(0.005)
        descriptor = open_now(path, *arguments, **keywords)
        names.add(os.path.basename(path))
        return descriptor

    monkeypatch.setattr(os, "open", open_late)
    return names


@pytest.fixture(params=["local", "network"])
def _filesystem(request: pytest.FixtureRequest) -> None:
    if request.param == "network":
        request.getfixturevalue("opened")


@pytest.mark.usefixtures("_filesystem")
def test_files_come_in_order_and_errors_with_their_own_sample(paths: list[str]) -> None:
    with SampleReader(Options((".",), images=True), paths) as reader:
        for number, path in enumerate(paths):
            if number in (2, 4):
                with pytest.raises(SampleError, match="not JSON" if number == 2 else "cannot read"):
                    reader.next()
                continue
            files = reader.next()
            assert files.path == path
            assert files.image is not None
            assert files.image.data == bytes([number])


@pytest.mark.usefixtures("_filesystem")
def test_only_the_requested_files_are_read(paths: list[str]) -> None:
    with SampleReader(Options((".",), metadata=True), [paths[0], paths[4]]) as reader:
        for number in (0, 4):
            files = reader.next()
            assert files.metadata == {"image": {"filename": f"{number}.png"}}
            assert files.image is None


def test_a_network_filesystem_is_read_ahead(paths: list[str], opened: set[str]) -> None:
    with SampleReader(Options((".",), images=True), paths) as reader:
        reader.next()
        wait_until(lambda: {"1.json", "1.png", "2.json"} <= opened, "the next two samples")
        assert "3.json" not in opened


class LateOpens:
    """Opens of samples 0, 1, 2 and so on, each of which is late.

    None but the first returns before that of the next sample but one has begun. That begins, at
    the latest, when the reader is asked for the sample.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, last: int) -> None:
        self.begun: set[int] = set()
        self._last = last
        self._open_now = os.open
        monkeypatch.setattr(os, "open", self._open)

    def _open(self, path: Any, *arguments: Any, **keywords: Any) -> int:
        if str(path).endswith(".json"):
            number = int(Path(path).stem)
            self.begun.add(number)
            if number:
                wait_until(lambda: min(number + 2, self._last) in self.begun, "the next samples")
            else:
                time.sleep(0.005)
        return self._open_now(path, *arguments, **keywords)

    def wait_for(self, samples: int) -> None:
        wait_until(lambda: len(self.begun) >= samples, "samples that are read ahead")
        assert self.begun == {*range(samples)}


def write_samples(folder: Path, samples: int, image_bytes: int) -> list[str]:
    for number in range(samples):
        (folder / f"{number}.json").write_text('{"image": {"filename": "0.png"}}')
    with open(folder / "0.png", "wb") as stream:
        stream.truncate(image_bytes)
    return [str(folder / f"{number}.json") for number in range(samples)]


def test_late_samples_are_read_further_ahead_up_to_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = write_samples(tmp_path, 14, 1)
    opens = LateOpens(monkeypatch, last=13)
    with SampleReader(Options((".",), images=True), paths) as reader:
        for begun in (3, 4, 7, 12, 13, *[14] * 9):
            reader.next()
            opens.wait_for(begun)


def test_large_samples_are_not_read_further_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = write_samples(tmp_path, 7, 1 << 25)
    opens = LateOpens(monkeypatch, last=6)
    with SampleReader(Options((".",), images=True), paths) as reader:
        for begun in (3, 4, 5, 6, 7, 7, 7):
            reader.next()
            opens.wait_for(begun)


def test_the_next_reader_begins_as_far_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = write_samples(tmp_path, 10, 1)
    opens = LateOpens(monkeypatch, last=9)
    options = Options((".",), images=True)
    with SampleReader(options, paths) as reader:
        for _ in paths:
            reader.next()
    opens.begun.clear()
    with SampleReader(options, paths) as reader:
        for begun in (9, *[10] * 9):
            reader.next()
            opens.wait_for(begun)


def test_no_thread_reads_where_nothing_is_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = write_samples(tmp_path, 10, 1)
    options = Options((".",), images=True)
    with monkeypatch.context() as slow, SampleReader(options, paths) as reader:
        LateOpens(slow, last=9)
        for _ in paths:
            reader.next()

    def is_read_ahead() -> bool:
        before = threading.active_count()
        with SampleReader(options, paths[:2]) as reader:
            reader.next()
            reads_ahead = threading.active_count() > before
            time.sleep(0.01)  # as long as a conversion
            reader.next()
        return reads_ahead

    assert is_read_ahead()
    wait_until(lambda: not is_read_ahead(), "a reader without threads")


@pytest.mark.usefixtures("_filesystem")
def test_leaving_early_leaves_no_thread(paths: list[str]) -> None:
    before = threading.active_count()
    with SampleReader(Options((".",), images=True), paths) as reader:
        reader.next()
    assert threading.active_count() == before


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "there.json").write_text("{}")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("missing.png", "No such file or directory"),
        ("no-folder.png", "Not a directory"),
        ("loop.png", "Too many levels of symbolic links"),
        ("dangling.png", "No such file or directory"),
        ("folder", "Is a directory"),
        ("socket", "No such device or address"),
        ("x" * 300, "File name too long"),
        ("\udfff\ud800", "surrogates not allowed"),
    ],
)
def test_what_is_wrong_with_one_file_is_a_bad_sample(folder: Path, name: str, reason: str) -> None:
    (folder / "loop.png").symlink_to("loop.png")
    (folder / "dangling.png").symlink_to("/no/such/store/image.png")
    (folder / "no-folder.png").symlink_to("there.json/image.png")
    (folder / "folder").mkdir()
    here = os.getcwd()
    os.chdir(folder)  # because the path of a socket is short
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("socket")
    os.chdir(here)
    with pytest.raises(SampleError, match=reason):
        read_file(f"{folder}/{name}", 100)


@pytest.mark.parametrize("gone", ["removed", "empty"])
def test_a_file_whose_folder_is_gone_is_the_machines_fault(folder: Path, gone: str) -> None:
    (folder / "there.json").unlink()
    if gone == "removed":
        folder.rmdir()
    with pytest.raises(MachineError, match=r"there\.json: No such file.*is it still mounted"):
        read_file(f"{folder}/there.json", 100)


def fail_to_open(monkeypatch: pytest.MonkeyPatch, number: int, times: int) -> list[float]:
    """Let the next `times` calls of `os.open` fail; return when they did."""
    real, calls = os.open, list[float]()

    def fail(*arguments: Any, **keywords: Any) -> int:
        if len(calls) < times:
            calls.append(time.monotonic())
            raise OSError(number, os.strerror(number))
        return real(*arguments, **keywords)

    monkeypatch.setattr(os, "open", fail)
    return calls


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ETIMEDOUT])
def test_transient_errors_are_survived(
    folder: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    calls = fail_to_open(monkeypatch, number, 2)
    assert read_file(f"{folder}/there.json", 100).data == b"{}"
    assert len(calls) == 2


def test_errors_that_stay_are_the_machines_fault(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = fail_to_open(monkeypatch, errno.ESTALE, 99)
    with pytest.raises(MachineError, match=r"there\.json: Stale file handle; this is the machine"):
        read_file(f"{folder}/there.json", 100)
    assert len(calls) == 4
    pauses = [later - sooner for sooner, later in pairwise(calls)]
    assert pauses == sorted(pauses)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOMEM, errno.ENOTCONN])
def test_what_concerns_every_file_is_the_machines_fault_at_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    calls = fail_to_open(monkeypatch, number, 99)
    with pytest.raises(MachineError, match=os.strerror(number)):
        read_file(f"{folder}/there.json", 100)
    assert len(calls) == 1
