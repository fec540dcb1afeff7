"""Which texts were seen, against a plain dict."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.documents import content_hash
from indexer.embedding import reuse
from indexer.embedding.reuse import SeenTexts

# Few first bytes and few first halves, so that buckets are long and first halves collide.
names = st.builds(
    lambda high, low: bytes([high]) * 8 + low.to_bytes(8, "big"),
    st.integers(0, 2),
    st.sampled_from([0, 1, 2**63, 2**64 - 1]) | st.integers(0, 30),
)


@given(st.lists(names, max_size=60), st.lists(names, max_size=120), st.integers(1, 9), st.integers(1, 40))
def test_the_first_of_equal_hashes_is_found(
    before: list[bytes], after: list[bytes], recent: int, loaded: int
) -> None:
    """Whatever was sorted in when, a hash is known once it was seen, and no other hash is taken for it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reuse, "_RECENT", recent)
        patch.setattr(reuse, "_LOADED", loaded)
        seen = SeenTexts()
        for start in range(0, len(before), 7):
            part = before[start : start + 7]
            packed = np.frombuffer(b"".join(part), np.uint8).reshape(-1, 16)
            seen.load(packed, np.arange(start, start + len(part), dtype=np.int64))
        seen.loaded()
        places: dict[bytes, set[int]] = {}
        for row_id, name in enumerate(before):
            places.setdefault(name, set()).add(row_id)
        for row_id, name in enumerate(after, len(before)):
            found = seen.first(name, row_id)
            if name in places:
                assert found in places[name]
            else:
                assert found is None
                places[name] = {row_id}


def test_memory_is_24_bytes_a_text() -> None:
    """What is held for each text does not depend on how they came: 24 bytes, once they are sorted in."""
    seen = SeenTexts()
    count = 3 * reuse._RECENT
    for row_id in range(count):
        assert seen.first(content_hash(row_id.to_bytes(8, "big")), row_id) is None
    assert seen.nbytes == 24 * count
    assert seen.first(content_hash((7).to_bytes(8, "big")), count) == 7
