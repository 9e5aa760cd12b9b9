from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from limbo_compress.formats.parts import Part
from limbo_compress.output.resume import missing


@given(st.lists(st.booleans(), max_size=60))
def test_the_missing_rows_are_those_of_no_part(done: list[bool]) -> None:
    parts = [Part(row, row + 1, "run") for row, is_done in enumerate(done) if is_done]
    undone = [row for rows in missing(parts, range(len(done))) for row in rows]
    assert undone == [row for row, is_done in enumerate(done) if not is_done]
