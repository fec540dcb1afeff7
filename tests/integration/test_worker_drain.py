"""How a server ends, and who is served first while it lives."""

import contextlib
import os
import select
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from embedpool.v1 import embedding_service_pb2 as pb

SECONDS = 60.0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_idle_server_ends_at_once(
    start_worker: Callable[..., Any], tiny_bundle: Path, number: signal.Signals
) -> None:
    """A signal to stop ends an idle server with exit code 0 and no process left."""
    server = start_worker(tiny_bundle)
    children = server.child_pids()
    server.process.send_signal(number)
    assert server.process.wait(SECONDS) == 0
    for child in children:
        with pytest.raises(ProcessLookupError):
            os.kill(child, 0)


def test_accepted_batches_are_answered_before_the_end(
    start_worker: Callable[..., Any], stub_for: Callable[..., Any], tiny_bundle: Path
) -> None:
    """SIGTERM in the middle of a stream: what was accepted is answered, then UNAVAILABLE, exit code 0."""
    server = start_worker(tiny_bundle, "--processes", "1")
    over = threading.Event()

    def send() -> Iterator[pb.EmbedDocumentsRequest]:
        for number in range(60):
            yield pb.EmbedDocumentsRequest(batch_id=number, texts=[b"word " * 100] * 20)
        over.wait(SECONDS)

    answers = stub_for(server).EmbedDocuments(send(), timeout=SECONDS)
    seen = [next(answers).batch_id for _ in range(3)]
    server.process.send_signal(signal.SIGTERM)
    with contextlib.suppress(grpc.RpcError):
        for answer in answers:
            assert all(item.code == 0 for item in answer.items)
            seen.append(answer.batch_id)
    over.set()
    assert answers.code() is grpc.StatusCode.UNAVAILABLE
    assert "drains" in answers.details()
    assert sorted(seen) == list(range(len(seen))), "an accepted batch has no answer"
    assert server.process.wait(SECONDS) == 0
    assert "Traceback" not in server.log.read_text()


def hold_a_query(server: Any, stub: Any) -> Any:
    """Stops the only process and returns a query that the server has surely accepted."""
    (child,) = server.child_pids()
    os.kill(child, signal.SIGSTOP)
    large = pb.EmbedQueryRequest(texts=["word " * 900])
    queries = [stub.EmbedQuery.future(large, timeout=SECONDS) for _ in range(2)]
    done = threading.Event()
    for query in queries:
        query.add_done_callback(lambda _: done.set())
    assert done.wait(SECONDS)  # one was refused because the other holds the bytes
    (accepted,) = (query for query in queries if not query.done())
    return accepted


ONE_QUERY = ("--processes", "1", "--max-text-bytes", "5000", "--max-query-bytes-in-flight", "8000")


def test_accepted_query_is_answered_and_new_ones_are_sent_away(
    start_worker: Callable[..., Any], stub_for: Callable[..., Any], tiny_bundle: Path
) -> None:
    """While the server drains it is NOT_SERVING and UNAVAILABLE; the accepted query gets its vector."""
    server = start_worker(tiny_bundle, *ONE_QUERY)
    stub = stub_for(server)
    accepted = hold_a_query(server, stub)
    with grpc.insecure_channel(server.address) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=SECONDS)
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        server.process.send_signal(signal.SIGTERM)
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        with pytest.raises(grpc.RpcError) as caught:
            stub.EmbedQuery(pb.EmbedQueryRequest(texts=["late"]), timeout=SECONDS)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        os.kill(server.child_pids()[0], signal.SIGCONT)
        assert accepted.result(SECONDS).vectors.rows == 1
        assert server.process.wait(SECONDS) == 0


def test_drain_deadline_cuts_and_says_so(
    start_worker: Callable[..., Any], stub_for: Callable[..., Any], tiny_bundle: Path
) -> None:
    """Work that is not done in time is cut off; the exit code is 1 and the error says what to change."""
    server = start_worker(tiny_bundle, *ONE_QUERY, "--drain-seconds", "0.2")
    accepted = hold_a_query(server, stub_for(server))
    assert server.terminate() == 1
    assert accepted.code() is not grpc.StatusCode.OK
    assert "raise --drain-seconds" in server.log.read_text().splitlines()[-1]


def test_ends_when_stdin_ends(start_worker: Callable[..., Any], tiny_bundle: Path) -> None:
    """With --stop-on-stdin-close the end of stdin is a signal to stop; without it, it is not."""
    server = start_worker(tiny_bundle, "--stop-on-stdin-close")
    server.process.stdin.close()
    assert server.process.wait(SECONDS) == 0
    other = start_worker(tiny_bundle)
    other.process.stdin.close()
    assert other.terminate() == 0


def test_signal_while_it_starts(start_worker: Callable[..., Any], tiny_bundle: Path) -> None:
    """A server that is stopped before it serves ends cleanly and never says ready."""
    server = start_worker(tiny_bundle, "--stop-on-stdin-close", ready=False)
    server.process.stdin.close()
    assert server.process.wait(SECONDS) == 0
    readable, _, _ = select.select([server.process.stdout], [], [], SECONDS)
    assert readable
    assert server.process.stdout.read() == ""
    assert "Traceback" not in server.log.read_text()


def test_query_is_served_before_queued_bulk_work(
    start_worker: Callable[..., Any], stub_for: Callable[..., Any], tiny_bundle: Path
) -> None:
    """A query that comes behind a long queue of documents is answered while most of them still wait."""
    server = start_worker(tiny_bundle, "--processes", "1")
    (child,) = server.child_pids()
    stub = stub_for(server)
    total = 400
    batches = [
        pb.EmbedDocumentsRequest(batch_id=number, texts=[b"word " * 120] * 10) for number in range(total)
    ]
    answers = stub.EmbedDocuments(iter(batches), timeout=SECONDS)
    next(answers)
    os.kill(child, signal.SIGSTOP)
    query = stub.EmbedQuery.future(pb.EmbedQueryRequest(texts=["a red house"]), timeout=SECONDS)
    before = 1
    answered = threading.Event()
    query.add_done_callback(lambda _: answered.set())
    os.kill(child, signal.SIGCONT)
    for _ in answers:
        before += not answered.is_set()
    assert query.result(SECONDS).vectors.rows == 1
    assert before < total // 2
