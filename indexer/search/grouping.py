"""From nearest vectors to nearest documents, where a document may have several vectors. Pure.

All vectors of a document share its row id, so a search that returns vectors returns a document as often as it
has chunks among them. Where that leaves fewer than `k` documents, the search goes on among the documents that
were not found yet: each round finds at least one more, whatever the number of its chunks.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Looked = tuple[NDArray[np.float32], NDArray[np.int64]]
"""Scores and row ids of the nearest vectors, `[fetched]`, best first; id −1 where there is none."""

_MARGIN = 2  # times the vectors that k average documents have; arbitrary, most searches end in one round


def first_fetch(k: int, vectors: int, documents: int) -> int:
    """Returns how many vectors to look at for `k` documents of an index of so many."""
    if vectors <= documents:
        return max(1, min(k, vectors))
    return min(vectors, _MARGIN * k * -(-vectors // max(1, documents)))


def best_of_each(scores: NDArray[np.float32], rows: NDArray[np.int64]) -> list[tuple[float, int]]:
    """Returns (score, row id) of each document, by its nearest vector, best first."""
    there = rows >= 0
    scores, rows = scores[there], rows[there]
    _, first = np.unique(rows, return_index=True)
    return [(float(scores[at]), int(rows[at])) for at in np.sort(first)]


def documents_of(
    k: int, vectors: int, looked: Looked, look_without: Callable[[list[int]], Looked]
) -> list[tuple[float, int]]:
    """Returns (score, row id) of the `k` nearest documents, best first; fewer if there are no more.

    Args:
        k: Documents.
        vectors: Those of the whole index.
        looked: What the first look found.
        look_without: Looks again, for as many vectors, among all documents but those of these row ids.
    """
    found = best_of_each(*looked)
    while len(found) < k and 0 < looked[1].size < vectors and looked[1][-1] >= 0:
        looked = look_without([row for _, row in found])
        more = best_of_each(*looked)
        if not more:
            break
        found += more
    # An approximate index may meet a near document late; equal scores in the order of rows.
    return sorted(found, key=lambda one: (-one[0], one[1]))[:k]
