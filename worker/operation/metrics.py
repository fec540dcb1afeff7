"""The page for Prometheus, on an address and in a thread of its own.

Guarantees: a scrape never blocks the event loop, nor reads counts while they change: the loop copies them
(some 0.1 ms), the page's thread makes text of the copy and asks the kernel for memory. When the loop does not
answer, the scrape fails and says so: that is what monitoring is to notice.
"""

import asyncio
import concurrent.futures
import functools
import logging
import platform
import socket
import socketserver
import threading
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from itertools import accumulate
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, ProcessCollector, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from worker.errors import ListenError
from worker.operation.listen import check_free
from worker.operation.overview import Overview, memory_of
from worker.processes.lifecycle import State
from worker.scheduling.scheduler import Priority
from worker.statistics import End, Histogram, Outcome

_log = logging.getLogger(__name__)

# Seconds that the event loop may take to copy its counts, and a client to send its request; arbitrary.
_LOOP_SECONDS = 5.0
_CLIENT_SECONDS = 10.0
# Seconds between two looks whether the page is to stop; arbitrary.
_POLL_SECONDS = 0.1
_PACKAGES = ("embedpool", "grpcio", "onnxruntime", "tokenizers")


class MetricsPage:
    """Serves the metrics from `start` until `stop`.

    Args:
        listen: HOST:PORT; port 0 picks a free one.
        overview: Returns the state; called on the running event loop.
    """

    def __init__(self, listen: str, overview: Callable[[], Overview]) -> None:
        self._listen = listen
        self._loop = asyncio.get_running_loop()
        self._overview = overview
        self._server: WSGIServer | None = None

    def start(self) -> str:
        """Listens and returns the address.

        Raises:
            ListenError: The address cannot be listened on.
        """
        check_free(self._listen)
        host, _, port = self._listen.rpartition(":")
        host = host.strip("[]")
        registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        registry.register(self)
        family = _Server6 if ":" in host else _Server
        try:
            self._server = make_server(host, int(port), _page(make_wsgi_app(registry)), family, _Handler)
        except OSError as error:
            raise ListenError(f"cannot listen on {self._listen} for metrics: {error.strerror}") from error
        serve = functools.partial(self._server.serve_forever, _POLL_SECONDS)
        threading.Thread(target=serve, name="metrics", daemon=True).start()
        address = f"{self._listen.rpartition(':')[0]}:{self._server.server_port}"
        _log.info("metrics address=%s", address)
        return address

    def stop(self) -> None:
        """Stops listening; blocks for a moment, until the thread has seen it."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def collect(self) -> Iterator[Any]:
        """Yields all metrics; called by prometheus_client, in the page's threads."""
        answer: concurrent.futures.Future[Overview] = concurrent.futures.Future()

        def copy() -> None:
            try:
                answer.set_result(self._overview())
            except Exception as error:  # raised again where it was asked for
                answer.set_exception(error)

        self._loop.call_soon_threadsafe(copy)
        yield from metrics(answer.result(_LOOP_SECONDS))


def metrics(state: Overview) -> Iterator[Any]:
    """Yields the metrics of a state; each name is explained by its help."""
    yield from _classes(state)
    yield from _processes(state)
    yield from _memory(state)
    counts = state.statistics
    yield _counter("rpcs", "RPCs that ended.", ("method", "status"), counts.rpcs.items())
    yield _counter("reloads", "Models taken over after the first.", (), [((), counts.reloads)])
    yield _gauge("serving", "1 while texts can be embedded, else 0.", (), [((), state.live)])
    yield _gauge("open_streams", "Bulk streams that are open.", (), [((), state.open_streams)])
    yield _gauge("open_streams_limit", "Bulk streams that may be open.", (), [((), state.max_streams)])
    manifest = state.model.manifest
    yield _gauge("model_generation", "Generation of the served model.", (), [((), state.model.generation)])
    facts = (manifest.name, manifest.fingerprint, str(manifest.recipe.get("name", "")))
    yield _gauge("model_info", "1, with the served model.", ("model", "fingerprint", "recipe"), [(facts, 1)])
    versions = (*map(version, _PACKAGES), platform.python_version())
    yield _gauge(
        "build_info",
        "1, with the versions of what serves.",
        ("version", *_PACKAGES[1:], "python"),
        [(versions, 1)],
    )


