"""JSON files that vouch for themselves."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.sealed import check_seal, sealed_json

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=5), JSON, max_size=4))
def test_values_come_back(values: dict[str, object]) -> None:
    """Whatever was sealed is read as it was, and sealed again to the same text."""
    text = sealed_json(values)
    assert check_seal(json.loads(text)) == values
    assert sealed_json(check_seal(json.loads(text))) == text


def test_no_flipped_bit_goes_unseen() -> None:
    """Each bit of each byte in turn: the file is no JSON any more, or its seal is broken."""
    data = sealed_json({"path": "/data/ä.parquet", "rows": [12, 7], "config": {"limit": None}}).encode()
    for place in range(len(data)):
        for bit in range(8):
            damaged = bytearray(data)
            damaged[place] ^= 1 << bit
            try:
                raw = json.loads(bytes(damaged))
            except ValueError:
                continue
            if json.dumps(raw, sort_keys=True) == json.dumps(json.loads(data), sort_keys=True):
                continue  # a space became another space: the values stand
            with pytest.raises(ValueError, match="differs"):
                check_seal(raw)
