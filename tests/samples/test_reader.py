from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from limbo_compress import Options
from limbo_compress.errors import SampleError
from limbo_compress.samples.reader import SampleReader
from tests.jobs import wait_until


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


@pytest.mark.usefixtures("_filesystem")
def test_leaving_early_leaves_no_thread(paths: list[str]) -> None:
    before = threading.active_count()
    with SampleReader(Options((".",), images=True), paths) as reader:
        reader.next()
    assert threading.active_count() == before
