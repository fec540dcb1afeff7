"""The gate's figures, against brute force and by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from build_models.errors import EvaluationError
from build_models.quality.evaluate import Vectors, compare, cosines, overlap, search
from build_models.quality.gate import refusal, worst
from build_models.quality.judgements import EvalSet


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
    return unit


def _vectors(documents: int, queries: int, seed: int) -> Vectors:
    chance = np.random.default_rng(seed)
    return Vectors(
        _unit(chance.standard_normal((documents, 8)).astype(np.float32)),
        _unit(chance.standard_normal((queries, 8)).astype(np.float32)),
    )


def _set(vectors: Vectors, answers: list[int]) -> EvalSet:
    return EvalSet(
        "made",
        {f"d{n}": "" for n in range(len(vectors.documents))},
        {f"q{n}": "" for n in range(len(vectors.queries))},
        {f"q{n}": {f"d{answer}": 1} for n, answer in enumerate(answers)},
    )


# Few distinct values, so that ties are common.
_matrices = hnp.arrays(
    np.float32, st.tuples(st.integers(1, 30), st.just(3)), elements=st.sampled_from([-1, 0, 0.5, 1])
)


@given(_matrices, _matrices, st.integers(1, 40))
def test_search_is_a_full_sort(
    documents: NDArray[np.float32], queries: NDArray[np.float32], depth: int
) -> None:
    """Hits are the best documents in falling order, ties in the documents' order."""
    rows, scores = search(Vectors(documents, queries), depth)
    for query, hits, points in zip(queries, rows, scores, strict=True):
        all_scores = [float(np.dot(document, query)) for document in documents]
        wanted = sorted(range(len(documents)), key=lambda row: (-all_scores[row], row))[:depth]
        assert hits.tolist() == wanted
        assert points.tolist() == [all_scores[row] for row in wanted]


def test_measures_by_hand() -> None:
    """nDCG@10 and recall follow from the rank of the one relevant document."""
    documents = np.eye(20, dtype=np.float32)
    ranking = np.linspace(1, 0.05, 20, dtype=np.float32)  # document n is at rank n + 1
    vectors = Vectors(documents, np.stack([ranking, ranking, ranking]))
    found = compare(_set(vectors, [0, 2, 14]), vectors, vectors)
    assert found.reference["nDCG@10"] == pytest.approx((1 + 1 / math.log2(4) + 0) / 3)
    assert found.reference["R@10"] == pytest.approx(2 / 3)
    assert found.reference["R@100"] == pytest.approx(1)
    assert (found.retention, found.overlap) == (1, 1)
    assert (found.documents, found.queries) == (20, 3)


def test_loss_is_seen() -> None:
    """A candidate that ranks the answer second instead of first keeps 1 / log2(3) of nDCG@10."""
    reference = Vectors(np.eye(12, dtype=np.float32), np.eye(12, dtype=np.float32)[:1])
    turned = Vectors(reference.documents, _unit(np.array([[0.5, 1] + [0] * 10], dtype=np.float32)))
    found = compare(_set(reference, [0]), reference, turned)
    assert found.retention == pytest.approx(1 / math.log2(3))
    assert found.query_cosines.min == pytest.approx(0.5 / math.sqrt(1.25))
    assert found.document_cosines.min == pytest.approx(1)
    reason = refusal([found], 0.99, 0)
    assert reason is not None
    assert "made falls from 1.0000 to 0.6309" in reason
    assert refusal([found], 0.63, 0) is None


def test_worst_set_decides() -> None:
    """One set that keeps everything does not save a candidate that fails another."""
    reference = Vectors(np.eye(12, dtype=np.float32), np.eye(12, dtype=np.float32)[:1])
    turned = Vectors(reference.documents, np.roll(reference.queries, 1, axis=1) + 0.5 * reference.queries)
    good = compare(_set(reference, [0]), reference, reference)
    bad = compare(_set(reference, [0]), reference, turned)
    assert worst([good, bad]) is bad
    assert refusal([good, bad], 0.99, 0) is not None
    assert refusal([good], 1.0, 1 - 1e-6) is None


def test_luck_does_not_pass() -> None:
    """A candidate that ranks as FP32 does, with vectors that have nothing to do with FP32's, is refused."""
    vectors = _vectors(40, 6, seed=6)
    mirrored = Vectors(-vectors.documents, -vectors.queries)
    found = compare(_set(vectors, search(vectors, 1)[0][:, 0].tolist()), vectors, mirrored)
    assert found.retention == 1
    reason = refusal([found], 0.99, 0.95)
    assert reason is not None
    assert "mean cosine -1.0000, wanted 0.9500" in reason


def test_overlap_against_sets() -> None:
    """Without ties, overlap is the mean size of the intersection of both models' ten best, over ten."""
    reference, candidate = _vectors(200, 50, seed=1), _vectors(200, 50, seed=2)
    mixed = Vectors(_unit(reference.documents + 0.5 * candidate.documents), reference.queries)
    best, _ = search(reference, 10)
    found, _ = search(mixed, 10)
    wanted = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(best.tolist(), found.tolist(), strict=True)])
    assert 0.2 < wanted < 1
    assert overlap(reference, mixed) == pytest.approx(float(wanted))


def test_ties_are_not_losses() -> None:
    """A copy of a document in the place of its original loses nothing."""
    one = _vectors(11, 4, seed=3)
    twice = Vectors(np.concatenate([one.documents, one.documents]), one.queries)
    swapped = Vectors(twice.documents + 1e-9 * np.arange(22, dtype=np.float32)[:, None], one.queries)
    assert overlap(twice, swapped) == 1


def test_fewer_documents_than_the_depth() -> None:
    """A set of three documents is searched to its end."""
    vectors = _vectors(3, 2, seed=4)
    assert search(vectors, 100)[0].shape == (2, 3)
    assert overlap(vectors, vectors) == 1


def test_cosines_of_known_rows() -> None:
    """Cosines do not depend on length, and percentiles are those of the rows."""
    rows = np.array([[3, 0], [0, 2]], dtype=np.float32)
    found = cosines(rows, np.array([[1, 0], [1, 1]], dtype=np.float32))
    assert found.mean == pytest.approx((1 + math.sqrt(0.5)) / 2)
    assert found.min == pytest.approx(math.sqrt(0.5))
    assert found.min < found.p1 < found.mean


def test_reference_that_finds_nothing() -> None:
    """Where FP32 finds nothing there is nothing to keep: the set is refused, not passed."""
    vectors = Vectors(np.eye(20, dtype=np.float32), np.linspace(1, 0.05, 20, dtype=np.float32)[None])
    with pytest.raises(EvaluationError, match="finds no relevant document of made"):
        compare(_set(vectors, [19]), vectors, vectors)


def test_not_a_number() -> None:
    """A candidate whose vectors are not numbers never reaches the gate."""
    vectors = _vectors(5, 2, seed=5)
    broken = Vectors(vectors.documents * np.float32("nan"), vectors.queries)
    with pytest.raises(EvaluationError, match="not finite"):
        compare(_set(vectors, [0, 1]), vectors, broken)
