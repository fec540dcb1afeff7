"""Figures of a candidate beside the FP32 model, against brute force and by hand."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from build_models.errors import EvaluationError
from build_models.quality.buckets import LENGTHS, cosines, inside, summarize
from build_models.quality.encode import Vectors
from build_models.quality.evaluate import Reference, compare, make_reference
from build_models.quality.figures import Mixed, SetQuality
from build_models.quality.judgements import EvalSet
from build_models.quality.search import overlap, search

Floats = NDArray[np.float32]


def _unit(rows: Floats) -> Floats:
    unit: Floats = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
    return unit


def _vectors(documents: Floats, queries: Floats, document_tokens: Sequence[int] = ()) -> Vectors:
    return Vectors(
        documents,
        queries,
        np.array(document_tokens or [20] * len(documents), dtype=np.int64),
        np.full(len(queries), 5, dtype=np.int64),
    )


def _random(documents: int, queries: int, seed: int) -> Vectors:
    chance = np.random.default_rng(seed)
    return _vectors(
        _unit(chance.standard_normal((documents, 8)).astype(np.float32)),
        _unit(chance.standard_normal((queries, 8)).astype(np.float32)),
    )


def _reference(vectors: Vectors, answers: Sequence[int]) -> Reference:
    data = EvalSet(
        "made",
        {f"d{n}": "" for n in range(len(vectors.documents))},
        {f"q{n}": "" for n in range(len(vectors.queries))},
        {f"q{n}": {f"d{answer}": 1} for n, answer in enumerate(answers)},
    )
    return make_reference(data, vectors)


def _compare(vectors: Vectors, answers: Sequence[int], candidate: Vectors) -> SetQuality:
    return compare(_reference(vectors, answers), candidate)


def _best(vectors: Vectors) -> list[int]:
    rows: list[int] = search(vectors.queries, vectors.documents, 1)[0][:, 0].tolist()
    return rows


# Few distinct values, so that ties are common.
_matrices = hnp.arrays(
    np.float32, st.tuples(st.integers(1, 30), st.just(3)), elements=st.sampled_from([-1, 0, 0.5, 1])
)


@given(_matrices, _matrices, st.integers(1, 40))
def test_search_is_a_full_sort(documents: Floats, queries: Floats, depth: int) -> None:
    """Hits are the best documents in falling order, ties in the documents' order."""
    rows, scores = search(queries, documents, depth)
    for query, hits, points in zip(queries, rows, scores, strict=True):
        all_scores = [float(np.dot(document, query)) for document in documents]
        wanted = sorted(range(len(documents)), key=lambda row: (-all_scores[row], row))[:depth]
        assert hits.tolist() == wanted
        assert points.tolist() == [all_scores[row] for row in wanted]


def test_search_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded by searching a few queries at a time, which changes no hit and no share."""
    vectors, other = _random(60, 25, seed=7), _random(60, 25, seed=8)
    whole, scores = search(vectors.queries, vectors.documents, 10)
    shares = overlap(other.queries, other.documents, whole, scores[:, -1])
    monkeypatch.setattr("build_models.quality.search._BLOCK_SCORES", 4 * 60)
    np.testing.assert_array_equal(search(vectors.queries, vectors.documents, 10)[0], whole)
    np.testing.assert_array_equal(overlap(other.queries, other.documents, whole, scores[:, -1]), shares)


def test_measures_by_hand() -> None:
    """nDCG@10 and recall follow from the rank of the one relevant document."""
    ranking = np.linspace(1, 0.05, 20, dtype=np.float32)  # document n is at rank n + 1
    vectors = _vectors(np.eye(20, dtype=np.float32), np.stack([ranking, ranking, ranking]))
    found = _compare(vectors, [0, 2, 14], vectors)
    assert found.reference["nDCG@10"] == pytest.approx((1 + 1 / math.log2(4) + 0) / 3)
    assert found.reference["R@10"] == pytest.approx(2 / 3)
    assert found.reference["R@100"] == pytest.approx(1)
    assert (found.retention, found.bound, found.overlap) == (1, 1, 1)
    assert (found.documents, found.queries) == (20, 3)


def test_graded_measures_query_by_query() -> None:
    """The values that the bound is drawn from are each query's nDCG@10, grades and all."""
    ranking = np.linspace(1, 0.05, 20, dtype=np.float32)
    vectors = _vectors(np.eye(20, dtype=np.float32), np.stack([ranking, ranking[::-1]]))
    judged = {"q1": {"d18": 3, "d2": 1}, "q0": {"d1": 2, "d3": 1}}
    data = EvalSet("made", {f"d{n}": "" for n in range(20)}, {"q0": "", "q1": ""}, judged)
    found = make_reference(data, vectors)
    first = (2 / math.log2(3) + 1 / math.log2(5)) / (2 + 1 / math.log2(3))
    second = (3 / math.log2(3)) / (3 + 1 / math.log2(3))
    assert found.ndcg.tolist() == pytest.approx([first, second])
    assert found.measures["nDCG@10"] == pytest.approx((first + second) / 2)


