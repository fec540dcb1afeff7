"""What a run does for a unit costs the same however many units there are: counted in calls, not in time."""

import fcntl
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.config import PlanConfig
from indexer.documents import HASH_BYTES
from indexer.embedding import reuse
from indexer.embedding.reuse import SeenTexts
from indexer.engines.claiming import claimed
from indexer.plan import InputFile, make_plan
from indexer.store.durable import make_folder
from indexer.store.layout import Layout
from indexer.store.ledger import commit_unit, committed
from indexer.store.lock import Claims
from tests.simulation.driver.costs import MODEL, receipt_of
from tests.simulation.driver.history import FSYNCS, WINDOW, Load, Simulation

MEMORY = Path("/dev/shm")  # noqa: S108 - where fsync costs nothing


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts calls that reach the file system or its locks."""
    counted: Counter[str] = Counter()

    def count(owner: Any, name: str) -> None:
        real: Callable[..., Any] = getattr(owner, name)

        def called(*arguments: Any, **named: Any) -> Any:
            counted[name] += 1
            return real(*arguments, **named)

        monkeypatch.setattr(owner, name, called)

    for name in ("fsync", "replace", "rename", "stat", "listdir", "scandir"):
        count(os, name)
    count(fcntl, "lockf")
    return counted


def _embed_all(root: Path, units: int) -> None:
    """Claims, commits and gives back each unit, as a run does, and reads all receipts at the end."""
    layout = Layout(root)
    for folder in (layout.units, layout.rejects):
        make_folder(folder)
    plan = make_plan([InputFile("/a", 1, 1, (units,))], PlanConfig(unit_rows=1), MODEL)
    with Claims(layout) as claims:
        for unit in claimed(plan.units, layout, claims, lambda _unit, _receipt: None):
            commit_unit(layout, receipt_of(unit, b"unit"), b"unit", b"")
            claims.give(unit.number)
    assert len(committed(layout, plan)) == units


def test_a_unit_costs_the_same_in_a_plan_of_any_size(calls: Counter[str], tmp_path: Path) -> None:
    """Ten times the units are ten times the calls: four fsyncs, two claims, no listing of a folder."""
    counts = []
    for units in (20, 200):
        calls.clear()
        _embed_all(tmp_path / str(units), units)
        counts.append(Counter(calls))
    few, many = counts
    assert few["lockf"] == 2 * 20
    assert many["lockf"] == 2 * 200
    # The folders themselves are made durable once.
    assert many["fsync"] - few["fsync"] == FSYNCS * 180
    assert many["listdir"] == few["listdir"]
    assert many["scandir"] == few["scandir"]
    for name in calls:
        assert many[name] <= 10 * few[name], name


def test_a_text_is_moved_a_bounded_number_of_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Noting costs as much for the last text as for the first: levels are poured, not all each time."""
    monkeypatch.setattr(reuse, "_RECENT", 64)
    monkeypatch.setattr(reuse, "_RATIO", 4)
    moved = 0
    real = np.insert

    def insert(*arguments: Any) -> Any:
        nonlocal moved
        result = real(*arguments)
        moved += len(result)
        return result

    monkeypatch.setattr(np, "insert", insert)
    seen, rng, each = SeenTexts(), np.random.default_rng(1), []
    noted: dict[bytes, int] = {}
    for texts in (500, 2_000, 8_000):
        while len(noted) < texts:
            name = rng.bytes(HASH_BYTES)
            assert seen.first(name, len(noted)) is None
            noted[name] = len(noted)
        each.append(moved / 3 / texts)  # three arrays
    # A level more moves each text `_RATIO` times more at most; in one level it would be 60 times at the end.
    assert each[2] < each[0] + 4 * 3
    assert each[2] < 20
    assert all(seen.first(name, 10**6) == row for name, row in list(noted.items())[::7])


SMALL = Load(1, seconds=30.0)


@settings(max_examples=12, deadline=None)
@given(
    st.integers(1, 40), st.integers(1, 4), st.floats(1e-6, 2e-3, allow_subnormal=False), st.integers(64, 4096)
)
def test_a_simulated_run_keeps_its_bounds(
    workers: int, drivers: int, document_cpu: float, unit_rows: int
) -> None:
    """Nothing is faster than its workers, its core or its disk allow; the same load has the same history."""
    load = replace(
        SMALL, workers=max(workers, drivers), drivers=drivers, document_cpu=document_cpu, unit_rows=unit_rows
    )
    found = Simulation(load).play()
    assert found == Simulation(load).play()
    # What was under way when counting began may be counted, too.
    edge = load.workers * WINDOW * 64 / (load.seconds * 2 / 3)
    assert found.documents <= min(load.workers * load.rate, load.drivers / document_cpu * 2) + edge
    assert found.cpu <= 1 + 1e-9
    assert found.disk <= 1 + 1e-9


def test_the_knee_is_where_a_core_is_full() -> None:
    """Few workers are all busy; many get what one core hands out, and runs beside it add theirs."""
    few = Simulation(replace(SMALL, workers=8)).play()
    assert few.documents == pytest.approx(8 * 60, rel=0.05)
    assert few.limit == "workers"
    alone, four = (
        Simulation(replace(SMALL, workers=400, drivers=count, seconds=60.0)).play() for count in (1, 4)
    )
    share = SMALL.document_cpu + SMALL.commit_cpu / SMALL.unit_rows
    assert alone.documents == pytest.approx(1 / share, rel=0.1)
    assert alone.limit == "driver's core"
    assert four.documents == pytest.approx(4 * alone.documents, rel=0.1)


def test_a_slow_disk_is_a_limit_that_larger_units_lift() -> None:
    """Each unit waits for the disk four times, whatever its size."""
    slow = replace(SMALL, workers=60, drivers=4, fsync=0.3, seconds=600.0)
    small, large = (Simulation(replace(slow, unit_rows=rows)).play() for rows in (2048, 8192))
    assert small.limit == "disk"
    assert small.documents == pytest.approx(2048 / (FSYNCS * 0.3), rel=0.15)
    assert large.documents > 1.8 * small.documents
