"""What holds on every wire alike: tokens, limits, draining, callers that leave; no input ends the server."""

import contextlib
import os
import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status

from embedpool.wires import open_inference_pb2 as oip
from embedpool.wires import open_inference_pb2_grpc, tei_pb2_grpc
from embedpool.wires import tei_pb2 as tei
from tests.integration.held import ONE_PROCESS, SECONDS, counts_of, is_running, stopped
from tests.integration.test_wire_open_inference import infer
from tests.integration.test_worker_auth import EMBED, shows, write

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
# Random and mutated messages, for each RPC as many.
MESSAGES = 120


class Stubs:
    """All services of the two wires."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.info = tei_pb2_grpc.InfoStub(channel)
        self.embed = tei_pb2_grpc.EmbedStub(channel)
        self.tokenize = tei_pb2_grpc.TokenizeStub(channel)
        self.inference = open_inference_pb2_grpc.GRPCInferenceServiceStub(channel)

    def guarded(self) -> list[tuple[Any, Any]]:
        """Returns unary RPCs that need a token, each with a good request."""
        return [
            (self.info.Info, tei.InfoRequest()),
            (self.embed.Embed, tei.EmbedRequest(inputs="rain")),
            (self.tokenize.Tokenize, tei.EncodeRequest(inputs="rain")),
            (self.inference.ServerMetadata, oip.ServerMetadataRequest()),
            (self.inference.ModelMetadata, oip.ModelMetadataRequest()),
            (self.inference.ModelInfer, infer([b"rain"])),
        ]

    def streams(self) -> list[tuple[Any, Any]]:
        """Returns streams, each with a good request."""
        return [
            (self.embed.EmbedStream, tei.EmbedRequest(inputs="rain")),
            (self.tokenize.TokenizeStream, tei.EncodeRequest(inputs="rain")),
        ]


@contextlib.contextmanager
def stubs_of(server: Any) -> Iterator[Stubs]:
    """Connects to a server."""
    with grpc.insecure_channel(server.address) as channel:
        yield Stubs(channel)


def _call(rpc: Callable[[], Any]) -> None:
    rpc()


def status_of(call: Callable[[], Any]) -> grpc.StatusCode:
    """Returns the status that a call ends with."""
    try:
        call()
    except grpc.RpcError as error:
        code: grpc.StatusCode = error.code()
        return code
    return grpc.StatusCode.OK


def test_tokens_hold_on_every_wire(
    start_worker: Callable[..., Any], tiny_bundle: Path, tmp_path: Path
) -> None:
    """Without a token nothing is told but whether the server lives and is ready."""
    server = start_worker(tiny_bundle, "--token-file", str(write(tmp_path / "tokens", EMBED)))
    token = shows(EMBED)
    with stubs_of(server) as stubs:
        for method, request in stubs.guarded():
            assert status_of(lambda: method(request, timeout=SECONDS)) is grpc.StatusCode.UNAUTHENTICATED  # noqa: B023  called at once
            method(request, timeout=SECONDS, metadata=token)
        for method, request in stubs.streams():
            for sent in ([], [request]):
                refused = status_of(lambda: list(method(iter(sent), timeout=SECONDS)))  # noqa: B023  called at once
                assert refused is grpc.StatusCode.UNAUTHENTICATED
            assert len(list(method(iter([request] * 3), timeout=SECONDS, metadata=token))) == 3
        assert stubs.inference.ServerLive(oip.ServerLiveRequest(), timeout=SECONDS).live
        assert stubs.inference.ServerReady(oip.ServerReadyRequest(), timeout=SECONDS).ready
        assert stubs.inference.ModelReady(oip.ModelReadyRequest(), timeout=SECONDS).ready
    assert EMBED not in server.log.read_text()


def test_overload_cancel_and_drain(start_worker: Callable[..., Any], tiny_bundle: Path) -> None:
    """A full server says when to come back, forgets who has left, and drains after what it accepted."""
    limits = ("--max-text-bytes", "5000", "--max-query-bytes-in-flight", "8000", "--max-streams", "2")
    server = start_worker(tiny_bundle, *ONE_PROCESS, *limits)
    large = tei.EmbedRequest(inputs="word " * 900, truncate=True)
    over = threading.Event()

    def held(request: Any) -> Iterator[Any]:
        yield request
        over.wait(2 * SECONDS)

    with stubs_of(server) as stubs, counts_of(server) as counts:
        with stopped(server):
            gone = stubs.embed.Embed.future(large, timeout=SECONDS)
            counts.until(is_running)
            waiting = stubs.embed.EmbedStream(iter([large] * 5), timeout=SECONDS)
            counts.until(lambda now: now.documents.waiting == 5)
            for full in (
                lambda: stubs.embed.Embed(large, timeout=SECONDS),
                lambda: stubs.inference.ModelInfer(infer([b"word " * 900]), timeout=SECONDS),
            ):
                with pytest.raises(grpc.RpcError, match="max_query_bytes_in_flight is 8000") as caught:
                    _call(full)
                assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
                retry = RetryInfo()
                assert rpc_status.from_call(caught.value).details[0].Unpack(retry)
                assert retry.retry_delay.ToTimedelta().total_seconds() > 0
            told = stubs.tokenize.Tokenize(tei.EncodeRequest(inputs="word " * 900), timeout=SECONDS)
            assert len(told.tokens) >= 900  # it takes nothing of the queries' bytes, nor they of its
            gone.cancel()
            waiting.cancel()
            counts.until(lambda now: now.queries.texts["cancelled"] + now.documents.texts["cancelled"] == 6)
            counts.until(lambda now: not now.query_bytes_in_flight + now.document_bytes_in_flight)
            accepted = stubs.embed.Embed.future(large, timeout=SECONDS)
            streams = [
                stubs.embed.EmbedStream(held(tei.EmbedRequest(inputs="rain")), timeout=SECONDS),
                stubs.tokenize.TokenizeStream(held(tei.EncodeRequest(inputs="rain")), timeout=SECONDS),
            ]
            assert next(streams[1]).tokens
            counts.until(lambda now: (now.queries.waiting, now.documents.waiting) == (1, 1))
            third = status_of(lambda: list(stubs.embed.EmbedStream(iter([large]), timeout=SECONDS)))
            assert third is grpc.StatusCode.RESOURCE_EXHAUSTED
            server.process.terminate()
            counts.until(
                lambda _: not stubs.inference.ServerReady(oip.ServerReadyRequest(), timeout=SECONDS).ready
            )
            assert not stubs.inference.ModelReady(oip.ModelReadyRequest(), timeout=SECONDS).ready
            assert stubs.inference.ServerLive(oip.ServerLiveRequest(), timeout=SECONDS).live
            _, embed, tokenize, _, _, inference = stubs.guarded()
            for method, request in (embed, tokenize, inference):
                assert status_of(lambda: method(request, timeout=SECONDS)) is UNAVAILABLE  # noqa: B023  called at once
        assert len(accepted.result(SECONDS).embeddings) == 32
        assert len(next(streams[0]).embeddings) == 32
        for stream in streams:
            assert status_of(lambda: list(stream)) is UNAVAILABLE  # noqa: B023  called at once
    over.set()
    assert server.process.wait(SECONDS) == 0
    assert "Traceback" not in server.log.read_text()


@pytest.fixture(scope="module")
def server(start_shared_worker: Callable[..., Any], tiny_bundle: Path) -> Any:
    """A server that the tests below mistreat."""
    return start_shared_worker(tiny_bundle, "--processes", "1", "--max-text-bytes", "4000")


def test_reflection_and_health_know_every_service(server: Any) -> None:
    """Tools find the services of all wires, and each has a health of its own."""
    names = {"embedpool.v1.EmbeddingService", "inference.GRPCInferenceService"}
    names |= {"tei.v1.Info", "tei.v1.Embed", "tei.v1.Tokenize"}
    with grpc.insecure_channel(server.address) as channel:
        ask = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo
        questions = [reflection_pb2.ServerReflectionRequest(list_services="")]
        questions += [reflection_pb2.ServerReflectionRequest(file_containing_symbol=name) for name in names]
        listed, *files = ask(iter(questions), timeout=SECONDS)
        assert names <= {one.name for one in listed.list_services_response.service}
        assert all(answer.file_descriptor_response.file_descriptor_proto for answer in files)
        for name in names:
            request = health_pb2.HealthCheckRequest(service=name)
            answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=SECONDS)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING


def bent(dice: random.Random, message: bytes) -> bytes:
    """Returns a message with some bytes changed, cut off or added, or random bytes."""
    data = bytearray(message)
    kind = dice.random()
    if kind < 0.6:
        for _ in range(dice.randint(1, 6)):
            data[dice.randrange(len(data))] = dice.randrange(256)
    elif kind < 0.8:
        del data[dice.randint(0, len(data)) :]
    elif kind < 0.9:
        data += bytes([dice.randint(1, 8) << 3 | dice.randrange(8)]) + dice.randbytes(dice.randint(0, 12))
    else:
        data = bytearray(dice.randbytes(dice.randint(1, 300)))
    return bytes(data)


def test_no_message_ends_the_server(server: Any) -> None:
    """Random and mutated messages get an answer or a status; the same process lives, and nothing is held."""
    dice = random.Random(int(os.environ.get("FUZZ_SEED", "0")))
    children = server.child_pids()
    embed = tei.EmbedRequest(
        inputs="a red house", truncate=True, dimensions=8, prompt_name=""
    ).SerializeToString()
    encode = tei.EncodeRequest(inputs="a red house", add_special_tokens=True).SerializeToString()
    raw = infer(
        [b"a red house", b"rain"], id="7", parameters={"truncate": "END"}, outputs=[{"name": "embeddings"}]
    )
    typed = infer([b"a red house", b"rain"], raw=False, parameters={"dimensions": 8, "input_type": "query"})
    unary = {
        "/tei.v1.Embed/Embed": [embed],
        "/tei.v1.Tokenize/Tokenize": [encode],
        "/inference.GRPCInferenceService/ModelInfer": [raw.SerializeToString(), typed.SerializeToString()],
        "/inference.GRPCInferenceService/ModelMetadata": [b"\x0a\x01a\x12\x01b"],
    }
    seen = set()
    with grpc.insecure_channel(server.address) as channel:
        for method, samples in unary.items():
            call = channel.unary_unary(method)
            for _ in range(MESSAGES):
                message = bent(dice, dice.choice(samples))
                seen.add(status_of(lambda: call(message, timeout=SECONDS)))  # noqa: B023  called at once
        for method, sample in (
            ("/tei.v1.Embed/EmbedStream", embed),
            ("/tei.v1.Tokenize/TokenizeStream", encode),
        ):
            messages = [bent(dice, sample) for _ in range(MESSAGES)]
            assert len(list(channel.stream_stream(method)(iter(messages), timeout=SECONDS))) == MESSAGES
    allowed = {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND}
    assert seen == allowed
    assert server.child_pids() == children
    with counts_of(server) as counts:
        now = counts.until(lambda now: not now.open_streams)
        assert (now.query_bytes_in_flight, now.document_bytes_in_flight) == (0, 0)
    assert "Traceback" not in server.log.read_text()
