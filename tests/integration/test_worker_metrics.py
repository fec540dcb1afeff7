"""A real server's metrics over HTTP, and the dashboard that shows them."""

import json
import os
import re
import signal
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from embedpool.v1 import embedding_service_pb2 as pb
from tests.integration.test_worker_startup import assert_refused, serve

SECONDS = 30.0
DASHBOARD = Path(__file__).parents[2] / "deploy" / "grafana" / "embedpool.json"


def page_of(server: Any) -> dict[tuple[Any, ...], float]:
    """Returns the samples of a server's page by name and labels; its address is in the log."""
    found = re.search(r"metrics address=(\S+)", server.log.read_text())
    assert found is not None
    with urllib.request.urlopen(f"http://{found[1]}/metrics", timeout=SECONDS) as answer:
        families = text_string_to_metric_families(answer.read().decode())
        return {
            (sample.name, *sorted(sample.labels.items())): sample.value
            for family in families
            for sample in family.samples
        }


@pytest.fixture(scope="module")
def measured(start_shared_worker: Callable[..., Any], tiny_bundle: Path) -> Any:
    """A server with a page; the tests of this file add to its counts."""
    return start_shared_worker(tiny_bundle, "--metrics-listen", "127.0.0.1:0")


def test_page_counts_what_callers_got(measured: Any, stub_for: Callable[..., Any]) -> None:
    """Texts, tokens, runs, waits and RPCs on the page are those of the answers, by class."""
    stub = stub_for(measured)
    before = page_of(measured)
    query = stub.EmbedQuery(pb.EmbedQueryRequest(texts=["hello world", "again"]), timeout=SECONDS)
    batch = pb.EmbedDocumentsRequest(batch_id=1, texts=[b"some words", b"", b"\xff", b"more of them"])
    (documents,) = stub.EmbedDocuments(iter([batch]), timeout=SECONDS)
    after = page_of(measured)

    def grown(name: str, **labels: str) -> float:
        key = (f"embedpool_{name}", *sorted((one.rstrip("_"), value) for one, value in labels.items()))
        return after[key] - before[key]

    assert grown("texts_total", class_="query", outcome="ok") == 2
    assert grown("tokens_total", class_="query") == sum(query.token_counts)
    assert grown("texts_total", class_="bulk", outcome="ok") == 2
    assert grown("texts_total", class_="bulk", outcome="refused") == 2
    assert grown("tokens_total", class_="bulk") == sum(item.token_count for item in documents.items)
    assert grown("padded_tokens_total", class_="bulk") == 0
    assert 1 <= grown("runs_total", class_="query") <= 2
    assert grown("queue_seconds_count", class_="query") == 2
    assert grown("run_seconds_count", class_="query") == grown("runs_total", class_="query")
    assert 0 < grown("run_seconds_sum", class_="query") < SECONDS
    rpcs = {"method": "/embedpool.v1.EmbeddingService/EmbedQuery", "status": "OK"}
    assert after["embedpool_rpcs_total", *sorted(rpcs.items())] == 1
    assert after["embedpool_in_flight_bytes", ("class", "bulk")] == 0
    assert after["embedpool_serving",] == 1


def test_page_names_model_and_processes(measured: Any, stub_for: Callable[..., Any]) -> None:
    """The page tells which model serves, and the memory of each compute process, shared pages divided."""
    model = stub_for(measured).GetModel(pb.GetModelRequest(), timeout=SECONDS)
    page = page_of(measured)
    info = {"model": model.name, "fingerprint": model.fingerprint, "recipe": model.recipe}
    assert page["embedpool_model_info", *sorted(info.items())] == 1
    for slot in range(model.processes):
        labels = (("generation", "1"), ("slot", str(slot)))
        resident = page["embedpool_process_resident_bytes", *labels]
        assert 2**20 < page["embedpool_process_proportional_bytes", *labels] <= resident < 2**32
    states = {key[1][1]: value for key, value in page.items() if key[0] == "embedpool_processes"}
    assert sum(states.values()) == model.processes
    assert states["idle"] + states["running"] == model.processes


def test_killed_process_is_on_the_page(start_worker: Callable[..., Any], tiny_bundle: Path) -> None:
    """A process that was killed is counted with the reason, and its slot with a restart."""
    server = start_worker(tiny_bundle, "--metrics-listen", "127.0.0.1:0")
    pid = re.findall(r"process ready slot=0 pid=(\d+)", server.log.read_text())[0]
    os.kill(int(pid), signal.SIGKILL)
    deadline = time.monotonic() + SECONDS
    while page_of(server)["embedpool_process_restarts_total", ("generation", "1"), ("slot", "0")] != 1:
        assert time.monotonic() < deadline
    assert page_of(server)["embedpool_process_ends_total", ("why", "killed")] == 1


def test_page_beyond_loopback_must_be_asked_for(tiny_bundle: Path) -> None:
    """The page is not encrypted: others may read it only where the operator said so."""
    done = serve("--bundle", str(tiny_bundle), "--listen", "127.0.0.1:0", "--metrics-listen", "0.0.0.0:0")
    assert_refused(done, "metrics page", "--insecure", code=2)


def test_no_page_unless_asked_for(start_worker: Callable[..., Any], tiny_bundle: Path) -> None:
    """Without --metrics-listen there is no second port."""
    assert "metrics address" not in start_worker(tiny_bundle).log.read_text()


def panels() -> Iterator[dict[str, Any]]:
    """Yields the panels of the dashboard that show something."""
    yield from (one for one in json.loads(DASHBOARD.read_text())["panels"] if one["type"] != "row")


def test_dashboard_asks_for_metrics_that_exist(measured: Any, stub_for: Callable[..., Any]) -> None:
    """Each name in a query of the dashboard is on the page of a real server, and each label too."""
    stub_for(measured).EmbedQuery(pb.EmbedQueryRequest(texts=["hello"]), timeout=SECONDS)
    page = page_of(measured)
    names = {key[0] for key in page}
    labels = {label for key in page for label, _ in key[1:]} | {"instance"}
    for panel in panels():
        for target in panel["targets"]:
            asked = set(re.findall(r"\b(?:embedpool|process)_\w+", target["expr"]))
            assert asked, target["expr"]
            assert asked <= names, asked - names
            by = re.findall(r"(?:by|on) \(([^)]*)\)", target["expr"])
            matched = re.findall(r"[{,](\w+)[=!]~?", target["expr"])
            used = {label.strip() for part in by for label in part.split(",")} | set(matched)
            used |= set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            assert used <= labels, used - labels


def test_dashboard_is_complete() -> None:
    """Each panel has a title, a unit, a description and the reader's data source; none overlap."""
    dashboard = json.loads(DASHBOARD.read_text())
    assert dashboard["schemaVersion"] >= 38  # Grafana 10
    variables = {one["name"]: one for one in dashboard["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert variables["datasource"]["query"] == "prometheus"
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        assert panel["title"]
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert panel["targets"]
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken
        assert place["x"] + place["w"] <= 24
        taken |= cells
    rows = [panel["title"] for panel in dashboard["panels"] if panel["type"] == "row"]
    assert {"Latency", "Throughput", "Outcomes and overload", "Processes"} <= set(rows)
