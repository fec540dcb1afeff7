"""The metrics page: names as Prometheus wants them, values as counted, a failure where nothing is read."""

import asyncio
import re
import urllib.error
import urllib.request
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from prometheus_client.parser import text_string_to_metric_families

from worker.errors import ListenError
from worker.models import Model
from worker.operation.metrics import MetricsPage, metrics
from worker.operation.overview import Overview
from worker.processes.lifecycle import State
from worker.processes.slot import ProcessView
from worker.scheduling.scheduler import Priority
from worker.statistics import End, Outcome, Statistics

SECONDS = 30.0


def state(statistics: Statistics) -> Overview:
    """Makes the state of a server of two slots; no process of them is real."""
    manifest = SimpleNamespace(name="m", fingerprint="f" * 64, recipe={"name": "int8"})
    return Overview(
        uptime=1.0,
        live=True,
        model=cast("Model", SimpleNamespace(manifest=manifest, generation=3)),
        processes=[
            ProcessView(0, 0, State.RUNNING, runs=5, restarts=1, generation=3),
            ProcessView(1, 0, State.WAITING, runs=0, restarts=2, generation=3),
        ],
        statistics=statistics,
        waiting={Priority.QUERY: 1, Priority.BULK: 2},
        bytes={Priority.QUERY: 10, Priority.BULK: 20},
        byte_limits={Priority.QUERY: 100, Priority.BULK: 200},
        open_streams=4,
        max_streams=64,
    )


def counted() -> Statistics:
    """Makes counts that differ from each other."""
    statistics = Statistics()
    statistics.embedded(Priority.QUERY, 7, truncated=True)
    statistics.text(Priority.BULK, Outcome.REFUSED, 3)
    for seconds in (0.001, 0.002, 70.0):
        statistics.waited(Priority.QUERY, seconds)
    statistics.process_ended(End.STUCK)
    statistics.rpc_ended("/a/B", "OK")
    return statistics


async def fetch(address: str) -> str:
    """Gets the page as Prometheus does, while the event loop goes on."""

    def get() -> str:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=SECONDS) as answer:
            return str(answer.read().decode())

    return await asyncio.to_thread(get)


def with_page(overview: Callable[[], Overview], do: Callable[[str], Any]) -> Any:
    """Serves a page on this machine for as long as `do` takes."""

    async def run() -> Any:
        page = MetricsPage("127.0.0.1:0", overview)
        address = page.start()
        try:
            return await do(address)
        finally:
            await asyncio.to_thread(page.stop)

    return asyncio.run(run())


def test_page_says_what_was_counted() -> None:
    """Prometheus' own parser reads every value back, with its labels."""
    page = with_page(lambda: state(counted()), fetch)
    samples = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }
    for wanted, name, labels in (
        (1, "embedpool_texts_total", {"class": "query", "outcome": "ok"}),
        (3, "embedpool_texts_total", {"class": "bulk", "outcome": "refused"}),
        (0, "embedpool_texts_total", {"class": "bulk", "outcome": "ok"}),
        (7, "embedpool_tokens_total", {"class": "query"}),
        (1, "embedpool_truncated_texts_total", {"class": "query"}),
        (1, "embedpool_queue_seconds_bucket", {"class": "query", "le": "0.001"}),
        (2, "embedpool_queue_seconds_bucket", {"class": "query", "le": "0.0025"}),
        (3, "embedpool_queue_seconds_bucket", {"class": "query", "le": "+Inf"}),
        (3, "embedpool_queue_seconds_count", {"class": "query"}),
        (70.003, "embedpool_queue_seconds_sum", {"class": "query"}),
        (1, "embedpool_processes", {"state": "running"}),
        (0, "embedpool_processes", {"state": "idle"}),
        (2, "embedpool_process_restarts_total", {"slot": "1", "generation": "3"}),
        (1, "embedpool_process_ends_total", {"why": "stuck"}),
        (0, "embedpool_process_ends_total", {"why": "killed"}),
        (20, "embedpool_in_flight_bytes", {"class": "bulk"}),
        (200, "embedpool_in_flight_limit_bytes", {"class": "bulk"}),
        (4, "embedpool_open_streams", {}),
        (1, "embedpool_rpcs_total", {"method": "/a/B", "status": "OK"}),
        (1, "embedpool_model_info", {"model": "m", "fingerprint": "f" * 64, "recipe": "int8"}),
        (3, "embedpool_model_generation", {}),
    ):
        assert samples[name, *sorted(labels.items())] == pytest.approx(wanted), name


def test_names_keep_the_conventions() -> None:
    """Names are ours, in base units, counters end in _total, and each metric has a help."""
    families = list(metrics(state(counted())))
    assert len({family.name for family in families}) == len(families)
    for family in families:
        assert re.fullmatch(r"embedpool_[a-z]+(_[a-z]+)*", family.name)
        assert not re.search(r"_(ms|ns|millis|kb|mb|count|sum|bucket|total)$", family.name)
        assert family.documentation.endswith(".")
        for sample in family.samples:
            assert (family.type == "counter") == sample.name.endswith("_total")


def test_failure_is_a_503_and_the_page_lives_on() -> None:
    """What cannot be read is no empty page: the scrape fails, and the next one may succeed."""
    broken = [True]

    def overview() -> Overview:
        if broken[0]:
            raise RuntimeError("half made")
        return state(counted())

    async def both(address: str) -> str:
        with pytest.raises(urllib.error.HTTPError) as refused:
            await fetch(address)
        with refused.value as answer:
            assert answer.code == 503
            assert b"see its log" in answer.read()
        broken[0] = False
        return await fetch(address)

    assert "embedpool_serving 1.0" in with_page(overview, both)


def test_taken_port_is_an_error() -> None:
    """Two pages never share a port."""

    async def again(address: str) -> None:
        with pytest.raises(ListenError, match=address):
            MetricsPage(address, lambda: state(counted())).start()

    with_page(lambda: state(counted()), again)
