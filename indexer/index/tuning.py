"""Measures what an index finds, and how quickly, at settings of rising effort; chooses and keeps one.

Queries go one after the other on one core, as a search does that serves people. The first `_WARM` of each
setting are not counted. Recall is of vectors: of a document with chunks each chunk is one, and as a query a
chunk's whole document is left out. Dead rows are neither found nor wanted.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from indexer.config import Wishes
from indexer.index import ground_truth
from indexer.index.faiss_index import VectorIndex, one_thread
from indexer.index.ground_truth import NOBODY, Queries, Read, Truth
from indexer.index.open_index import OpenIndex
from indexer.index.recall import Pick, Point, Setting, is_level, ladder, pick, recall_of

QUERIES = 1000  # that tune an index right after it was built; leaves recall open by some .005
HITS = 10  # wanted of each of them
SEED = 11  # of the sample; arbitrary
_WARM = 10  # queries before a setting is timed: lists and links come into the caches; arbitrary
_FACTORS = (4, 8, 16, 32)  # candidates for each hit that are compared by better codes
# Vectors scanned by short codes in the time in which one is compared by its better code: some 50 in 1 µs, as
# measured at 100,000 vectors of 384 values.
_BETTER = 50
_MOST_EF = 4096  # candidates of a graph; beyond that nothing is found that lists do not find sooner

Clock = Callable[[], float]  # seconds


@dataclass(frozen=True)
class Evaluation:
    """What was measured.

    Attributes:
        points: One for each setting, in the order of effort.
        queries: How many were asked.
        held_out: Whether they were vectors of the index, each taken out of its own answer.
        k: Hits wanted of each.
    """

    points: tuple[Point, ...]
    queries: int
    held_out: bool
    k: int


@dataclass(frozen=True)
class Tuning:
    """How the search setting of an index was chosen; part of `meta.json`.

    Attributes:
        target_recall: As wished.
        max_query_ms: As wished.
        recall: Recall@k measured with the setting.
        k: Hits wanted of each query.
        queries: How many were asked.
        held_out: Whether they were vectors of the index, each taken out of its own answer.
        unmet: What is wished and not met; "" when all is.
    """

    target_recall: float | None
    max_query_ms: float | None
    recall: float
    k: int
    queries: int
    held_out: bool
    unmet: str = ""

    def answers(self, wishes: Wishes) -> bool:
        """Returns whether these are the wishes that it was made for."""
        return (self.target_recall, self.max_query_ms) == (wishes.target_recall, wishes.max_query_ms)


def settings(
    index: VectorIndex | OpenIndex, k: int, also: Setting | None = None
) -> Iterator[list[dict[str, int]]]:
    """Yields series of settings, each of rising effort; one empty setting for an index that knows none.

    An index that compares its best candidates once more has a series for each number of candidates. `also`
    joins a series of one parameter, or is a series of its own.
    """
    if not index.lists and not index.graph:
        yield [{}]
        return
    name = "nprobe" if index.lists else "efSearch"
    rungs = set(ladder(1, index.lists) if index.lists else ladder(k, max(k, min(index.count, _MOST_EF))))
    if not index.refined:
        yield [
            {name: value} for value in sorted({*rungs, *(v for n, v in (also or {}).items() if n == name)})
        ]
        return
    for factor in _FACTORS:
        yield [{name: value, "k_factor_rf": factor} for value in sorted(rungs)]
    if also:
        yield [dict(also)]


def effort(setting: Setting, index: VectorIndex | OpenIndex, k: int) -> float:
    """Returns about how many vectors a search compares; settings of one index are ordered by it."""
    scanned = setting.get("nprobe", 0) * index.count / max(1, index.lists)
    return scanned + setting.get("efSearch", 0) + _BETTER * k * setting.get("k_factor_rf", 0)


def evaluate(
    index: VectorIndex | OpenIndex,
    queries: Queries,
    read: Read,
    k: int,
    clock: Clock = time.thread_time,
    also: Setting | None = None,
    enough: float | None = None,
) -> Evaluation:
    """Measures an index, setting by setting, until more effort finds no more.

    Args:
        index: The index; its search parameters are changed.
        queries: What to search for, at least one.
        read: Starts a pass over all vectors; there are two.
        k: Hits wanted of each query.
        clock: Seconds. CPU time of the thread hardly sees what else the machine does; wall time sees waits
            for a disk.
        also: A setting to measure among the others, as the one in use.
        enough: Recall beyond which more effort is of no interest; None to see what can be had.
    """
    truth = ground_truth.nearest(queries, read(), k)
    measured: list[tuple[Setting, NDArray[np.int64], NDArray[np.float64]]] = []
    most: list[float] = []  # recall that each series reached
    with one_thread():
        for series in settings(index, k, also):
            if is_level(most, rungs=1) and also not in series:
                continue
            recalls: list[float] = []
            for setting in series:
                done = is_level(recalls) or (enough is not None and recalls and recalls[-1] >= enough)
                if done and setting != also:
                    continue
                index.configure(setting)
                found, seconds = _asked(index, queries, truth, k, clock)
                measured.append((setting, found, seconds))
                recalls.append(_by_id(found, truth))
            most.append(max(recalls))
    measured.sort(key=lambda one: effort(one[0], index, k))
    answers = np.concatenate([found for _, found, _ in measured], axis=1)
    exact = ground_truth.scores_of(queries, answers, read(), k)
    points = tuple(
        _point(setting, recall_of(exact[:, at * k : (at + 1) * k], truth), seconds)
        for at, (setting, _, seconds) in enumerate(measured)
    )
    return Evaluation(points, len(queries.vectors), queries.held_out, k)


def tune(evaluation: Evaluation, wishes: Wishes) -> tuple[Pick, Tuning]:
    """Returns the setting to use, and how it was chosen.

    With a recall alone the least effort that reaches it is taken, which depends on no clock: the same vectors
    give the same setting.
    """
    chosen = pick(evaluation.points, wishes, by_time=wishes.max_query_ms is not None)
    return chosen, Tuning(
        wishes.target_recall,
        wishes.max_query_ms,
        round(chosen.point.recall, 4),
        evaluation.k,
        evaluation.queries,
        evaluation.held_out,
        chosen.unmet,
    )


def held_out(read: Read, count: int, size: int = QUERIES, seed: int = SEED) -> Queries:
    """Returns vectors of the index as queries, drawn evenly over all by the seed."""
    ids, vectors = ground_truth.sample(read(), count, size, seed)
    return Queries(vectors, ids)


def _asked(
    index: VectorIndex | OpenIndex, queries: Queries, truth: Truth, k: int, clock: Clock
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Returns the hits of each query, int64 `[queries, k]`, its own vectors left out, and its seconds."""
    for vector in queries.vectors[:_WARM]:
        index.search(vector[None], k)
    found = np.full((len(queries.vectors), k), NOBODY, dtype=np.int64)
    seconds = np.empty(len(queries.vectors))
    for at, vector in enumerate(queries.vectors):
        start = clock()
        _, (ids,) = index.search(vector[None], k + int(truth.own[at]))
        seconds[at] = clock() - start
        others = ids[ids != queries.own[at]][:k] if queries.held_out else ids
        found[at, : len(others)] = others
    return found, seconds


def _by_id(found: NDArray[np.int64], truth: Truth) -> float:
    """Returns the recall by id: blind to ties, but enough to see that it rises no more."""
    same = (found[:, :, None] == truth.ids[:, None, :]) & (found[:, :, None] != NOBODY)
    return float(same.any(axis=2).sum() / max(1, (truth.ids != NOBODY).sum()))


def _point(setting: Setting, recall: float, seconds: NDArray[np.float64]) -> Point:
    half, most = np.percentile(seconds, [50, 99]) * 1000
    return Point(dict(setting), recall, float(len(seconds) / seconds.sum()), float(half), float(most))
