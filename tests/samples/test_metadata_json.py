from __future__ import annotations

import json
import math
import tracemalloc
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from limbo_compress.errors import SampleError
from limbo_compress.samples.metadata_json import parse
from tests.strategies import metadata


def same(a: object, b: object) -> bool:
    """Equal to the type and to the order of keys."""
    return repr(a) == repr(b)


@given(metadata, st.booleans(), st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]))
@example({"n": 2**64, "m": -(2**63) - 1, "k": 2**63, "e": 1e22}, True, "utf-8")
@example({"nan": math.nan, "inf": [math.inf, -math.inf]}, True, "utf-8")
@example({"lone": "\ud800"}, True, "utf-8")
def test_parse_equals_json_loads(sample: dict[str, Any], ascii_only: bool, encoding: str) -> None:
    text = json.dumps(sample, ensure_ascii=ascii_only)
    data = text.encode(encoding, "surrogatepass")
    assert same(parse(data, ""), json.loads(data))


@pytest.mark.parametrize(
    "text",
    [
        b'{"a": -0, "b": -0.0, "c": 0e5, "d": 1E+2, "e": 1e999}',
        b'{"a": 1, "b": 2, "a": 3}',
        b'{"a": 9999999999999999999, "b": 18446744073709551616, "c": -9223372036854775809}',
        b'{"a": 0.12345678901234567890123, "b": 123456789012345678.9}',
        b'{"a": "\\ud83d\\ude00 \\u0000 \\/"}',
        b' \t\r\n{"a": 5e-324, "b": 1.7976931348623157e308, "c": 2.2250738585072011e-308}\n',
    ],
)
def test_numbers_and_escapes_equal_those_of_json_loads(text: bytes) -> None:
    assert same(parse(text, ""), json.loads(text))


def test_memory_grows_with_the_file_only() -> None:
    data = b'{"a": "' + (1 << 22) * b"1" + b'"}'
    tracemalloc.start()
    try:
        assert parse(data, "a.json") == json.loads(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10 * len(data)


@pytest.mark.parametrize("blanks", range(8))
@pytest.mark.parametrize("end", [b"}", b"\n}\n", b', "b": 1}'])
def test_the_shortest_long_number_is_found_after_any_blanks(blanks: int, end: bytes) -> None:
    text = b'{"a":' + blanks * b" " + b"-9223372036854775809" + end
    assert parse(text, "")["a"] == -(2**63) - 1


def test_a_long_number_is_found_across_the_ends_of_blocks() -> None:
    for end in (17, 18):
        for blanks in range((1 << end) - 30, (1 << end) + 2):
            text = b'{"a":' + blanks * b" " + b"9223372036854775808000}"
            assert parse(text, "")["a"] == 9223372036854775808000
            text = b'{"a":' + blanks * b" " + b"-9223372036854775809}"
            assert parse(text, "")["a"] == -(2**63) - 1


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b'{"a": 01}', b"[1, 2]", b"null", b"\xff\xff", b'{"a": "\t"}', b"nonsense",
     b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", b'{"a": ' + b"1" * 5000 + b"}"],
)  # fmt: skip
def test_anything_but_a_json_object_is_a_bad_sample(data: bytes) -> None:
    with pytest.raises(SampleError, match="its metadata is"):
        parse(data, "x.json")


@settings(max_examples=500)
@given(metadata, st.data())
def test_damaged_json_is_parsed_or_refused_as_by_json(
    sample: dict[str, Any], data: st.DataObject
) -> None:
    text = bytearray(json.dumps(sample).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text)))
        text[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))
    try:
        expected = json.loads(bytes(text))
    except (ValueError, RecursionError):
        expected = None
    if isinstance(expected, dict):
        assert same(parse(bytes(text), ""), expected)
    else:
        with pytest.raises(SampleError):
            parse(bytes(text), "")
