"""Each limit has its status code and a message with the number; memory stays bounded."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from grpc_status import rpc_status

from embedpool.v1 import embedding_service_pb2 as pb
from embedpool.v1 import embedding_service_pb2_grpc

SECONDS = 60.0


def options(**values: Any) -> pb.EmbeddingOptions:
    """Makes options."""
    return pb.EmbeddingOptions(**values)


@pytest.fixture(scope="module")
def small(start_shared_worker: Callable[..., Any], tiny_bundle: Path) -> Any:
    """A server with small limits."""
    return start_shared_worker(
        tiny_bundle,
        *("--max-text-bytes", "1000", "--max-query-texts", "3", "--max-query-bytes-in-flight", "2000"),
        *("--max-batch-items", "4", "--max-batch-bytes", "3000", "--max-stream-bytes-in-flight", "9000"),
    )


@pytest.fixture
def stub(small: Any, stub_for: Callable[..., Any]) -> Any:
    """A client of it."""
    return stub_for(small)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (pb.EmbedQueryRequest(), "texts is empty"),
        (pb.EmbedQueryRequest(texts=["a"] * 4), "texts has 4 entries, the limit max_query_texts is 3"),
        (pb.EmbedQueryRequest(texts=["a", ""]), r"texts\[1\] is empty"),
        (pb.EmbedQueryRequest(texts=["a", " \n"]), r"texts\[1\] is empty"),
        (
            pb.EmbedQueryRequest(texts=["x" * 1001]),
            r"texts\[0\] has 1001 bytes, the limit max_text_bytes is 1000",
        ),
        (pb.EmbedQueryRequest(texts=["é" * 501]), r"texts\[0\] has 1002 bytes"),
        (
            pb.EmbedQueryRequest(texts=["x" * 900] * 3),
            "2700 bytes in all, the limit max_query_bytes_in_flight",
        ),
        (
            pb.EmbedQueryRequest(texts=["a"], options=options(prompt_name="no")),
            "prompt_name is 'no'.* are: none",
        ),
        (pb.EmbedQueryRequest(texts=["a"], options=options(dimensions=33)), "dimensions is 33, .* have 32"),
        (pb.EmbedQueryRequest(texts=["a"], options=options(vector_type=9)), "vector_type is 9"),
        (pb.EmbedQueryRequest(texts=["a"], options=options(truncation=9)), "truncation is 9"),
        (
            pb.EmbedQueryRequest(texts=["a", "b " * 200], options=options(truncation=pb.TRUNCATION_REJECT)),
            r"texts\[1\]: the text has more than 128 tokens",
        ),
    ],
)
def test_bad_queries(stub: Any, request_: pb.EmbedQueryRequest, message: str) -> None:
    """A query that breaks a rule is INVALID_ARGUMENT and names text and limit."""
    with pytest.raises(grpc.RpcError, match=message) as caught:
        stub.EmbedQuery(request_, timeout=SECONDS)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def documents(batch_id: int, *texts: bytes, **values: Any) -> pb.EmbedDocumentsRequest:
    """Makes a batch."""
    return pb.EmbedDocumentsRequest(batch_id=batch_id, texts=texts, **values)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (documents(2, *[b"a"] * 5), "the batch has 5 texts, the limit max_batch_items is 4"),
        (documents(2, *[b"a" * 1000] * 4), "4000 text bytes, the limit max_batch_bytes is 3000"),
        (documents(2, b"a", options=options(dimensions=3)), "options differ"),
    ],
)
def test_bad_batches(stub: Any, batch: pb.EmbedDocumentsRequest, message: str) -> None:
    """A batch that breaks a rule ends its stream with INVALID_ARGUMENT; accepted ones are answered first."""
    answers = stub.EmbedDocuments(iter([documents(1, b"a"), batch]), timeout=SECONDS)
    assert next(answers).batch_id == 1
    with pytest.raises(grpc.RpcError, match=message) as caught:
        next(answers)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_bad_options_of_a_stream(stub: Any) -> None:
    """Options of a stream are checked with its first message."""
    with pytest.raises(grpc.RpcError, match="prompt_name is 'no'") as caught:
        list(
            stub.EmbedDocuments(
                iter([documents(1, b"a", options=options(prompt_name="no"))]), timeout=SECONDS
            )
        )
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_options_may_be_repeated(stub: Any) -> None:
    """Later messages may repeat the options or leave them out: the first ones hold."""
    eight = options(dimensions=8)
    batches = [documents(1, b"a", options=eight), documents(2, b"a"), documents(3, b"a", options=eight)]
    answers = list(stub.EmbedDocuments(iter(batches), timeout=SECONDS))
    assert sorted((one.batch_id, one.vectors.dim) for one in answers) == [(1, 8), (2, 8), (3, 8)]


def test_batch_id_that_is_in_flight(
    start_worker: Callable[..., Any], stub_for: Callable[..., Any], tiny_bundle: Path
) -> None:
    """A batch id may not be used again before its answer; the batch that has it is answered."""
    server = start_worker(tiny_bundle, "--processes", "1")
    (child,) = server.child_pids()
    os.kill(child, signal.SIGSTOP)
    answers = stub_for(server).EmbedDocuments(
        iter([documents(7, b"a red house"), documents(7, b"rain")]), timeout=SECONDS
    )
    os.kill(child, signal.SIGCONT)
    seen = []
    with contextlib.suppress(grpc.RpcError):
        for answer in answers:
            seen.append(answer.batch_id)  # noqa: PERF401  the answers before the error count
    if seen == [7]:
        assert answers.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "batch_id 7 is in flight already" in answers.details()
    else:  # the first was answered before the second was read
        assert (seen, answers.code()) == ([7, 7], grpc.StatusCode.OK)


def test_too_many_query_bytes(
    start_worker: Callable[..., Any], stub_for: Callable[..., Any], tiny_bundle: Path
) -> None:
    """Queries above the bytes in flight are RESOURCE_EXHAUSTED and told when to try again; then they pass."""
    limits = ("--max-text-bytes", "5000", "--max-query-bytes-in-flight", "8000")
    server = start_worker(tiny_bundle, "--processes", "1", *limits)
    stub = stub_for(server)
    (child,) = server.child_pids()
    os.kill(child, signal.SIGSTOP)
    queries = [
        stub.EmbedQuery.future(pb.EmbedQueryRequest(texts=["word " * 900]), timeout=SECONDS) for _ in "ab"
    ]
    done = threading.Event()
    for query in queries:
        query.add_done_callback(lambda _: done.set())
    assert done.wait(SECONDS)
    (refused,) = (query for query in queries if query.done())
    assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "max_query_bytes_in_flight is 8000" in refused.details()
    status = rpc_status.from_call(refused)
    retry = RetryInfo()
    assert status.details[0].Unpack(retry)
    assert retry.retry_delay.ToTimedelta().total_seconds() > 0
    os.kill(child, signal.SIGCONT)
    (accepted,) = (query for query in queries if query is not refused)
    assert accepted.result(SECONDS).vectors.rows == 1
    assert stub.EmbedQuery(pb.EmbedQueryRequest(texts=["word " * 900]), timeout=SECONDS).vectors.rows == 1


def test_slow_reader_is_held_back(start_worker: Callable[..., Any], tiny_bundle: Path) -> None:
    """A caller that sends and does not read is not read from; once it reads, everything is answered."""
    limits = (
        "--max-text-bytes",
        "4000",
        "--max-batch-bytes",
        "64000",
        "--max-stream-bytes-in-flight",
        "128000",
    )
    server = start_worker(tiny_bundle, *limits)
    batches, texts = 3000, [b"word " * 800] * 15
    sent = 0
    progress = threading.Event()

    def send() -> Iterator[pb.EmbedDocumentsRequest]:
        nonlocal sent
        for number in range(batches):
            sent += 1
            progress.set()
            yield documents(number, *texts)

    # A fixed, small window: otherwise the client's gRPC takes megabytes of answers off the server unasked.
    window = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 65536)]
    with grpc.insecure_channel(server.address, options=window) as channel:
        answers = embedding_service_pb2_grpc.EmbeddingServiceStub(channel).EmbedDocuments(
            send(), timeout=SECONDS
        )
        while progress.wait(3):  # it ends when no batch was taken for so long
            progress.clear()
            assert sent < batches // 2
        resident_kib = int(
            Path(f"/proc/{server.process.pid}/status").read_text().split("VmRSS:")[1].split()[0]
        )
        assert resident_kib < 400 * 1024
        stopped_at = sent
        for _ in range(stopped_at + 10):
            assert len(next(answers).items) == len(texts)
        assert sent > stopped_at
        answers.cancel()
    assert server.terminate() == 0
    assert "Traceback" not in server.log.read_text()


def test_too_many_streams_is_not_for_queries(stub: Any) -> None:
    """Open bulk streams keep no query from being served."""
    gate = threading.Event()

    def hold() -> Iterator[pb.EmbedDocumentsRequest]:
        yield documents(1, b"a")
        gate.wait(SECONDS)

    streams = [stub.EmbedDocuments(hold(), timeout=SECONDS) for _ in range(64)]
    for stream in streams:
        assert next(stream).batch_id == 1
    with pytest.raises(grpc.RpcError, match="64 bulk streams are open") as caught:
        next(stub.EmbedDocuments(iter([documents(1, b"a")]), timeout=SECONDS))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert stub.EmbedQuery(pb.EmbedQueryRequest(texts=["a"]), timeout=SECONDS).vectors.rows == 1
    gate.set()
    for stream in streams:
        assert list(stream) == []
