from __future__ import annotations

import errno
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbo_compress import load
from limbo_compress.errors import nearest_names

NAMES = st.lists(st.text("34 0-8BGXYbgxy/\n", max_size=6), min_size=15, max_size=40)


@given(st.text("48Yy^", max_size=3), st.lists(NAMES, min_size=2, max_size=4))
def test_the_nearest_of_all_are_among_the_nearest_of_each_part(
    wanted: str, parts: list[list[str]]
) -> None:
    chosen = {name for part in parts for name in nearest_names([wanted], part)}
    everything = {name for part in parts for name in part}
    nearest = nearest_names([wanted], everything)
    assert nearest_names([wanted], chosen) == nearest
    assert len(nearest) == min(20, len(everything))


def test_missing_outputs_are_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there are no outputs of this prefix") as caught:
        load(tmp_path / "none")
    for error in (caught.value, pickle.loads(pickle.dumps(caught.value))):
        assert (error.errno, error.filename) == (errno.ENOENT, f"{tmp_path}/none-*")
        assert str(error) == str(caught.value)
