"""A simulated pool on the real scheduler: what callers see, below saturation and in a flood."""

import pytest

from tests.simulation.pool import MAX_RUN_TOKENS, Load, Simulation, run_seconds
from worker.scheduling.scheduler import Priority


@pytest.mark.parametrize("processes", [2, 16])
@pytest.mark.parametrize("query_load", [0.1, 0.5])
def test_queries_stay_fast_under_saturating_bulk(processes: int, query_load: float) -> None:
    """Up to half of the time for queries: 99 of 100 are done in a run and a half, and no process idles."""
    load = Load(processes, 40, query_load, seconds=20.0 if processes == 2 else 4.0)
    history = Simulation(load).play()
    assert len(history.latencies) > 1000
    (latest,) = history.quantiles((0.99,))
    assert latest <= 1.5 * load.longest_run
    # No process ever idles while bulk work waits: what queries do not take, bulk work gets.
    busy = sum(history.busy.values())
    assert busy >= processes * (load.seconds - load.longest_run)


def test_flood_leaves_bulk_work_its_share() -> None:
    """Under twice the queries that the pool can answer, bulk work has its promised share and no more."""
    load = Load(8, 20, query_load=2.0, bulk_share=0.2, seconds=4.0)
    history = Simulation(load).play()
    bulk = sum(history.bulk_tokens.values())
    total = bulk + history.query_tokens
    run = load.max_tokens * load.processes
    assert abs(bulk - load.bulk_share * total) <= 2 * run
    assert history.busy[Priority.QUERY] > 0


def test_streams_get_equal_tokens_whatever_their_lengths() -> None:
    """Streams of long texts and of short ones differ by a few runs after hundreds."""
    load = Load(16, 10, query_load=0.3, seconds=5.0)
    history = Simulation(load).play()
    served = [history.bulk_tokens[stream] for stream in range(load.bulk_streams)]
    # Each may have runs under way that are not counted yet, besides the one that fairness allows.
    assert max(served) - min(served) <= (load.processes + 1) * max(load.max_tokens, MAX_RUN_TOKENS)
    assert min(served) > 20 * load.max_tokens


def test_the_same_seed_is_the_same_history() -> None:
    """A history can be played again: nothing depends on this machine."""
    load = Load(4, 6, query_load=0.5, seconds=1.0, seed=7)
    assert Simulation(load).play().latencies == Simulation(load).play().latencies


def test_query_alone_takes_its_run() -> None:
    """Where nothing else is, a query starts at once and takes the time of its own run."""
    history = Simulation(Load(4, 0, query_load=0.001, seconds=500.0)).play()
    assert history.quantiles((0.5,))[0] <= run_seconds(12)
    assert history.waits.count(0.0) > 0.9 * len(history.waits)
