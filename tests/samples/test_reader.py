from __future__ import annotations

import contextlib
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


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    """Nine samples; the third is no JSON, and the fifth has no image."""
    for number in range(9):
        text = "{" if number == 2 else json.dumps({"image": {"filename": f"{number}.png"}})
        (tmp_path / f"{number}.json").write_text(text)
        if number != 4:
            (tmp_path / f"{number}.png").write_bytes(bytes([number]))
    return [str(tmp_path / f"{number}.json") for number in range(9)]


@pytest.fixture(params=["at hand", "far away"])
def far(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether opening a file takes as long as on a network filesystem."""
    is_far: bool = request.param == "far away"
    if is_far:
        real = os.open

        def late(*arguments: Any, **keywords: Any) -> int:
            time.sleep(0.005)
            return real(*arguments, **keywords)

        monkeypatch.setattr(os, "open", late)
    return is_far


def test_files_come_in_order_and_errors_with_their_own_sample(paths: list[str], far: bool) -> None:
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


def test_only_what_is_asked_for_is_read(paths: list[str], far: bool) -> None:
    with SampleReader(Options((".",), metadata=True), [paths[0], paths[4]]) as reader:
        for number in (0, 4):
            files = reader.next()
            assert files.metadata == {"image": {"filename": f"{number}.png"}}
            assert files.image is None


def test_what_is_far_away_is_read_before_it_is_asked_for(paths: list[str], far: bool) -> None:
    """By then the files of the next two samples may be gone, if they were."""
    with SampleReader(Options((".",), images=True), paths) as reader:
        reader.next()
        if far:
            time.sleep(0.5)
        for path in paths[1:3]:
            os.unlink(path)
        with contextlib.nullcontext() if far else pytest.raises(SampleError, match="No such"):
            reader.next()


def test_who_stops_early_leaves_no_thread(paths: list[str], far: bool) -> None:
    before = threading.active_count()
    with SampleReader(Options((".",), images=True), paths) as reader:
        reader.next()
    assert threading.active_count() == before
