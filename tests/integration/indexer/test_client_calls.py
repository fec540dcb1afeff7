"""The client against servers that misbehave on purpose, over real sockets: no real pool can be made to."""

import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from google.protobuf import any_pb2, duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status
from opentelemetry import trace

from embedpool.v1 import embedding_service_pb2 as pb
from embedpool.v1 import embedding_service_pb2_grpc as pb_grpc
from indexer.client import Client, RetryConfig
from indexer.errors import AwayError, ModelMismatchError, PoolError

QUICK = RetryConfig(first_delay=0.01, last_delay=0.05)
Respond = Callable[[int, Any, Any], Any]  # number of the call from 0, its request, its context


class _Server(pb_grpc.EmbeddingServiceServicer):
    """Answers queries as it is told; keeps the metadata of each."""

    def __init__(self, respond: Respond) -> None:
        self.respond = respond
        self.fingerprint = "f" * 64
        self.metadata: list[dict[str, str]] = []
        self.times: list[float] = []
        self.address = ""
        self._lock = threading.Lock()

    def GetModel(self, request: Any, context: Any) -> Any:  # noqa: N802 - the wire's name
        limits = pb.Limits(max_text_bytes=100, max_query_texts=2)
        return pb.GetModelResponse(
            fingerprint=self.fingerprint, name="two", dim=2, limits=limits, processes=1
        )

    def EmbedQuery(self, request: Any, context: Any) -> Any:  # noqa: N802
        with self._lock:
            number = len(self.times)
            self.times.append(time.monotonic())
            self.metadata.append(dict(context.invocation_metadata()))
        return self.respond(number, request, context) or self.good(request)

    def good(self, request: Any) -> Any:
        """Answers as a pool would: the vector of a text is its length and its first letter."""
        values = b"".join(struct.pack("<ff", len(text), ord(text[0])) for text in request.texts)
        count = len(request.texts)
        return pb.EmbedQueryResponse(
            vectors=pb.Vectors(data=values, type=pb.VECTOR_TYPE_FLOAT32, dim=2, rows=count),
            token_counts=[3] * count,
            truncated=[False] * count,
            model_fingerprint=self.fingerprint,
        )


@contextmanager
def _serving(*responds: Respond) -> Iterator[list[_Server]]:
    servers, servicers = [], []
    for respond in responds:
        servicer = _Server(respond)
        server = grpc.server(ThreadPoolExecutor(8))
        pb_grpc.add_EmbeddingServiceServicer_to_server(servicer, server)
        servicer.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        servers.append(server)
        servicers.append(servicer)
    try:
        yield servicers
    finally:
        for server in servers:
            server.stop(None).wait()


def _well(number: int, request: Any, context: Any) -> None:
    """Answers as a pool would."""


def _busy(seconds: int) -> status_pb2.Status:
    detail = any_pb2.Any()
    detail.Pack(error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=seconds)))
    return status_pb2.Status(code=code_pb2.RESOURCE_EXHAUSTED, message="full", details=[detail])


def test_an_overloaded_pool_is_asked_again_when_it_says() -> None:
    """RESOURCE_EXHAUSTED waits for the RetryInfo, and the call then succeeds."""

    def full(number: int, request: Any, context: Any) -> None:
        if number == 0:
            context.abort_with_status(rpc_status.to_status(_busy(1)))

    with _serving(full) as (server,), Client(server.address, retry=QUICK) as client:
        assert client.embed_query("abc").vectors.tolist() == [[3, ord("a")]]
        assert server.times[1] - server.times[0] >= 1.0


def test_an_overloaded_pool_s_calls_go_to_another() -> None:
    """While one pool asks for time the other is asked, at once."""

    def full(number: int, request: Any, context: Any) -> None:
        context.abort_with_status(rpc_status.to_status(_busy(30)))

    with _serving(full, _well) as (busy, well):
        with Client([busy.address, well.address]) as client:
            for _ in range(20):
                assert client.embed_query("abc", timeout=10).target == well.address
        assert len(busy.times) <= 1
        assert len(well.times) == 20


@pytest.mark.parametrize(
    "code",
    [
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.PERMISSION_DENIED,
    ],
)
def test_a_final_status_is_told_at_once(code: grpc.StatusCode) -> None:
    """What waiting cannot mend is sent once, and the error carries status, words and request id."""

    def refuse(number: int, request: Any, context: Any) -> None:
        context.abort(code, "texts[0] is wrong")

    with _serving(refuse, refuse) as servers, Client([server.address for server in servers]) as client:
        with pytest.raises(PoolError, match=r"texts\[0\] is wrong") as caught:
            client.embed_query("abc", request_id="mine")
        assert not isinstance(caught.value, AwayError)
        assert (caught.value.code, caught.value.request_id) == (code.name, "mine")
        assert sum(len(server.times) for server in servers) == 1


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.ABORTED])
def test_a_passing_failure_is_mended_by_waiting(code: grpc.StatusCode) -> None:
    """A pool that fails three times and then answers: the caller notices nothing."""

    def fail(number: int, request: Any, context: Any) -> None:
        if number < 3:
            context.abort(code, "for now")

    with _serving(fail) as (server,), Client(server.address, retry=QUICK) as client:
        assert client.embed_query("abc").vectors.tolist() == [[3, ord("a")]]
        assert len(server.times) == 4
        assert client.targets[0].up


