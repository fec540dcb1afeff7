"""Ids that stand twice."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.inputs import duplicates
from indexer.inputs.duplicates import Duplicate, find_duplicate


def _pieces(ids: list[bytes | None], size: int) -> Iterator[tuple[int, list[bytes | None]]]:
    return ((first, ids[first : first + size]) for first in range(0, len(ids), size))


def _expected(ids: list[bytes | None]) -> Duplicate | None:
    seen: dict[bytes, int] = {}
    for position, doc_id in enumerate(ids):
        if doc_id:
            if doc_id in seen:
                return Duplicate(doc_id, seen[doc_id], position)
            seen[doc_id] = position
    return None


@given(st.lists(st.none() | st.binary(max_size=2), max_size=200), st.integers(1, 50))
def test_the_first_repeated_id_is_found(ids: list[bytes | None], size: int) -> None:
    """What is found is what a plain dictionary finds; null and empty ids name no document."""
    assert find_duplicate(lambda: _pieces(ids, size), len(ids)) == _expected(ids)


def test_equal_hashes_are_no_equal_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids whose hashes collide are compared as they are: no document is called a duplicate by chance."""
    monkeypatch.setattr(duplicates, "hash", lambda _: 1, raising=False)
    ids: list[bytes | None] = [b"a", b"b", b"c"]
    assert find_duplicate(lambda: _pieces(ids, 2), 3) is None
    assert find_duplicate(lambda: _pieces([*ids, b"b"], 2), 4) == Duplicate(b"b", 1, 3)
