"""Request ids and lines of the log of a real server."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from embedpool.v1 import embedding_service_pb2 as pb

SECONDS = 30.0
TEXT = "strictlyprivate"
QUERY = "/embedpool.v1.EmbeddingService/EmbedQuery"
STREAM = "/embedpool.v1.EmbeddingService/EmbedDocuments"


@pytest.fixture(scope="module")
def talkative(start_shared_worker: Callable[..., Any], tiny_bundle: Path) -> Any:
    """A server that logs everything, as JSON."""
    return start_shared_worker(tiny_bundle, "--log-level", "debug", "--log-format", "json")


def lines(server: Any, request_id: str) -> list[dict[str, Any]]:
    """Returns the lines of one request when there are some; every line of the log must be JSON."""
    deadline = time.monotonic() + SECONDS
    while True:  # a failed RPC is logged when its caller knows already
        whole = server.log.read_text().rpartition("\n")[0]
        members = [json.loads(line) for line in whole.splitlines()]
        if found := [line for line in members if line.get("request_id") == request_id]:
            return found
        assert time.monotonic() < deadline


def test_answer_and_log_have_the_callers_id(talkative: Any, stub_for: Callable[..., Any]) -> None:
    """A caller's id comes back, and its line tells method, status, time, texts and tokens, never a text."""
    answer, call = stub_for(talkative).EmbedQuery.with_call(
        pb.EmbedQueryRequest(texts=[TEXT, "hello"]), metadata=[("x-request-id", "mine-1")], timeout=SECONDS
    )
    assert dict(call.trailing_metadata())["x-request-id"] == "mine-1"
    (line,) = lines(talkative, "mine-1")
    assert (line["level"], line["method"], line["status"]) == ("debug", QUERY, "OK")
    assert (line["texts"], line["tokens"]) == (2, sum(answer.token_counts))
    assert 0 < line["duration_ms"] < SECONDS * 1e3
    assert TEXT not in talkative.log.read_text()


def test_caller_without_an_id_gets_one(talkative: Any, stub_for: Callable[..., Any]) -> None:
    """A new id is made where none was sent, or one that could break a line."""
    stub = stub_for(talkative)
    seen = set()
    for metadata in ([], [("x-request-id", "two words")], [("x-request-id", "x" * 200)]):
        _, call = stub.GetModel.with_call(pb.GetModelRequest(), metadata=metadata, timeout=SECONDS)
        seen.add(dict(call.trailing_metadata())["x-request-id"])
    assert len(seen) == 3
    assert all(len(lines(talkative, one)) == 1 for one in seen)


def test_stream_has_its_id_at_once(talkative: Any, stub_for: Callable[..., Any]) -> None:
    """The id of a stream comes in its initial metadata; its line sums its batches up."""
    batches = [pb.EmbedDocumentsRequest(batch_id=number, texts=[b"some words"] * 3) for number in (1, 2)]
    call = stub_for(talkative).EmbedDocuments(
        iter(batches), metadata=[("x-request-id", "mine-2")], timeout=SECONDS
    )
    assert dict(call.initial_metadata())["x-request-id"] == "mine-2"
    tokens = sum(item.token_count for answer in call for item in answer.items)
    (line,) = lines(talkative, "mine-2")
    assert (line["method"], line["status"], line["texts"], line["tokens"]) == (STREAM, "OK", 6, tokens)


def test_failure_has_its_id_and_a_line_at_info(talkative: Any, stub_for: Callable[..., Any]) -> None:
    """A refused request has its id in the error's metadata, and is logged though debug is off by default."""
    with pytest.raises(grpc.RpcError) as refused:
        stub_for(talkative).EmbedQuery(
            pb.EmbedQueryRequest(texts=[" "]), metadata=[("x-request-id", "mine-3")], timeout=SECONDS
        )
    assert dict(refused.value.trailing_metadata())["x-request-id"] == "mine-3"
    (line,) = lines(talkative, "mine-3")
    assert (line["level"], line["status"]) == ("info", "INVALID_ARGUMENT")


def test_flood_of_refusals_is_no_flood_of_lines(
    start_worker: Callable[..., Any], stub_for: Callable[..., Any], tiny_bundle: Path
) -> None:
    """Refusals are logged a few times a second; how many were held back is told later. As text, at info."""
    server = start_worker(tiny_bundle)
    stub = stub_for(server)
    for _ in range(300):
        with pytest.raises(grpc.RpcError):
            stub.EmbedQuery(pb.EmbedQueryRequest(texts=[""]), timeout=SECONDS)
    with grpc.insecure_channel(server.address) as channel:
        health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=SECONDS)
    refused = [line for line in server.log.read_text().splitlines() if " status=INVALID_ARGUMENT " in line]
    assert 1 <= len(refused) < 200
    assert all(" request_id=" in line and f" rpc method={QUERY} " in line for line in refused)
    assert "status=OK" not in server.log.read_text()