def test_a_hung_pool_s_call_goes_to_another() -> None:
    """A pool that says nothing costs one attempt, not the whole timeout."""
    released = threading.Event()

    def hang(number: int, request: Any, context: Any) -> None:
        released.wait(30)

    with _serving(hang, _well) as (hung, well):
        with Client([hung.address, well.address], retry=RetryConfig(attempt=0.5)) as client:
            for _ in range(10):
                assert client.embed_query("abc", timeout=20).target == well.address
        assert len(hung.times) <= 4  # it describes itself well, so it is tried again, ever more rarely
        released.set()


def test_a_caller_with_little_time_says_nothing_about_the_pool() -> None:
    """A query that is given 50 ms fails by itself; the pool goes on with the calls of others."""

    def slow(number: int, request: Any, context: Any) -> None:
        if request.texts[0] == "slow":
            time.sleep(0.5)

    with _serving(slow) as (server,), Client(server.address) as client:
        client.embed_query("abc")
        with pytest.raises(AwayError) as caught:
            client.embed_query("slow", timeout=0.05)
        assert caught.value.code == "DEADLINE_EXCEEDED"
        assert client.targets[0].up


def test_closing_ends_the_calls_of_other_threads() -> None:
    """A call that waits while its client is closed ends with an error, and nobody hangs."""
    arrived, released = threading.Event(), threading.Event()

    def hang(number: int, request: Any, context: Any) -> None:
        arrived.set()
        released.wait(30)

    with _serving(hang) as (server,), ThreadPoolExecutor(1) as caller:
        client = Client(server.address)
        call = caller.submit(client.embed_query, "abc")
        assert arrived.wait(10)
        client.close()
        client.close()
        with pytest.raises(PoolError, match="closed"):
            call.result(10)
        released.set()


def test_retries_end_with_the_deadline_and_with_the_budget() -> None:
    """A pool that always fails: the caller hears it in time; a client whose calls all fail stops retrying."""

    def fail(number: int, request: Any, context: Any) -> None:
        context.abort(grpc.StatusCode.UNAVAILABLE, "gone")

    with _serving(fail) as (server,):
        with Client(server.address, retry=QUICK) as client:
            started = time.monotonic()
            with pytest.raises(AwayError, match="gone"):
                client.embed_query("abc", timeout=0.5)
            assert time.monotonic() - started < 5
        before = len(server.times)
        few = RetryConfig(first_delay=0.001, last_delay=0.001, budget_per_second=0, budget_reserve=3)
        with Client(server.address, retry=few) as client:
            for _ in range(10):
                with pytest.raises(AwayError, match="gone"):
                    client.embed_query("abc", timeout=5)
        assert len(server.times) - before <= 10 + 3 + 10 * few.budget_ratio


def test_ids_and_traces_travel_with_the_call() -> None:
    """The request id is the caller's or a new one; a traceparent is sent inside a span and only there."""
    context = trace.SpanContext(int("1" * 32, 16), int("2" * 16, 16), False, trace.TraceFlags(1))
    with _serving(_well) as (server,), Client(server.address, token="secret") as client:  # noqa: S106
        client.embed_query("abc", request_id="mine")
        client.embed_query("abc")
        with trace.use_span(trace.NonRecordingSpan(context)):
            answer = client.embed_query("abc")
    first, second, third = server.metadata
    assert first["x-request-id"] == "mine"
    assert len(second["x-request-id"]) == 32
    assert third["x-request-id"] == answer.request_id
    assert "traceparent" not in second
    assert third["traceparent"] == f"00-{'1' * 32}-{'2' * 16}-01"
    assert first["authorization"] == "Bearer secret"


def test_more_texts_than_a_call_takes_go_in_several() -> None:
    """Five texts at a pool that takes two: three calls, one answer in their order."""
    with _serving(_well) as (server,), Client(server.address) as client:
        texts = ["a", "bb", "ccc", "dddd", "eeeee"]
        answer = client.embed_query(texts)
    assert answer.vectors[:, 0].tolist() == [1, 2, 3, 4, 5]
    assert len(server.times) == 3


def test_one_answer_never_mixes_models() -> None:
    """Pools of two models are refused by name; allowed ones are told apart, and not mixed in one answer."""
    with _serving(_well, _well) as servers:
        servers[1].fingerprint = "0" * 64
        addresses = [server.address for server in servers]
        with Client(addresses) as client:
            for _ in range(2):
                with pytest.raises(
                    ModelMismatchError, match=f"{'f' * 12}.*{'0' * 12}|{'0' * 12}.*{'f' * 12}"
                ):
                    client.embed_query("abc")
        with Client(addresses, mixed_models=True) as client:
            seen = {client.embed_query("abc").fingerprint for _ in range(60)}
            assert len(seen) == 2
            with pytest.raises(ModelMismatchError, match="one result would mix them"):
                client.embed_query(["a"] * 120)
        with Client(addresses[0], fingerprint="1" * 64) as client, pytest.raises(ModelMismatchError):
            client.embed_query("abc")


def test_a_pool_that_takes_another_model_over_is_left() -> None:
    """A change of models in the middle: its calls go to the pool that still serves the right one."""

    def swap(number: int, request: Any, context: Any) -> None:
        if number == 2:
            servers[0].fingerprint = "0" * 64

    with _serving(swap, _well) as servers, Client([one.address for one in servers], retry=QUICK) as client:
        prints = [client.embed_query("abc").fingerprint for _ in range(40)]
        assert set(prints) == {"f" * 64}
        assert "serves model 000000000000" in client.targets[0].error
