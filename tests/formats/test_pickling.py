from __future__ import annotations

import pickle
import pickletools
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from limbo_compress.formats.pickling import LIST_END, LIST_START, fragment
from tests.strategies import metadata


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
