"""Traces arrive at a real collector: the caller's span, the query in it, its stages in that."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from embedpool.v1 import embedding_service_pb2 as pb

SECONDS = 30.0
QUERY = "embedpool.v1.EmbeddingService/EmbedQuery"
BATCH = "embedpool.v1.EmbeddingService/EmbedDocuments batch"
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PARENT_ID = "b7ad6b7169203331"
TEXT = "strictlyprivate"


class Collector(trace_service_pb2_grpc.TraceServiceServicer):  # type: ignore[misc]
    """Takes spans as a collector of OpenTelemetry does."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.resources: list[Any] = []
        self._came = threading.Condition()

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Takes spans."""
        with self._came:
            for part in request.resource_spans:
                self.resources.append(part.resource)
                self.spans += [span for scope in part.scope_spans for span in scope.spans]
            self._came.notify_all()
        return trace_service_pb2.ExportTraceServiceResponse()

    def wait_for(self, count: int, name: str) -> list[Any]:
        """Returns the spans of that name when there are so many."""

        def named() -> list[Any]:
            return [span for span in self.spans if span.name == name]

        with self._came:
            assert self._came.wait_for(lambda: len(named()) >= count, SECONDS), self.spans
            return named()


@pytest.fixture
def collector() -> Iterator[tuple[Collector, str]]:
    """A collector and its URL."""
    server = grpc.server(futures.ThreadPoolExecutor(2))
    taker = Collector()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(taker, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield taker, f"http://127.0.0.1:{port}"
    server.stop(None).wait()


def attributes(span: Any) -> dict[str, Any]:
    """Returns a span's attributes."""
    return {one.key: getattr(one.value, str(one.value.WhichOneof("value"))) for one in span.attributes}


def test_query_is_a_span_with_its_stages(
    start_worker: Callable[..., Any],
    stub_for: Callable[..., Any],
    tiny_bundle: Path,
    collector: tuple[Collector, str],
) -> None:
    """A query's span hangs below its caller's, and holds tokenize, queue and run, at their times."""
    taker, url = collector
    server = start_worker(tiny_bundle, "--trace-endpoint", url)
    before = time.time_ns()
    answer, call = stub_for(server).EmbedQuery.with_call(
        pb.EmbedQueryRequest(texts=[TEXT, "hello world"]),
        metadata=[("traceparent", f"00-{TRACE_ID}-{PARENT_ID}-01"), ("x-request-id", "request-1")],
        timeout=SECONDS,
    )
    after = time.time_ns()
    server.terminate()  # sends what is left
    (span,) = taker.wait_for(1, QUERY)
    assert span.trace_id.hex() == TRACE_ID
    assert span.parent_span_id.hex() == PARENT_ID
    assert before <= span.start_time_unix_nano <= span.end_time_unix_nano <= after
    assert dict(call.trailing_metadata())["x-request-id"] == "request-1"
    assert attributes(span) == {
        "embedpool.texts": 2,
        "embedpool.tokens": sum(answer.token_counts),
        "embedpool.model.fingerprint": answer.model_fingerprint,
        "embedpool.request_id": "request-1",
        "rpc.grpc.status": "OK",
    }
    stages = sorted(
        (one for one in taker.spans if one.parent_span_id == span.span_id),
        key=lambda one: (one.start_time_unix_nano, one.end_time_unix_nano),
    )
    assert [one.name for one in stages] == ["tokenize", "queue", "run"]
    moments = [span.start_time_unix_nano]
    moments += [moment for one in stages for moment in (one.start_time_unix_nano, one.end_time_unix_nano)]
    assert moments == sorted(moments)
    assert moments[-1] <= span.end_time_unix_nano
    run_ns = stages[2].end_time_unix_nano - stages[2].start_time_unix_nano
    assert run_ns >= answer.timing.run_ns / 2  # two texts may be computed at once
    assert {pair.value.string_value for one in taker.resources for pair in one.attributes} >= {
        "embedpool-worker"
    }
    assert TEXT not in str(taker.spans)


