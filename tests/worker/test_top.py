"""The pure core of `top`: differences, percentiles against raw samples, figures, pictures of any size."""

import bisect
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.operation.top.figures import (
    ASCII,
    UNICODE,
    Glyphs,
    bars,
    duration,
    glyphs_of,
    rate,
    seconds,
    size,
)
from worker.operation.top.frame import Canvas, frame, plain
from worker.operation.top.interval import Quantile, between, quantile, total
from worker.operation.top.snapshot import (
    ClassSnapshot,
    Distribution,
    ModelFacts,
    ProcessSnapshot,
    Snapshot,
)
from worker.operation.top.watched import Fleet, Watched
from worker.statistics import BOUNDS_SECONDS

SAMPLES = st.lists(
    st.floats(min_value=0, max_value=100, allow_nan=False, allow_subnormal=False), min_size=1, max_size=200
)


def _histogram(samples: list[float]) -> Distribution:
    counts = [0] * (len(BOUNDS_SECONDS) + 1)
    for sample in samples:
        counts[bisect.bisect_left(BOUNDS_SECONDS, sample)] += 1
    return Distribution(BOUNDS_SECONDS, tuple(counts))


def _class(ok: int = 0, samples: tuple[float, ...] = (), **others: int) -> ClassSnapshot:
    times = _histogram(list(samples))
    return ClassSnapshot({"ok": ok, **others}, ok * 10, 3, 2048, times, times)


def _snapshot(uptime: float, runs: int = 0, count: int = 2, **changes: ClassSnapshot) -> Snapshot:
    processes = tuple(ProcessSnapshot(slot, 100 + slot, "idle", runs, 1, 25 << 20) for slot in range(count))
    model = ModelFacts("a-model", 384, "int8")
    return Snapshot(
        "SERVING",
        model,
        uptime,
        "ab" * 32,
        1,
        1,
        changes.get("queries", _class()),
        changes.get("documents", _class()),
        processes,
        {"killed": 1},
    )


@given(samples=SAMPLES, q=st.sampled_from([0.01, 0.25, 0.5, 0.75, 0.99, 1.0]))
def test_a_percentile_lies_in_the_bucket_of_the_true_one(samples: list[float], q: float) -> None:
    """The oracle is numpy on the raw samples: the estimate is within the bounds of that value's bucket."""
    found = quantile(_histogram(samples), q)
    true = float(np.quantile(samples, q, method="inverted_cdf"))
    bucket = bisect.bisect_left(BOUNDS_SECONDS, true)
    assert found is not None
    assert found.beyond == (bucket == len(BOUNDS_SECONDS))
    lower = BOUNDS_SECONDS[bucket - 1] if bucket else 0.0
    assert lower <= found.seconds <= (lower if found.beyond else BOUNDS_SECONDS[bucket])


@given(samples=SAMPLES)
def test_a_higher_percentile_is_no_smaller(samples: list[float]) -> None:
    """p99 is never below p50."""
    values = [quantile(_histogram(samples), q / 20) for q in range(1, 21)]
    known = [one.seconds for one in values if one is not None]
    assert known == sorted(known)
    assert len(known) == len(values)


@given(first=SAMPLES, second=SAMPLES, elapsed=st.floats(min_value=0.1, max_value=1000, allow_subnormal=False))
def test_an_interval_is_what_was_added(first: list[float], second: list[float], elapsed: float) -> None:
    """Rates are counts by time, and histograms those of the values in between alone."""
    before = _snapshot(5.0, runs=7, queries=_class(len(first), tuple(first), refused=2))
    after = _snapshot(
        5.0 + elapsed, runs=9, queries=_class(len(first + second), tuple(first + second), refused=3)
    )
    found = between(before, after)
    assert found is not None
    assert found.queries.texts * found.seconds == pytest.approx(len(second))
    assert found.queries.tokens * found.seconds == pytest.approx(10 * len(second))
    assert found.queries.queue == _histogram(second)
    assert found.queries.others == {"refused": 1}
    assert found.documents.others == {}
    assert found.runs == pytest.approx({100: 2 / found.seconds, 101: 2 / found.seconds})
    both = total([found, found])
    assert both.queries.texts == pytest.approx(2 * found.queries.texts)
    assert both.queries.queue == _histogram(second + second)
    assert both.queries.others == {"refused": 2}


