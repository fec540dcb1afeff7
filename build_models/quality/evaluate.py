"""How much of the FP32 model's quality a candidate keeps: exact search with both, vectors compared."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import ir_measures
import numpy as np
from ir_measures import R, nDCG
from numpy.typing import NDArray

from build_models.errors import EvaluationError
from build_models.quality.judgements import EvalSet

MEASURES = (nDCG @ 10, R @ 10, R @ 100)
GATE_MEASURE = "nDCG@10"
_DEPTH = 100  # hits of a query: as deep as the deepest measure
_OVERLAP_DEPTH = 10
# Scores closer than this are a tie: float32 rounding of a dot product of unit vectors.
_TIE = 1e-6
_BLOCK_SCORES = 1 << 24  # scores held at once, to bound memory: 64 MiB, and twice that for their order


@dataclass(frozen=True)
class Vectors:
    """What one model makes of an evaluation set.

    Attributes:
        documents: float32 `[documents, dim]`.
        queries: float32 `[queries, dim]`.
    """

    documents: NDArray[np.float32]
    queries: NDArray[np.float32]


@dataclass(frozen=True)
class Cosines:
    """Cosines between two models' vectors of the same texts: mean, 1st percentile, least."""

    mean: float
    p1: float
    min: float


@dataclass(frozen=True)
class SetQuality:
    """A candidate beside the FP32 model on one set.

    Attributes:
        name: Name of the set.
        documents: Count of documents.
        queries: Count of judged queries.
        reference: Measure to the FP32 model's value.
        candidate: Measure to the candidate's value.
        retention: Candidate's nDCG@10 over the FP32 model's.
        overlap: Mean share of the candidate's ten best that are among the FP32 model's ten best.
        document_cosines: Of the documents' vectors.
        query_cosines: Of the queries' vectors.
    """

    name: str
    documents: int
    queries: int
    reference: Mapping[str, float]
    candidate: Mapping[str, float]
    retention: float
    overlap: float
    document_cosines: Cosines
    query_cosines: Cosines


def compare(data: EvalSet, reference: Vectors, candidate: Vectors) -> SetQuality:
    """Returns the quality of a candidate's vectors, searched by inner product as an index does.

    Raises:
        EvaluationError: The FP32 model finds nothing, so that nothing can be kept or lost, or vectors are
            not numbers.
    """
    if not (np.isfinite(candidate.documents).all() and np.isfinite(candidate.queries).all()):
        raise EvaluationError(
            f"some vectors of {data.name} are not finite numbers; the model cannot be served"
        )
    wanted = _measure(data, reference)
    found = _measure(data, candidate)
    if wanted[GATE_MEASURE] == 0:
        raise EvaluationError(
            f"the FP32 model finds no relevant document of {data.name} in its ten best; "
            "give other --eval-data"
        )
    return SetQuality(
        name=data.name,
        documents=len(data.documents),
        queries=len(data.queries),
        reference=wanted,
        candidate=found,
        retention=found[GATE_MEASURE] / wanted[GATE_MEASURE],
        overlap=overlap(reference, candidate),
        document_cosines=cosines(reference.documents, candidate.documents),
        query_cosines=cosines(reference.queries, candidate.queries),
    )


def search(vectors: Vectors, depth: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Returns rows and scores of the best documents of each query, best first: `[queries, depth]` each.

    Equal scores keep the documents' order.
    """
    depth = min(depth, len(vectors.documents))
    rows = np.empty((len(vectors.queries), depth), dtype=np.intp)
    scores = np.empty(rows.shape, dtype=np.float32)
    step = max(1, _BLOCK_SCORES // len(vectors.documents))
    for start in range(0, len(rows), step):
        block = vectors.queries[start : start + step] @ vectors.documents.T
        best = np.argsort(-block, axis=1, kind="stable")[:, :depth]
        rows[start : start + len(best)] = best
        scores[start : start + len(best)] = np.take_along_axis(block, best, axis=1)
    return rows, scores


def overlap(reference: Vectors, candidate: Vectors) -> float:
    """Returns the mean share of the candidate's ten best that the FP32 model ranks as high, ties allowed."""
    rows, _ = search(candidate, _OVERLAP_DEPTH)
    _, best = search(reference, _OVERLAP_DEPTH)
    scores = np.einsum("qd,qkd->qk", reference.queries, reference.documents[rows])
    return float((scores >= best[:, -1:] - _TIE).mean())


def cosines(reference: NDArray[np.float32], candidate: NDArray[np.float32]) -> Cosines:
    """Returns the distribution of cosines between rows of two matrices `[rows, dim]`."""
    norms = np.linalg.norm(reference, axis=1) * np.linalg.norm(candidate, axis=1)
    values = np.einsum("nd,nd->n", reference, candidate) / np.maximum(norms, np.finfo(np.float32).tiny)
    return Cosines(float(values.mean()), float(np.percentile(values, 1)), float(values.min()))


def _measure(data: EvalSet, vectors: Vectors) -> dict[str, float]:
    rows, scores = search(vectors, _DEPTH)
    documents: Sequence[str] = list(data.documents)
    run = {
        query: {documents[row]: float(score) for row, score in zip(hits, points, strict=True)}
        for query, hits, points in zip(data.queries, rows, scores, strict=True)
    }
    values = ir_measures.calc_aggregate(MEASURES, data.judgements, run)
    return {str(measure): float(values[measure]) for measure in MEASURES}
