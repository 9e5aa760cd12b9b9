from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from limbo_compress import Options, UsageError


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": False}, "nothing to do"),
        ({"directories": ()}, "at least one directory"),
        ({"directories": ("/no/such/folder",)}, "/no/such/folder: no such directory"),
        ({"directories": (__file__,)}, "no such directory"),
        ({"image_size": (0, 5)}, "`image_size` 0 5"),
        ({"image_size": (5, -1)}, "`image_size` 5 -1"),
        ({"workers": 0}, "`workers` 0"),
        ({"workers": -3}, "`workers` -3"),
        ({"wait": -1}, "`wait` -1: must be at least 0"),
        ({"wait": float("nan")}, "`wait` nan"),
        ({"wait": "soon"}, "wrong type"),
        ({"start": -1}, "`start` -1"),
        ({"end": -1}, "`end` -1"),
        ({"start": 5, "end": 5}, "range is empty"),
        ({"end": 0}, "range is empty"),
        ({"prefix": ""}, "`prefix` ''"),
        ({"prefix": "/tmp/"}, "`prefix` '/tmp/'"),
        ({"prefix": ".."}, "`prefix`"),
        ({"prefix": "a\0b"}, "null byte"),
        ({"prefix": "/no/such/folder/out"}, "/no/such/folder: no such folder"),
    ],
)
def test_invalid_options_are_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {
        "directories": (str(tmp_path),), "prefix": str(tmp_path / "x"), "images": True
    }  # fmt: skip
    assert Options(**good).image_size == (224, 224)
    with pytest.raises(UsageError, match=message.replace("(", r"\(")):
        Options(**good | change)


def test_start_and_end_are_a_half_open_range(tmp_path: Path) -> None:
    def rows(start: int | None, end: int | None) -> range:
        return Options((str(tmp_path),), images=True, start=start, end=end).rows(10)

    assert rows(None, None) == range(10)
    assert rows(3, None) == range(3, 10)
    assert rows(None, 4) == range(4)
    assert rows(3, 400) == range(3, 10)
    with pytest.raises(UsageError, match="there are 10 samples"):
        rows(10, None)