def test_a_server_that_started_anew_has_no_interval() -> None:
    """Neither a shorter uptime nor counts that shrank make negative rates; a new process has no rate yet."""
    before = _snapshot(100.0, queries=_class(5, (0.1,)))
    assert between(before, _snapshot(1.0)) is None
    assert between(before, _snapshot(101.0)) is None
    assert between(before, before) is None
    other = replace(_snapshot(102.0, runs=50), processes=(ProcessSnapshot(0, 7, "idle", 50, 2, 0),))
    found = between(_snapshot(100.0, runs=40), other)
    assert found is not None
    assert found.runs == {}


def test_servers_with_other_bounds_have_no_percentiles_together() -> None:
    """Histograms of two releases are not added; their rates are."""
    ours = between(_snapshot(1.0), _snapshot(2.0, queries=_class(4, (0.1,) * 4)))
    assert ours is not None
    theirs = replace(ours, queries=replace(ours.queries, queue=Distribution((1.0,), (1, 2))))
    both = total([ours, theirs])
    assert both.queries.texts == 8
    assert quantile(both.queries.queue, 0.5) is None
    assert quantile(both.queries.run, 0.5) is not None


@given(st.floats(min_value=0, max_value=9.9e11, allow_nan=False, allow_subnormal=False))
def test_figures_keep_to_their_columns(value: float) -> None:
    """No figure pushes the one beside it away."""
    assert len(rate(value if value < 1e9 else 1e9)) <= 6
    assert len(seconds(Quantile(min(value, 3600.0), beyond=True))) <= 8
    assert len(size(int(value))) <= 8
    assert len(duration(value)) <= 16


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        (rate(None), "-"),
        (rate(0.5), "0.50"),
        (rate(41_200.4), "41,200"),
        (seconds(Quantile(0.0004)), "0.40 ms"),
        (seconds(Quantile(0.9999)), "1.00 s"),
        (seconds(Quantile(60, beyond=True)), ">60.0 s"),
        (size(1023), "1.0 KiB"),
        (size(120 << 20), "120 MiB"),
        (duration(11_530), "3 h 12 min"),
        (bars([None, 0, 5, 10], 3, UNICODE), "▁▅█"),
        (bars([None, 0.0], 9, ASCII), " _"),
    ],
)
def test_figures_are_what_people_read(found: str, wanted: str) -> None:
    """Three digits or so, and a unit."""
    assert found == wanted


def test_a_terminal_without_unicode_gets_other_signs() -> None:
    """Also one whose encoding nobody knows."""
    assert (glyphs_of("utf-8"), glyphs_of("ascii"), glyphs_of("no-such")) == (UNICODE, ASCII, ASCII)


def _fleet(servers: int, processes: int) -> Fleet:
    fleet = Fleet([Watched(f"10.0.0.{number}:50051") for number in range(servers)])
    for number, server in enumerate(fleet.servers):
        server.took(_snapshot(1.0, count=processes))
        server.took(_snapshot(3.0, runs=20, count=processes, queries=_class(9, (0.002,) * 9, overloaded=4)))
        if number == 1:
            server.lost("nobody answers " * 20)
    fleet.tick()
    return fleet


@given(
    width=st.integers(1, 250),
    height=st.integers(1, 80),
    servers=st.integers(1, 6),
    processes=st.integers(0, 40),
    glyphs=st.sampled_from([ASCII, UNICODE]),
)
def test_a_picture_fits_its_canvas(
    width: int,
    height: int,
    servers: int,
    processes: int,
    glyphs: Glyphs,
) -> None:
    """Whatever the size of the window and the number of servers, no line is too long and none too many."""
    lines = plain(
        frame(_fleet(servers, processes), Canvas(width, height, glyphs, 2.0, "q ends"))
    ).splitlines()
    assert len(lines) <= height
    assert max(map(len, lines), default=0) <= width


def test_a_picture_tells_what_an_operator_looks_for() -> None:
    """At 80 columns: rates, percentiles, outcomes, processes; who is away and why."""
    text = plain(frame(_fleet(2, 2), Canvas(80, None, UNICODE, 2.0)))
    for words in (
        "embedpool top  2 servers, every 2 s",
        "all servers  1 away",
        "10.0.0.0:50051  SERVING  up 3 s  1 stream",
        "a-model, int8, 384 dimensions  generation 1  abababababab",
        "queries      4.50     45.0       3   2.0 KiB   1.75 ms 2.49 ms  1.75 ms 2.49 ms",
        "not ok now  queries 4 overloaded",
        "10.0.0.1:50051  AWAY\nnobody answers",
        "100     idle    10.0        1 25.0 MiB",
        "ended       1 killed",
    ):
        assert words in text, text
    high = plain(frame(_fleet(2, 30), Canvas(80, 24, UNICODE, 2.0)))
    assert "30 idle  300 runs/s  30 restarts  PSS 750 MiB" in high
