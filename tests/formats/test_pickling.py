from __future__ import annotations

import pickle
import pickletools
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from limbo_compress.formats.pickling import (
    LIST_END,
    LIST_START,
    Points,
    abridge,
    fragment,
    load_compact,
    load_fragment,
)
from tests.strategies import metadata

numbers = st.integers(-(2**31), 2**31 - 1) | st.floats(allow_nan=False)


@given(st.lists(metadata, max_size=6))
@example([])
@example([{}])
@example([{"n": list(range(1001)), "one": [1], "big": 2**3000}, {"a": []}])
def test_joined_fragments_are_the_pickled_list(samples: list[dict[str, Any]]) -> None:
    joined = b"".join(fragment(sample, "") for sample in samples)
    unpickled = pickle.loads(LIST_START + joined + LIST_END)
    assert repr(unpickled) == repr(samples)  # the types and the order of keys, too


def test_unpickling_needs_no_class() -> None:
    data = LIST_START + fragment({"a": [1, 2.5, "x", None, True]}, "") + LIST_END
    opcodes = {opcode.name for opcode, _, _ in pickletools.genops(data)}
    assert not opcodes & {"GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD", "MEMOIZE", "BINPUT"}
    assert data[:2] == b"\x80\x03"


@given(metadata)
@example({"text": "](K\1K\2e](K\1K\2e](K\1K\2e" * 9, "long": [2**70, -(2**3000)]})
@example({"two points": [[1, 2], [3, 4]], "three numbers": [[1, 2, 3]] * 5})
def test_what_holds_no_points_stays_whole(sample: dict[str, Any]) -> None:
    assert repr(load_fragment(abridge(fragment(sample, "")))) == repr(sample)


@given(st.lists(st.tuples(numbers, numbers), min_size=3, max_size=2100), metadata)
@example([(0.0, 1)] * 1001, {})  # pickle writes a thousand items, then a single one
@example([(0.0, 1)] * 2000, {})
def test_a_checksum_stands_for_points(
    points: list[tuple[float, float]], rest: dict[str, Any]
) -> None:
    def abridged(*last: tuple[float, float]) -> Any:
        contour = [list(point) for point in (*points, *last)]
        data = fragment({"contours": [contour, contour, "x"], "rest": rest}, "")
        return load_fragment(abridge(data))

    found = abridged()
    first, second, third = found["contours"]
    assert first == second
    assert all(isinstance(checksum, int) for checksum in first[: len(points) // 1000])
    assert len(first) <= len(points) // 1000 + 2
    assert third == "x"
    assert repr(found["rest"]) == repr(rest)
    assert abridged((7, 7.5))["contours"][0] != first
    assert abridged() == found


@given(metadata)
@example({"text": "](G........G........e" * 9, "long": [2**70, -(2**3000)], "ints": [[1, 2]] * 9})
@example({"two points": [[1.0, 2.0]] * 2, "three numbers": [[1.0, 2.0, 3.0]] * 5})
def test_compact_metadata_without_points_are_whole(sample: dict[str, Any]) -> None:
    assert repr(load_compact(fragment(sample, ""))) == repr(sample)


@given(st.lists(st.tuples(numbers, numbers), max_size=2100), metadata)
@example([(0.0, -0.0)] * 1001, {})  # pickle writes a thousand items, then a single one
@example([(0.5, 1.5)] * 3 + [(1, 2)] + [(2.5, 3.5)] * 3, {})
@example([(float("inf"), 1.0)] * 3, {})
def test_compact_points_are_those_of_the_contour(
    points: list[tuple[float, float]], rest: dict[str, Any]
) -> None:
    contour = [list(point) for point in points]
    found = load_compact(fragment({"contours": [contour, "x"], "rest": rest}, ""))
    line, text = found["contours"]
    in_full: list[Any] = []
    for item in line:
        in_full += item.array().tolist() if isinstance(item, Points) else [item]
        assert not isinstance(item, Points) or item.number == len(item.array())
    assert repr(in_full) == repr(contour)
    assert text == "x"
    assert repr(found["rest"]) == repr(rest)


def test_other_opcodes_are_refused_in_compact_metadata() -> None:
    for data in (b"cos\nsystem\na", b"K\0Qa"):
        with pytest.raises(ValueError, match="does not belong in a fragment"):
            load_compact(data)


def test_other_opcodes_are_refused() -> None:
    with pytest.raises(ValueError, match="opcode 0x63 does not belong in a fragment"):
        abridge(b"cos\nsystem\na")
