"""Generated values for the tests that Hypothesis drives."""

from __future__ import annotations

from hypothesis import strategies as st

_scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20)
)
_values = st.recursive(
    _scalars,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=30,
)
# What a sample's metadata file may hold.
metadata = st.dictionaries(st.text(max_size=8), _values, max_size=5)
