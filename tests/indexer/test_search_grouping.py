"""From nearest vectors to nearest documents, against brute force."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from indexer.search.grouping import Looked, best_of_each, documents_of, first_fetch


class _Exact:
    """An exact index of scores that are known: score and row of each vector."""

    def __init__(self, vectors: list[tuple[int, int]]) -> None:
        self.vectors = sorted(((score / 8, row) for score, row in vectors), key=lambda one: -one[0])
        self.looks = 0

    def look(self, fetch: int, without: list[int]) -> Looked:
        self.looks += 1
        found = [one for one in self.vectors if one[1] not in without][:fetch]
        found += [(0.0, -1)] * (fetch - len(found))
        return _arrays(found)

    def best(self, k: int) -> list[tuple[float, int]]:
        documents: dict[int, float] = {}
        for score, row in self.vectors:
            documents[row] = max(score, documents.get(row, score))
        return sorted(((score, row) for row, score in documents.items()), key=lambda one: (-one[0], one[1]))[
            :k
        ]


def _arrays(found: list[tuple[float, int]]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    return np.array([s for s, _ in found], np.float32), np.array([r for _, r in found], np.int64)


_VECTORS = st.lists(
    st.tuples(st.integers(-40, 40), st.integers(0, 12)), max_size=60, unique_by=lambda v: v[0]
)


@settings(max_examples=300, deadline=None)
@given(_VECTORS, st.integers(1, 15), st.integers(1, 10))
def test_k_documents_are_found_however_their_chunks_crowd(
    vectors: list[tuple[int, int]], k: int, fetch: int
) -> None:
    """Any number of chunks a document, any size of a look: the k best documents, each once, in order."""
    index = _Exact(vectors)
    found = documents_of(k, len(vectors), index.look(fetch, []), lambda without: index.look(fetch, without))
    assert found == index.best(k)
    assert index.looks <= k + 1


@given(st.integers(1, 100), st.integers(0, 1000), st.integers(0, 1000))
def test_a_look_is_never_larger_than_the_index(k: int, vectors: int, documents: int) -> None:
    """Without chunks k vectors are enough; with them more are looked at, and never more than there are."""
    fetch = first_fetch(k, vectors, documents)
    assert 1 <= fetch <= max(1, vectors)
    assert fetch >= min(k, vectors)
    if vectors <= documents:
        assert fetch <= k


def test_a_document_counts_by_its_nearest_chunk() -> None:
    """Rows that repeat are one document, at the place of the first."""
    found = best_of_each(*_arrays([(0.9, 4), (0.8, 2), (0.7, 4), (0.6, 2), (0.5, 7), (0.0, -1)]))
    assert [row for _, row in found] == [4, 2, 7]
    assert np.allclose([score for score, _ in found], [0.9, 0.8, 0.5])
