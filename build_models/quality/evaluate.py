"""How much of the FP32 model's quality a candidate keeps: exact search with both, vectors compared.

The FP32 half is computed once for each set (`make_reference`), and each candidate beside it (`compare`).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import ir_measures
import numpy as np
from ir_measures import R, nDCG
from numpy.typing import NDArray

from build_models.errors import EvaluationError
from build_models.quality.bootstrap import retention_bound
from build_models.quality.buckets import by_length, cosines, summarize
from build_models.quality.encode import Vectors
from build_models.quality.figures import GATE_MEASURE, Mixed, MixedQuality, SetQuality
from build_models.quality.judgements import EvalSet
from build_models.quality.search import overlap, search

_NDCG = nDCG @ 10
MEASURES = (_NDCG, R @ 10, R @ 100)
_DEPTH = 100  # hits of a query: as deep as the deepest measure
_OVERLAP_DEPTH = 10


@dataclass(frozen=True)
class Reference:
    """The FP32 model on one set: what each candidate is compared with; made by `make_reference`.

    Attributes:
        data: The set.
        vectors: The FP32 model's.
        judgements: The set's, with row numbers for ids: trec_eval's are C strings, which end at a NUL.
        measures: Measure to value over all queries.
        ndcg: float64 `[queries]`, nDCG@10 of each query.
        last: float32 `[queries]`, score of each query's tenth hit.
    """

    data: EvalSet
    vectors: Vectors
    judgements: Mapping[str, Mapping[str, int]]
    measures: Mapping[str, float]
    ndcg: NDArray[np.float64]
    last: NDArray[np.float32]


def make_reference(data: EvalSet, vectors: Vectors) -> Reference:
    """Searches a set with the FP32 model's vectors.

    Raises:
        EvaluationError: It finds nothing, so that nothing can be kept or lost, or vectors are not numbers.
    """
    _check_finite(data, vectors)
    rows, scores = search(vectors.queries, vectors.documents, _DEPTH)
    judgements = _by_row(data)
    measures, ndcg = _measure(judgements, rows, MEASURES)
    if measures[GATE_MEASURE] == 0:
        raise EvaluationError(
            f"the FP32 model finds no relevant document of {data.name} in its ten best; "
            "give other --eval-data"
        )
    return Reference(data, vectors, judgements, measures, ndcg, scores[:, :_OVERLAP_DEPTH][:, -1])


def compare(reference: Reference, candidate: Vectors) -> SetQuality:
    """Returns the quality of a candidate's vectors, searched by inner product as an index does.

    Raises:
        EvaluationError: Vectors are not numbers.
    """
    data, wanted = reference.data, reference.vectors
    _check_finite(data, candidate)
    rows, _ = search(candidate.queries, candidate.documents, _DEPTH)
    measures, ndcg = _measure(reference.judgements, rows, MEASURES)
    shares = _shares(reference, rows)
    query_cosines = cosines(wanted.queries, candidate.queries)
    document_cosines = cosines(wanted.documents, candidate.documents)
    return SetQuality(
        name=data.name,
        documents=len(data.documents),
        queries=len(data.queries),
        reference=reference.measures,
        candidate=measures,
        retention=measures[GATE_MEASURE] / reference.measures[GATE_MEASURE],
        bound=retention_bound(reference.ndcg, ndcg),
        overlap=float(shares.mean()),
        mixed=tuple(_mix(reference, candidate, half) for half in Mixed),
        document_cosines=summarize(document_cosines),
        query_cosines=summarize(query_cosines),
        buckets=by_length(
            wanted.query_tokens,
            reference.ndcg,
            ndcg,
            shares,
            query_cosines,
            wanted.document_tokens,
            document_cosines,
        ),
    )


def _mix(reference: Reference, candidate: Vectors, half: Mixed) -> MixedQuality:
    wanted = reference.vectors
    if half is Mixed.FP32_DOCUMENTS:
        rows, _ = search(candidate.queries, wanted.documents, _OVERLAP_DEPTH)
    else:
        rows, _ = search(wanted.queries, candidate.documents, _OVERLAP_DEPTH)
    measures, _ = _measure(reference.judgements, rows, (_NDCG,))
    ndcg = measures[GATE_MEASURE]
    return MixedQuality(
        half, ndcg, ndcg / reference.measures[GATE_MEASURE], float(_shares(reference, rows).mean())
    )


def _shares(reference: Reference, rows: NDArray[np.intp]) -> NDArray[np.float64]:
    vectors = reference.vectors
    return overlap(vectors.queries, vectors.documents, rows[:, :_OVERLAP_DEPTH], reference.last)


def _check_finite(data: EvalSet, vectors: Vectors) -> None:
    if not (np.isfinite(vectors.documents).all() and np.isfinite(vectors.queries).all()):
        raise EvaluationError(
            f"some vectors of {data.name} are not finite numbers; the model cannot be served"
        )


def _by_row(data: EvalSet) -> dict[str, dict[str, int]]:
    rows = {document: str(row) for row, document in enumerate(data.documents)}
    return {
        str(row): {rows[document]: grade for document, grade in data.judgements[query].items()}
        for row, query in enumerate(data.queries)
    }


def _measure(
    judgements: Mapping[str, Mapping[str, int]],
    rows: NDArray[np.intp],
    measures: tuple[ir_measures.measures.Measure, ...],
) -> tuple[dict[str, float], NDArray[np.float64]]:
    """Returns each measure over all queries, and nDCG@10 of each query `[queries]`."""
    # Points by rank: equal scores would be ordered anew, by id, where an index keeps the rows' order.
    points = range(rows.shape[1], 0, -1)
    run = {
        query: dict(zip(map(str, hits), points, strict=True))
        for query, hits in zip(judgements, rows.tolist(), strict=True)
    }
    overall, single = ir_measures.calc(measures, judgements, run)
    ndcg = {metric.query_id: metric.value for metric in single if metric.measure == _NDCG}
    return (
        {str(measure): float(overall[measure]) for measure in measures},
        np.array([ndcg[query] for query in judgements]),
    )
