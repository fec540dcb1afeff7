"""More than a server can do: queries are told when to come back, bulk work is held back."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
from google.rpc.error_details_pb2 import RetryInfo
from grpc_status import rpc_status

from embedpool.v1 import embedding_service_pb2 as pb
from tests.integration.held import ONE_PROCESS, SECONDS, counts_of, is_running, stopped

LARGE = pb.EmbedQueryRequest(texts=["word " * 120] * 32)


def retry_seconds(call: Any) -> float:
    """Returns the seconds after which a refused call may be tried again."""
    status = rpc_status.from_call(call)
    retry = RetryInfo()
    assert status.details[0].Unpack(retry)
    seconds: float = retry.retry_delay.ToTimedelta().total_seconds()
    return seconds


def test_queries_that_would_wait_too_long(
    start_worker: Callable[..., Any], stub_for: Callable[..., Any], tiny_bundle: Path
) -> None:
    """Once the expected wait passes its limit queries are refused; the accepted ones are answered."""
    server = start_worker(tiny_bundle, *ONE_PROCESS, "--max-query-wait-seconds", "0.3")
    stub = stub_for(server)
    for _ in range(3):  # from now on the pool's speed is known
        stub.EmbedQuery(LARGE, timeout=SECONDS)
    accepted: list[Any] = []
    refused = threading.Event()
    with counts_of(server) as counts, stopped(server):
        while not refused.is_set() and len(accepted) < 5000:
            call = stub.EmbedQuery.future(LARGE, timeout=SECONDS)
            accepted.append(call)
            call.add_done_callback(lambda _: refused.set())
            known = len(accepted)
            counts.until(
                lambda now: now.queries.texts["overloaded"] or now.queries.waiting >= 32 * known - 10  # noqa: B023  called at once
            )
        assert refused.wait(SECONDS)
        (last,) = (call for call in accepted if call.done())
        assert last.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "the limit max_query_wait_seconds is 0.3" in last.details()
        assert 0.15 <= retry_seconds(last) < 5
        # A stream is not refused for the queries' sake.
        documents = stub.EmbedDocuments(iter([pb.EmbedDocumentsRequest(texts=[b"rain"])]), timeout=SECONDS)
        counts.until(lambda now: now.documents.waiting == 1)
    assert len(accepted) > 1
    for call in accepted:
        assert call is last or call.result(SECONDS).vectors.rows == 32
    assert next(documents).items[0].code == 0
    assert stub.EmbedQuery(LARGE, timeout=SECONDS).vectors.rows == 32


def test_bulk_work_takes_nothing_of_the_queries_admission(
    start_worker: Callable[..., Any], stub_for: Callable[..., Any], tiny_bundle: Path
) -> None:
    """Streams full to their limits leave queries all of theirs, and are read on when there is room."""
    limits = (
        "--max-text-bytes",
        "2000",
        "--max-batch-bytes",
        "40000",
        "--max-stream-bytes-in-flight",
        "80000",
    )
    queries = ("--max-query-bytes-in-flight", "9000")
    server = start_worker(tiny_bundle, *ONE_PROCESS, *limits, *queries)
    stub = stub_for(server)
    batches = 40

    def send() -> Iterator[pb.EmbedDocumentsRequest]:
        for number in range(batches):
            yield pb.EmbedDocumentsRequest(batch_id=number, texts=[b"word " * 100] * 20)

    with counts_of(server) as counts, stopped(server):
        streams = [stub.EmbedDocuments(send(), timeout=SECONDS) for _ in range(3)]
        full = counts.until(lambda now: now.document_bytes_in_flight >= 3 * 80_000)
        assert full.document_bytes_in_flight < 3 * (80_000 + 20 * 2000)
        assert is_running(full)
        query = stub.EmbedQuery.future(pb.EmbedQueryRequest(texts=["rain"]), timeout=SECONDS)
        held = counts.until(lambda now: now.queries.waiting == 1)
        assert 4096 < held.query_bytes_in_flight < 5000
        other = stub.EmbedQuery.future(pb.EmbedQueryRequest(texts=["hail"]), timeout=SECONDS)
        counts.until(lambda now: now.queries.waiting == 2)
        third = stub.EmbedQuery.future(pb.EmbedQueryRequest(texts=["snow"]), timeout=SECONDS)
        assert third.exception(SECONDS).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "max_query_bytes_in_flight is 9000" in third.details()
        assert retry_seconds(third) > 0
    assert query.result(SECONDS).vectors.rows == other.result(SECONDS).vectors.rows == 1
    for stream in streams:
        assert sorted(answer.batch_id for answer in stream) == list(range(batches))


def test_flood_of_queries_leaves_bulk_work_its_share(
    start_worker: Callable[..., Any], stub_for: Callable[..., Any], tiny_bundle: Path
) -> None:
    """While queries wait without end, documents get on at the share that the server was given."""
    server = start_worker(
        tiny_bundle, *ONE_PROCESS, "--bulk-share", "0.5", "--max-query-wait-seconds", "1000"
    )
    stub = stub_for(server)
    batch = pb.EmbedDocumentsRequest(texts=[b"word " * 120] * 64)
    with counts_of(server) as counts:
        with stopped(server):
            calls = [stub.EmbedQuery.future(LARGE, timeout=SECONDS) for _ in range(40)]
            counts.until(lambda now: now.queries.waiting >= 40 * 32 - 10)
            documents = stub.EmbedDocuments(iter([batch]), timeout=SECONDS)
            counts.until(lambda now: now.documents.waiting == 64)
        assert len(next(documents).items) == 64
        # At half of the tokens for each, 64 documents go with 64 texts of queries; of those 1,280 wait.
        assert counts.now().queries.waiting > 600
        for call in calls:
            assert call.result(SECONDS).vectors.rows == 32
