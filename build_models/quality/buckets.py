"""Figures by the length of a text: what a mean over a set hides. Pure."""

import numpy as np
from numpy.typing import NDArray

from build_models.quality.figures import Bucket, Cosines

# First and last tokens: a keyword, a question, a paragraph, a page, and what only long models read.
LENGTHS: tuple[tuple[int, int | None], ...] = ((1, 8), (9, 32), (33, 128), (129, 512), (513, None))


def cosines(reference: NDArray[np.float32], candidate: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns the cosine between the same rows of two matrices `[rows, dim]`: `[rows]`, 0 for a null row."""
    norms = np.linalg.norm(reference, axis=1) * np.linalg.norm(candidate, axis=1)
    products = np.einsum("nd,nd->n", reference, candidate)
    values: NDArray[np.float32] = products / np.maximum(norms, np.finfo(np.float32).tiny)
    return values


def summarize(values: NDArray[np.float32]) -> Cosines:
    """Returns the distribution of cosines `[rows]`, at least one."""
    return Cosines(float(values.mean()), float(np.percentile(values, 1)), float(values.min()))


def inside(tokens: NDArray[np.int64], first: int, last: int | None) -> NDArray[np.bool_]:
    """Returns which texts have `first` to `last` tokens (None: no limit); an empty text counts as short."""
    low = tokens >= first if first > 1 else np.ones(len(tokens), dtype=np.bool_)
    return low if last is None else low & (tokens <= last)


def by_length(
    query_tokens: NDArray[np.int64],
    reference_ndcg: NDArray[np.float64],
    candidate_ndcg: NDArray[np.float64],
    shares: NDArray[np.float64],
    query_cosines: NDArray[np.float32],
    document_tokens: NDArray[np.int64],
    document_cosines: NDArray[np.float32],
) -> tuple[Bucket, ...]:
    """Returns the buckets that hold a text, from short to long.

    Args:
        query_tokens: int64 `[queries]`.
        reference_ndcg: float64 `[queries]`, of the FP32 model.
        candidate_ndcg: float64 `[queries]`.
        shares: float64 `[queries]`, overlap of each query.
        query_cosines: float32 `[queries]`.
        document_tokens: int64 `[documents]`.
        document_cosines: float32 `[documents]`.
    """
    buckets = []
    for first, last in LENGTHS:
        asked, held = inside(query_tokens, first, last), inside(document_tokens, first, last)
        wanted = float(reference_ndcg[asked].sum())
        buckets.append(
            Bucket(
                first=first,
                last=last,
                queries=int(asked.sum()),
                retention=float(candidate_ndcg[asked].sum()) / wanted if wanted else None,
                overlap=float(shares[asked].mean()) if asked.any() else None,
                query_cosines=summarize(query_cosines[asked]) if asked.any() else None,
                documents=int(held.sum()),
                document_cosines=summarize(document_cosines[held]) if held.any() else None,
            )
        )
    return tuple(bucket for bucket in buckets if bucket.queries or bucket.documents)
