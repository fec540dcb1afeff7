"""Exact search over a stream of vectors: what an index should have found. Pure numpy, no files.

Memory is bounded: a pass looks at `_BLOCK` vectors at a time, whatever the pieces are.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_BLOCK = 4096  # vectors compared at once: 16 MB of scores for 1,000 queries
NOBODY = -1  # FAISS's id of a hit that is none; also stands for "no vector of the index" as a query's own id

Pieces = Iterable[tuple[NDArray[np.int64], NDArray[np.floating]]]  # ids [n], vectors [n, dim]
Read = Callable[[], Pieces]  # starts a pass over all ids and vectors, in order


@dataclass(frozen=True)
class Queries:
    """What is searched for.

    Attributes:
        vectors: float32 `[queries, dim]`.
        own: Id of the vector of the index that each query is, int64 `[queries]`; `NOBODY`: it is none. No
            vector of that id is an answer to its own query.
    """

    vectors: NDArray[np.float32]
    own: NDArray[np.int64]

    @classmethod
    def foreign(cls, vectors: NDArray[np.float32]) -> "Queries":
        """Returns queries that are no vectors of the index."""
        return cls(vectors, np.full(len(vectors), NOBODY, dtype=np.int64))

    @property
    def held_out(self) -> bool:
        """Whether any query is a vector of the index."""
        return bool((self.own != NOBODY).any())


@dataclass(frozen=True)
class Truth:
    """The exact answers.

    Attributes:
        ids: int64 `[queries, k]`, best first; `NOBODY` where there are fewer vectors.
        scores: Inner products, float32 `[queries, k]`; −inf where there is none.
        tolerance: What rounding may have changed of each query's scores, float32 `[queries]`.
        own: How many vectors have the query's own id, int64 `[queries]`: several where it has chunks.
    """

    ids: NDArray[np.int64]
    scores: NDArray[np.float32]
    tolerance: NDArray[np.float32]
    own: NDArray[np.int64]


def nearest(queries: Queries, pieces: Pieces, k: int) -> Truth:
    """Returns the `k` vectors with the largest inner product for each query, in one pass."""
    ids = np.full((len(queries.vectors), k), NOBODY, dtype=np.int64)
    scores = np.full(ids.shape, -np.inf, dtype=np.float32)
    own = np.zeros(len(ids), dtype=np.int64)
    longest = 0.0
    for block_ids, block in _blocks(pieces):
        longest = max(longest, float(np.linalg.norm(block, axis=1).max(initial=0.0)))
        found = queries.vectors @ block.T
        itself = block_ids[None, :] == queries.own[:, None]
        own += itself.sum(axis=1)
        found[itself] = -np.inf
        best = _best(found, k)
        found = np.concatenate([scores, np.take_along_axis(found, best, 1)], axis=1)
        names = np.concatenate([ids, block_ids[best]], axis=1)
        best = _best(found, k)
        scores, ids = np.take_along_axis(found, best, 1), np.take_along_axis(names, best, 1)
    order = np.argsort(-scores, axis=1, kind="stable")
    scores, ids = np.take_along_axis(scores, order, 1), np.take_along_axis(ids, order, 1)
    ids[~np.isfinite(scores)] = NOBODY
    return Truth(ids, scores, _tolerance(queries.vectors, longest), own)


def _best(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Returns where the `k` largest scores of each row stand, in any order; all where there are no more."""
    kept = min(k, scores.shape[1])
    where: NDArray[np.int64] = np.argpartition(scores, -kept, axis=1)[:, -kept:]
    return where


def scores_of(
    queries: Queries, found: NDArray[np.int64], pieces: Pieces, k: int | None = None
) -> NDArray[np.float32]:
    """Returns the exact score of each hit, in one pass: an index may know only an approximate one.

    Where several vectors have an id, the hits of that id in an answer stand for the best of them.

    Args:
        queries: What was searched.
        found: Ids that an index gave, int64 `[queries, hits]`.
        pieces: All vectors.
        k: Hits of one answer: a query may have several, one after the other. None: all hits are one.

    Returns:
        float32 `[queries, hits]`; −inf for `NOBODY`, a query's own vector, and ids that no vector has.
    """
    exact = np.full(found.shape, -np.inf, dtype=np.float32)
    wanted, first, back = _positions(found)
    for ids, block in _blocks(pieces):
        for row in np.flatnonzero(np.isin(ids, wanted)):
            at = int(np.searchsorted(wanted, ids[row]))
            query, hit = np.divmod(back[first[at] : first[at + 1]], found.shape[1])
            answer = query * found.shape[1] + hit // (k or found.shape[1])
            _put(exact, query, hit, answer, queries.vectors[query] @ block[row])
    exact[found == queries.own[:, None]] = -np.inf
    return exact


def _put(
    exact: NDArray[np.float32],
    query: NDArray[np.int64],
    hit: NDArray[np.int64],
    answer: NDArray[np.int64],
    scores: NDArray[np.float32],
) -> None:
    """Gives a vector's score to the hit of its id, in each answer, that has the worst so far."""
    order = np.lexsort((exact[query, hit], answer))
    first = order[np.unique(answer[order], return_index=True)[1]]
    query, hit = query[first], hit[first]
    exact[query, hit] = np.maximum(exact[query, hit], scores[first])


def sample(pieces: Pieces, count: int, size: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Returns ids int64 `[n]` and vectors float32 `[n, dim]` of `size` of `count`, drawn evenly over all.

    The first ones of sorted data would mislead. The same seed draws the same ones. With no vector at all
    `dim` is 0.
    """
    drawn = np.random.default_rng(seed).choice(count, min(size, count), replace=False, shuffle=False)
    drawn.sort()
    ids: list[NDArray[np.int64]] = []
    vectors: list[NDArray[np.float32]] = []
    passed = 0
    for piece_ids, piece in pieces:
        inside = drawn[slice(*np.searchsorted(drawn, [passed, passed + len(piece)]))] - passed
        ids.append(piece_ids[inside])
        vectors.append(piece[inside].astype(np.float32))
        passed += len(piece)
    if not ids:
        return np.empty(0, dtype=np.int64), np.empty((0, 0), dtype=np.float32)
    return np.concatenate(ids), np.concatenate(vectors)


def _positions(found: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Returns each id once, rising, and where it stands in `found`: `back[first[i]:first[i + 1]]`."""
    flat = found.reshape(-1)
    back = np.argsort(flat, kind="stable")
    wanted, first = np.unique(flat[back], return_index=True)
    return wanted, np.append(first, len(flat)), back


def _blocks(pieces: Pieces) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    for ids, vectors in pieces:
        for start in range(0, len(ids), _BLOCK):
            yield (
                ids[start : start + _BLOCK],
                np.ascontiguousarray(vectors[start : start + _BLOCK], np.float32),
            )


def _tolerance(queries: NDArray[np.float32], longest: float) -> NDArray[np.float32]:
    """Returns what sums of float32 in another order may differ by.

    Rounding errors of `dim` products add up like √dim of them (Higham, Accuracy and Stability of Numerical
    Algorithms, 2.8); four times that is hardly ever passed, and far below what parts two texts.
    """
    spread = 4 * np.sqrt(queries.shape[1]) * np.finfo(np.float32).eps
    bound: NDArray[np.float32] = (spread * np.linalg.norm(queries, axis=1) * longest).astype(np.float32)
    return bound