@pytest.mark.parametrize("common", ["", "a\0", "a b\n", "\U0001f600"])
def test_ids_may_be_any_text(common: str) -> None:
    """Ids with spaces, line ends or NULs name what they name."""
    vectors = _random(30, 12, seed=11)
    names = [f"{common}{n}" for n in range(30)]
    best = _best(vectors)
    judged = {names[n]: {names[answer]: 1} for n, answer in enumerate(best)}
    texts = dict.fromkeys(names, "")
    data = EvalSet("made", texts, dict.fromkeys(names[:12], ""), judged)
    assert make_reference(data, vectors).measures == _reference(vectors, best).measures
    assert make_reference(data, vectors).ndcg.tolist() == [1] * 12


def test_equal_scores_rank_as_an_index_does() -> None:
    """Of documents with equal scores the first counts as first, whatever their ids."""
    same = _vectors(np.ones((12, 2), dtype=np.float32), np.ones((1, 2), dtype=np.float32))
    assert _reference(same, [0]).measures["nDCG@10"] == 1
    assert _reference(same, [1]).measures["nDCG@10"] == pytest.approx(1 / math.log2(3))


def test_loss_is_seen() -> None:
    """A candidate that ranks the answer second instead of first keeps 1 / log2(3) of nDCG@10."""
    reference = _vectors(np.eye(12, dtype=np.float32), np.eye(12, dtype=np.float32)[:1])
    turned = _vectors(reference.documents, _unit(np.array([[0.5, 1] + [0] * 10], dtype=np.float32)))
    found = _compare(reference, [0], turned)
    assert found.retention == pytest.approx(1 / math.log2(3))
    assert found.query_cosines.min == pytest.approx(0.5 / math.sqrt(1.25))
    assert found.document_cosines.min == pytest.approx(1)


def test_mixed_pairs() -> None:
    """One model's documents with the other's queries show a turn that the candidate alone hides."""
    vectors = _random(200, 40, seed=9)
    turn = np.linalg.qr(np.random.default_rng(10).standard_normal((8, 8)))[0].astype(np.float32)
    turned = _vectors(vectors.documents @ turn, vectors.queries @ turn)
    found = _compare(vectors, _best(vectors), turned)
    assert (found.retention, found.overlap) == (1, 1)
    halves = {mixed.half: mixed for mixed in found.mixed}
    assert list(halves) == list(Mixed)
    for half, documents, queries in (
        (Mixed.FP32_DOCUMENTS, vectors.documents, turned.queries),
        (Mixed.FP32_QUERIES, turned.documents, vectors.queries),
    ):
        alone = _compare(vectors, _best(vectors), _vectors(documents, queries))
        assert halves[half].ndcg == alone.candidate["nDCG@10"]
        assert halves[half].retention == alone.retention < 0.9
        assert halves[half].overlap == alone.overlap < 0.9


def test_overlap_against_sets() -> None:
    """Without ties, overlap is the mean size of the intersection of both models' ten best, over ten."""
    reference, candidate = _random(200, 50, seed=1), _random(200, 50, seed=2)
    mixed = _vectors(_unit(reference.documents + 0.5 * candidate.documents), reference.queries)
    best, _ = search(reference.queries, reference.documents, 10)
    found, _ = search(mixed.queries, mixed.documents, 10)
    wanted = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(best.tolist(), found.tolist(), strict=True)])
    assert 0.2 < wanted < 1
    assert _compare(reference, _best(reference), mixed).overlap == pytest.approx(float(wanted))


