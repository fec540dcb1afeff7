"""Counts are counted where they belong; histograms agree with a plain count."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from worker.scheduling.scheduler import Priority
from worker.statistics import BOUNDS_SECONDS, End, Histogram, Outcome, Statistics

SECONDS = st.floats(0, 100, allow_subnormal=False) | st.sampled_from(BOUNDS_SECONDS)


@given(st.lists(SECONDS))
def test_histogram_counts_as_prometheus_does(values: list[float]) -> None:
    """A bucket holds what is at or below its bound and above the one before; nothing is lost."""
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    at_or_below = [sum(value <= bound for value in values) for bound in (*BOUNDS_SECONDS, float("inf"))]
    assert np.cumsum(histogram.counts).tolist() == at_or_below
    assert histogram.count == len(values)
    assert np.isclose(histogram.sum, sum(values))


def test_texts_are_counted_by_class_and_outcome() -> None:
    """A text counts once, in its class, as it ended; only embedded ones have tokens."""
    statistics = Statistics()
    statistics.embedded(Priority.QUERY, 7, truncated=True)
    statistics.text(Priority.QUERY, Outcome.OVERLOADED, 3)
    statistics.embedded(Priority.BULK, 5, truncated=False)
    queries, bulk = statistics.classes[Priority.QUERY], statistics.classes[Priority.BULK]
    assert queries.texts == {Outcome.OK: 1, Outcome.OVERLOADED: 3}
    assert (queries.tokens, queries.truncated) == (7, 1)
    assert bulk.texts == {Outcome.OK: 1}
    assert (bulk.tokens, bulk.truncated) == (5, 0)


def test_runs_waits_and_ends_are_counted() -> None:
    """What the pool does is counted apart from what becomes of texts."""
    statistics = Statistics()
    statistics.waited(Priority.BULK, 0.2)
    statistics.ran(Priority.BULK, 0.1, padded_tokens=2)
    statistics.process_ended(End.KILLED)
    statistics.rpc_ended("/a/B", "OK")
    statistics.rpc_ended("/a/B", "OK")
    bulk = statistics.classes[Priority.BULK]
    assert (bulk.runs, bulk.padded_tokens, bulk.queue.sum, bulk.run.sum) == (1, 2, 0.2, 0.1)
    assert statistics.ends == {End.KILLED: 1}
    assert statistics.rpcs == {("/a/B", "OK"): 2}
    assert not statistics.classes[Priority.QUERY].texts
