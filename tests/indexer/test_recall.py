"""Recall, its exact answers and the choice of a setting: against brute force, and under Hypothesis."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from indexer.config import Wishes
from indexer.index import ground_truth
from indexer.index.ground_truth import NOBODY, Queries
from indexer.index.recall import Point, is_level, ladder, pareto, pick, recall_of

COUNT, DIM, K = 1000, 8, 5
IDS = np.arange(COUNT, dtype=np.int64) * 7 + 3


@pytest.fixture(scope="module")
def vectors() -> Any:
    """Random vectors, float32 `[COUNT, DIM]`."""
    return np.random.default_rng(3).standard_normal((COUNT, DIM)).astype(np.float32)


def _pieces(vectors: Any, size: int) -> Iterator[tuple[Any, Any]]:
    for start in range(0, len(vectors), size):
        yield IDS[start : start + size][: len(vectors) - start], vectors[start : start + size]


@pytest.mark.parametrize("size", [1, 64, COUNT])
@pytest.mark.parametrize("kind", ["float32", "float16"])
def test_exact_answers_are_those_of_brute_force(
    size: int, kind: str, vectors: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In pieces and blocks of any size, the best k are those of one large product."""
    monkeypatch.setattr(ground_truth, "_BLOCK", 50)
    stored = vectors.astype(kind)
    queries = Queries.foreign(vectors[:40] + np.float32(0.01))
    truth = ground_truth.nearest(queries, _pieces(stored, size), K)
    expected = queries.vectors.astype(np.float64) @ stored.astype(np.float64).T
    order = np.argsort(-expected, axis=1)[:, :K]
    assert np.array_equal(truth.ids, IDS[order])
    assert np.allclose(truth.scores, np.take_along_axis(expected, order, 1), atol=1e-5)
    assert (np.abs(truth.scores - np.take_along_axis(expected, order, 1)) <= truth.tolerance[:, None]).all()


def test_a_held_out_vector_is_no_answer_to_itself(vectors: Any) -> None:
    """Its own id is left out; a copy of it under another id is the best answer."""
    twice = vectors.copy()
    twice[[5, 900]] = 9 * vectors[5]  # longer than all others: each other's best answer
    ids, drawn = ground_truth.sample(_pieces(twice, 64), COUNT, COUNT, 0)
    assert np.array_equal(ids, IDS)
    queries = Queries(drawn, ids)
    truth = ground_truth.nearest(queries, _pieces(twice, 64), K)
    assert not (truth.ids == queries.own[:, None]).any()
    assert IDS[900] in truth.ids[5]
    assert IDS[5] in truth.ids[900]


def test_fewer_vectors_than_hits(vectors: Any) -> None:
    """What is not there is nobody, and finding all that is there is a recall of 1."""
    queries = Queries.foreign(vectors[:3])
    truth = ground_truth.nearest(queries, _pieces(vectors[:2], 2), K)
    assert (truth.ids[:, 2:] == NOBODY).all()
    exact = ground_truth.scores_of(queries, truth.ids, _pieces(vectors[:2], 2))
    assert recall_of(exact, truth) == 1
    assert recall_of(exact[:, :1], truth) == 0.5
    nothing = ground_truth.nearest(queries, iter([]), K)
    assert recall_of(exact, nothing) == 1