def test_ties_are_not_losses() -> None:
    """A copy of a document in the place of its original loses nothing."""
    one = _random(11, 4, seed=3)
    twice = _vectors(np.concatenate([one.documents, one.documents]), one.queries)
    moved = twice.documents + 1e-9 * np.arange(22, dtype=np.float32)[:, None]
    assert _compare(twice, _best(twice), _vectors(moved, one.queries)).overlap == 1


def test_fewer_documents_than_the_depth() -> None:
    """A set of three documents is searched to its end."""
    vectors = _random(3, 2, seed=4)
    assert search(vectors.queries, vectors.documents, 100)[0].shape == (2, 3)
    assert _compare(vectors, _best(vectors), vectors).overlap == 1


def test_cosines_of_known_rows() -> None:
    """Cosines do not depend on length, and percentiles are those of the rows."""
    rows = np.array([[3, 0], [0, 2]], dtype=np.float32)
    found = summarize(cosines(rows, np.array([[1, 0], [1, 1]], dtype=np.float32)))
    assert found.mean == pytest.approx((1 + math.sqrt(0.5)) / 2)
    assert found.min == pytest.approx(math.sqrt(0.5))
    assert found.min < found.p1 < found.mean


@given(hnp.arrays(np.int64, st.integers(0, 50), elements=st.integers(0, 2000)))
def test_every_text_is_in_one_bucket(tokens: NDArray[np.int64]) -> None:
    """Buckets part the lengths: none is missed, none counted twice."""
    counts = sum((inside(tokens, *length).astype(int) for length in LENGTHS), np.zeros(len(tokens), int))
    assert (counts == 1).all()


def test_buckets_show_where_a_candidate_loses() -> None:
    """Queries and documents are told apart by length, each with the figures of their own."""
    documents = np.eye(30, dtype=np.float32)
    vectors = Vectors(
        documents,
        documents[:6],
        np.array([30] * 20 + [300] * 10, dtype=np.int64),
        np.array([8, 8, 8, 9, 9, 1000], dtype=np.int64),
    )
    turned = documents[:6].copy()
    turned[3] = 0.5 * documents[3] + documents[20]  # its answer becomes second
    candidate = Vectors(documents * 2, turned, vectors.document_tokens, vectors.query_tokens)
    short, some, long, longest = _compare(vectors, range(6), candidate).buckets
    assert [(b.first, b.last) for b in (short, some, long, longest)] == [
        (1, 8),
        (9, 32),
        (129, 512),
        (513, None),
    ]
    assert [b.queries for b in (short, some, long, longest)] == [3, 2, 0, 1]
    assert [b.documents for b in (short, some, long, longest)] == [0, 20, 10, 0]
    assert (short.retention, longest.retention) == (1, 1)
    assert some.retention == pytest.approx((1 + 1 / math.log2(3)) / 2)
    assert some.query_cosines is not None
    assert some.query_cosines.min == pytest.approx(0.5 / math.sqrt(1.25))
    assert some.document_cosines is not None
    assert some.document_cosines.min == pytest.approx(1)
    assert (short.document_cosines, long.query_cosines, long.retention, long.overlap) == (None,) * 4


def test_reference_that_finds_nothing() -> None:
    """Where FP32 finds nothing there is nothing to keep: the set is refused, not passed."""
    vectors = _vectors(np.eye(20, dtype=np.float32), np.linspace(1, 0.05, 20, dtype=np.float32)[None])
    with pytest.raises(EvaluationError, match="finds no relevant document of made"):
        _reference(vectors, [19])


@pytest.mark.parametrize("half", ["documents", "queries"])
def test_not_a_number(half: str) -> None:
    """A model whose vectors are not numbers never reaches the gate."""
    vectors = _random(5, 2, seed=5)
    parts = (vectors.documents, vectors.queries)
    {"documents": parts[0], "queries": parts[1]}[half][1, 3] = np.nan
    with pytest.raises(EvaluationError, match="some vectors of made are not finite"):
        _compare(_random(5, 2, seed=5), [0, 1], _vectors(*parts))
    with pytest.raises(EvaluationError, match="some vectors of made are not finite"):
        _reference(_vectors(*parts), [0, 1])