def test_each_batch_of_a_stream_is_a_span(
    start_worker: Callable[..., Any],
    stub_for: Callable[..., Any],
    tiny_bundle: Path,
    collector: tuple[Collector, str],
) -> None:
    """A stream may last for hours: its batches are traced, below the span of who opened it."""
    taker, url = collector
    server = start_worker(tiny_bundle, "--trace-endpoint", url)
    batches = [pb.EmbedDocumentsRequest(batch_id=number, texts=[b"some words"] * number) for number in (1, 2)]
    metadata = [("traceparent", f"00-{TRACE_ID}-{PARENT_ID}-01")]
    assert len(list(stub_for(server).EmbedDocuments(iter(batches), metadata=metadata, timeout=SECONDS))) == 2
    server.terminate()
    spans = taker.wait_for(2, BATCH)
    assert {span.parent_span_id.hex() for span in spans} == {PARENT_ID}
    assert sorted(attributes(span)["embedpool.texts"] for span in spans) == [1, 2]
    for span in spans:
        inside = {one.name for one in taker.spans if one.parent_span_id == span.span_id}
        assert inside == {"tokenize", "queue", "run"}


def test_who_is_traced_is_decided_by_caller_and_ratio(
    start_worker: Callable[..., Any],
    stub_for: Callable[..., Any],
    tiny_bundle: Path,
    collector: tuple[Collector, str],
) -> None:
    """With a ratio of 0 only requests of traced callers are sent, and one that failed is marked so."""
    taker, url = collector
    server = start_worker(tiny_bundle, "--trace-endpoint", url, "--trace-ratio", "0")
    stub = stub_for(server)
    stub.EmbedQuery(pb.EmbedQueryRequest(texts=["hello"]), timeout=SECONDS)
    not_sampled = [("traceparent", f"00-{TRACE_ID}-{PARENT_ID}-00")]
    stub.EmbedQuery(pb.EmbedQueryRequest(texts=["hello"]), metadata=not_sampled, timeout=SECONDS)
    sampled = [("traceparent", f"00-{TRACE_ID}-{PARENT_ID}-01")]
    with pytest.raises(grpc.RpcError):
        stub.EmbedQuery(pb.EmbedQueryRequest(texts=[""]), metadata=sampled, timeout=SECONDS)
    server.terminate()
    (span,) = taker.wait_for(1, QUERY)
    assert attributes(span)["rpc.grpc.status"] == "INVALID_ARGUMENT"
    assert span.status.code == span.status.STATUS_CODE_ERROR


def test_collector_that_is_not_there_costs_nothing_but_traces(
    start_worker: Callable[..., Any], stub_for: Callable[..., Any], tiny_bundle: Path
) -> None:
    """The server embeds, and ends in time, though nobody takes its traces."""
    server = start_worker(tiny_bundle, "--trace-endpoint", "http://127.0.0.1:1")
    assert (
        stub_for(server).EmbedQuery(pb.EmbedQueryRequest(texts=["hello"]), timeout=SECONDS).vectors.rows == 1
    )
    assert server.terminate() == 0


_WITHOUT = """
import sys
sys.modules["opentelemetry"] = None  # as where the extra is not installed
sys.argv = ["worker", "serve", "--bundle", sys.argv[1], "--trace-endpoint", "http://127.0.0.1:1"]
from worker.__main__ import run
run()
"""


def test_missing_extra_is_named(tiny_bundle: Path) -> None:
    """Where OpenTelemetry is not installed, whoever asks for traces is told which extra to install."""
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT, str(tiny_bundle)], capture_output=True, text=True, timeout=SECONDS
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: --trace-endpoint needs OpenTelemetry")
    assert "embedpool[tracing]" in done.stderr
    assert done.stderr.count("\n") == 1