def test_the_sample_is_the_same_whatever_the_pieces(vectors: Any) -> None:
    """The seed alone decides which vectors are drawn."""
    one, other = (ground_truth.sample(_pieces(vectors, size), COUNT, 100, 9) for size in (3, COUNT))
    assert np.array_equal(one[0], other[0])
    assert np.array_equal(one[1], vectors[(one[0] - 3) // 7])


@given(
    hnp.arrays(np.float32, (60, 3), elements=st.sampled_from([-1.0, 0.0, 0.5, 1.0])),
    st.integers(1, 8),
    st.randoms(use_true_random=False),
)
def test_any_of_equal_documents_counts(stored: Any, k: int, random: Any) -> None:
    """With many equal scores, brute force in any order of ids has recall 1; a worse hit costs its share."""
    queries = Queries.foreign(stored[:7] + np.float32(0.25))
    truth = ground_truth.nearest(queries, _pieces(stored, 60), k)
    shuffled = list(range(60))
    random.shuffle(shuffled)
    scores = queries.vectors @ stored.T
    order = np.argsort(-scores[:, shuffled], axis=1, kind="stable")[:, :k]
    found = IDS[np.array(shuffled)[order]]
    exact = ground_truth.scores_of(queries, found, _pieces(stored, 60))
    assert np.allclose(exact, np.take_along_axis(scores, (found - 3) // 7, 1), atol=1e-6)
    assert recall_of(exact, truth) == 1
    if (scores.min(axis=1) < truth.scores[:, -1] - 0.1).all():
        found[:, 0] = IDS[scores.argmin(axis=1)]
        worse = ground_truth.scores_of(queries, found, _pieces(stored, 60))
        assert recall_of(worse, truth) == pytest.approx(1 - 1 / k)


def test_scores_of_nobody_and_of_strangers(vectors: Any) -> None:
    """Ids that no vector has, and the place of no hit, never count as found."""
    queries = Queries.foreign(vectors[:2])
    found = np.array([[NOBODY, IDS[0], 10**9], [IDS[1], NOBODY, IDS[1]]])
    exact = ground_truth.scores_of(queries, found, _pieces(vectors, 10))
    assert np.isinf(exact).tolist() == [[True, False, True], [False, True, True]]  # once is enough
    assert exact[1, 0] == pytest.approx(vectors[1] @ vectors[1])


@given(st.integers(1, 50), st.integers(0, 100_000))
def test_the_ladder_rises_from_end_to_end(least: int, more: int) -> None:
    """Every rung is above the one before, at most twice as high; both ends are in it."""
    rungs = list(ladder(least, least + more))
    assert rungs[0] == least
    assert rungs[-1] == least + more
    assert all(low < high <= 2 * low for low, high in pairwise(rungs))
    assert len(rungs) <= 2 * np.log2((least + more) / least) + 4


def test_a_series_is_level_when_rungs_bring_nothing() -> None:
    """All found is the end; so are two rungs without gain, but not a slow start."""
    assert is_level([0.9, 1.0])
    assert is_level([0.5, 0.8, 0.9, 0.9001, 0.9002])
    assert not is_level([0.5, 0.8, 0.9])
    assert not is_level([0.0, 0.0, 0.0, 0.0, 0.0])
    assert not is_level([])


points = st.lists(
    st.builds(
        lambda effort, recall, ms: Point({"nprobe": effort}, recall, 1000 / ms, ms, 2 * ms),
        st.integers(1, 99),
        st.floats(0, 1, allow_subnormal=False),
        st.floats(0.01, 100, allow_subnormal=False),
    ),
    min_size=1,
)


@given(points)
def test_what_is_on_the_front_is_beaten_by_nothing(measured: list[Point]) -> None:
    """Brute force over all pairs: a point is kept exactly when no other is better in both."""
    front = pareto(measured)

    def beaten(point: Point) -> bool:
        return any(
            other.recall >= point.recall
            and other.queries_per_second >= point.queries_per_second
            and (other.recall, other.queries_per_second) != (point.recall, point.queries_per_second)
            for other in measured
        )

    assert not any(beaten(point) for point in front)
    best = {(point.recall, point.queries_per_second) for point in measured if not beaten(point)}
    assert best == {(point.recall, point.queries_per_second) for point in front}


@given(
    points,
    st.none() | st.floats(0.01, 1, allow_subnormal=False),
    st.none() | st.floats(0.01, 200, allow_subnormal=False),
    st.booleans(),
)
def test_the_pick_meets_the_wishes_or_says_what_could(
    measured: list[Point], target: float | None, limit: float | None, by_time: bool
) -> None:
    """A pick without complaint meets all wishes, and nothing that does is quicker; a complaint is true."""
    wishes = Wishes(None, target, limit)
    chosen = pick(measured, wishes, by_time=by_time)
    good = [
        point
        for point in measured
        if (target is None or point.recall >= target) and (limit is None or point.p99_ms <= limit)
    ]
    assert bool(good) == (not chosen.unmet)
    if not good:
        assert chosen.point in measured
        return
    assert chosen.point in good
    if target is None:
        assert chosen.point.recall == max(point.recall for point in good)
    elif by_time:
        assert chosen.point.queries_per_second == max(point.queries_per_second for point in good)
    else:
        assert chosen.point == good[0]


def test_complaints_name_the_nearest() -> None:
    """A recall out of reach, one out of time, and a time out of reach each name what can be had."""
    measured = [Point({"nprobe": n}, r, 1000 / n, n / 2, n) for n, r in ((1, 0.5), (4, 0.8), (16, 0.9))]
    assert pick(measured, Wishes(None, 0.95)).unmet == (
        "recall 0.95 is not reached: the nearest is recall 0.9000 with nprobe 16"
    )
    assert pick(measured, Wishes(None, 0.9, 5)).unmet == (
        "recall 0.9 within 5 ms is not reached: the nearest is recall 0.8000 with nprobe 4; "
        "recall 0.9000 with nprobe 16 would take 16 ms"
    )
    assert pick(measured, Wishes(None, None, 0.5)).unmet == (
        "0.5 ms is not reached: the quickest is recall 0.5000 with nprobe 1 at 1 ms "
        "(the most is recall 0.9000 with nprobe 16 at 16 ms)"
    )
    assert pick(measured, Wishes(None, 0.7, None)).point.setting == {"nprobe": 4}
    assert pick(measured, Wishes(None, None, 5)).point.setting == {"nprobe": 4}
