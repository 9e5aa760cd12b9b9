from __future__ import annotations

from dataclasses import Field, fields, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from limbo_compress import Options, UsageError
from limbo_compress.output.record import fingerprint
from limbo_compress.plan import plan

# For each field another value than in the test that goes through them; {} is its folder.
OTHERS: dict[str, Any] = {
    "directories": "/",
    "prefix": "{}/y",
    "images": False,
    "image_size": (5, 4),
    "masks": {"m": "b"},
    "metadata": False,
    "strip_regions": True,
    "start": 1,
    "end": 1,
    "workers": 3,
    "on_error": "stop",
    "max_failures": "3%",
    "max_pixels": 10,
    "decoder": "opencv",
    "fresh": True,
    "write_rows": "mmap",
    "partition": "1/2",
    "scheduler": "tcp://host:1",
    "scheduler_file": "{}/file",
    "wait": 2,
}


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


@pytest.mark.parametrize("field", fields(Options), ids=lambda field: field.name)
def test_the_record_of_a_job_has_the_options_that_decide_bytes_and_no_others(
    tmp_path: Path, field: Field[Any]
) -> None:
    if field.name.startswith("scheduler") and not find_spec("distributed"):
        pytest.skip("Dask is not installed")
    options = Options(
        (str(tmp_path),),
        str(tmp_path / "x"),
        images=True,
        metadata=True,
        masks={"m": "a"},
        on_error="skip",
    )
    value = OTHERS[field.name]
    if isinstance(value, str):
        value = value.format(tmp_path)
    other = replace(options, **{field.name: value})
    assert getattr(other, field.name) != getattr(options, field.name)
    before, after = (fingerprint(plan(each, 4), ["sample"]) for each in (options, other))
    after.pop("partitions", None)  # whose number must not change once one of them has begun
    assert field.metadata["decides_bytes"] == (field.name in before) == (before != after)


def test_masks_are_a_dict_or_pairs(tmp_path: Path) -> None:
    pairs: Any = [("b", "x"), ("a", "y")]
    options = Options((str(tmp_path),), masks=pairs)
    assert options == Options((str(tmp_path),), masks=dict(pairs))
    assert list(options.masks.items()) == pairs
