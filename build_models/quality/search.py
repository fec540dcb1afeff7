"""Exact search by inner product, as a flat index does it, in bounded memory."""

import numpy as np
from numpy.typing import NDArray

# Scores closer than this are a tie: float32 rounding of a dot product of unit vectors.
_TIE = 1e-6
_BLOCK_SCORES = 1 << 24  # scores held at once, to bound memory: 64 MiB, and as much again to select from


def search(
    queries: NDArray[np.float32], documents: NDArray[np.float32], depth: int
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Returns rows and scores of the best documents of each query, best first: `[queries, depth]` each.

    Equal scores keep the documents' order.
    """
    depth = min(depth, len(documents))
    rows = np.empty((len(queries), depth), dtype=np.intp)
    scores = np.empty(rows.shape, dtype=np.float32)
    step = max(1, _BLOCK_SCORES // len(documents))
    for start in range(0, len(rows), step):
        block = queries[start : start + step] @ documents.T
        best = _best(block, depth)
        rows[start : start + len(best)] = best
        scores[start : start + len(best)] = np.take_along_axis(block, best, axis=1)
    return rows, scores


def overlap(
    queries: NDArray[np.float32],
    documents: NDArray[np.float32],
    hits: NDArray[np.intp],
    last: NDArray[np.float32],
) -> NDArray[np.float64]:
    """Returns the share of each query's hits that its model ranks among its best, ties allowed: `[queries]`.

    Args:
        queries: float32 `[queries, dim]`, of the model that is the measure.
        documents: float32 `[documents, dim]`, of the same model.
        hits: Rows `[queries, depth]` that another model found.
        last: float32 `[queries]`, the score of the worst hit that the measuring model itself would give.
    """
    shares = np.empty(len(queries))
    step = max(1, _BLOCK_SCORES // max(1, hits.shape[1] * documents.shape[1]))
    for start in range(0, len(queries), step):
        part = slice(start, start + step)
        scores = np.einsum("qd,qkd->qk", queries[part], documents[hits[part]])
        shares[part] = (scores >= last[part, None] - _TIE).mean(axis=1)
    return shares


def _best(scores: NDArray[np.float32], depth: int) -> NDArray[np.intp]:
    """Returns the columns of the `depth` highest scores of each row, as a stable full sort would."""
    last = scores.shape[1] - depth
    least = np.partition(scores, last, axis=1)[:, last]
    # All that score as high as the last hit, in the documents' order: more than `depth` only at a tie.
    in_row, column = np.nonzero(scores >= least[:, None])
    ends = np.cumsum(np.bincount(in_row, minlength=len(scores)))
    best = np.empty((len(scores), depth), dtype=np.intp)
    for row, (start, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
        found = column[start:end]
        best[row] = found[np.argsort(-scores[row, found], kind="stable")[:depth]]
    return best