def _classes(state: Overview) -> Iterator[Any]:
    classes = [(priority.value, state.statistics.classes[priority]) for priority in Priority]
    yield _counter(
        "texts",
        "Texts by how they ended.",
        ("class", "outcome"),
        [((name, outcome.value), one.texts[outcome]) for name, one in classes for outcome in Outcome],
    )
    for metric, text in (
        ("tokens", "Tokens of texts that got a vector, special ones included."),
        ("padded_tokens", "Tokens computed and thrown away; 0, unless a release breaks its promise."),
        ("runs", "Runs of the model."),
        ("truncated", "Texts that were cut."),
    ):
        name = "truncated_texts" if metric == "truncated" else metric
        yield _counter(name, text, ("class",), [((own,), getattr(one, metric)) for own, one in classes])
    yield _histogram(
        "queue_seconds", "Wait of a text for a process.", [(name, one.queue) for name, one in classes]
    )
    yield _histogram("run_seconds", "Time of a run of the model.", [(name, one.run) for name, one in classes])
    for metric, text, values in (
        ("waiting_texts", "Texts that wait for a process.", state.waiting),
        ("in_flight_bytes", "Bytes accepted and not yet answered.", state.bytes),
        ("in_flight_limit_bytes", "What in_flight_bytes may grow to.", state.byte_limits),
    ):
        yield _gauge(metric, text, ("class",), [((own.value,), values[own]) for own in Priority])


def _processes(state: Overview) -> Iterator[Any]:
    states = [view.state for view in state.processes]
    yield _gauge(
        "processes",
        "Compute processes by state.",
        ("state",),
        [((one.value,), states.count(one)) for one in State],
    )
    ends = state.statistics.ends
    yield _counter(
        "process_ends", "Compute processes that ended.", ("why",), [((end.value,), ends[end]) for end in End]
    )
    labels = ("slot", "generation")
    views = [((str(view.slot), str(view.generation)), view) for view in state.processes]
    yield _counter(
        "process_restarts",
        "Processes of a slot after its first.",
        labels,
        [(own, view.restarts) for own, view in views],
    )
    yield _counter(
        "process_runs", "Runs that a slot answered.", labels, [(own, view.runs) for own, view in views]
    )


def _memory(state: Overview) -> Iterator[Any]:
    memory = [
        ((str(view.slot), str(view.generation)), memory)
        for view in state.processes
        if (memory := memory_of(view.pid)) is not None
    ]
    for kind, text in (
        ("resident", "Memory of a compute process, shared pages included."),
        ("proportional", "Memory of a compute process, shared pages divided among those that share them."),
    ):
        values = [(own, getattr(one, kind)) for own, one in memory]
        yield _gauge(f"process_{kind}_bytes", text, ("slot", "generation"), values)


def _counter(name: str, text: str, labels: Iterable[str], values: Iterable[tuple[Any, float]]) -> Any:
    family = CounterMetricFamily(f"embedpool_{name}", text, labels=labels)
    for own, value in values:
        family.add_metric(own, value)
    return family


def _gauge(name: str, text: str, labels: Iterable[str], values: Iterable[tuple[Any, float]]) -> Any:
    family = GaugeMetricFamily(f"embedpool_{name}", text, labels=labels)
    for own, value in values:
        family.add_metric(own, value)
    return family


def _histogram(name: str, text: str, values: Iterable[tuple[str, Histogram]]) -> Any:
    family = HistogramMetricFamily(f"embedpool_{name}", text, labels=("class",))
    for own, histogram in values:
        bounds = [*map(str, histogram.bounds), "+Inf"]
        family.add_metric((own,), list(zip(bounds, accumulate(histogram.counts), strict=True)), histogram.sum)
    return family


def _page(app: Any) -> Callable[[dict[str, Any], Any], Iterable[bytes]]:
    def page(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        try:
            answer: Iterable[bytes] = app(environ, start_response)
        except Exception as error:
            _log.exception("metrics not read why=%r", type(error).__name__)
            start_response("503 Service Unavailable", [("Content-Type", "text/plain")])
            return [b"the server starts, ends or does not answer; see its log\n"]
        return answer

    return page


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def server_bind(self) -> None:
        # The standard library's own asks the name service for this machine's name, which may take long.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]
        self.setup_environ()


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Handler(WSGIRequestHandler):
    timeout = _CLIENT_SECONDS

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the name of the base class
        _log.debug("metrics request from=%s", self.client_address[0])
