"""No input, however malformed, ends a process."""

import random
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest

from embedpool.v1 import embedding_service_pb2 as pb

SECONDS = 60.0
SERVICE = "/embedpool.v1.EmbeddingService/"


@pytest.fixture(scope="module")
def server(start_shared_worker: Callable[..., Any], tiny_bundle: Path) -> Any:
    """A server that all tests of this file mistreat."""
    return start_shared_worker(tiny_bundle)


@pytest.fixture(autouse=True)
def _unharmed(server: Any, stub_for: Callable[..., Any]) -> Any:
    """After each test the same processes live and serve."""
    children = server.child_pids()
    yield
    assert server.child_pids() == children
    assert server.process.poll() is None
    answer = stub_for(server).EmbedQuery(pb.EmbedQueryRequest(texts=["still here"]), timeout=SECONDS)
    assert answer.vectors.rows == 1


def junk(seed: int) -> bytes:
    """Returns random bytes, or a real message with random bytes in it."""
    dice = random.Random(seed)
    if seed % 2:
        return dice.randbytes(dice.randint(1, 400))
    real = bytearray(pb.EmbedQueryRequest(texts=["a red house", "rain"]).SerializeToString())
    for _ in range(dice.randint(1, 6)):
        real[dice.randrange(len(real))] = dice.randrange(256)
    return bytes(real)


def status_of(call: Callable[[], Any]) -> grpc.StatusCode:
    """Returns the status that a call ends with."""
    try:
        call()
    except grpc.RpcError as error:
        code: grpc.StatusCode = error.code()
        return code
    return grpc.StatusCode.OK


def test_random_bytes_as_messages(server: Any) -> None:
    """Bytes that are no message get a status; the connection and the server go on."""
    with grpc.insecure_channel(server.address) as channel:
        query = channel.unary_unary(SERVICE + "EmbedQuery")
        documents = channel.stream_stream(SERVICE + "EmbedDocuments")
        seen = set()
        for seed in range(150):
            message = junk(seed)
            seen.add(status_of(partial(query, message, timeout=SECONDS)))
            seen.add(status_of(lambda: list(documents(iter([message]), timeout=SECONDS))))  # noqa: B023  called at once
    assert seen <= {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT}
    assert "Traceback" not in server.log.read_text()


def test_text_of_a_query_that_is_not_utf_8(server: Any) -> None:
    """A query whose string is not UTF-8 cannot be parsed: it is told so, the next one is served."""
    broken = pb.EmbedQueryRequest(texts=["ab"]).SerializeToString().replace(b"ab", b"\xff\xfe")
    with (
        grpc.insecure_channel(server.address) as channel,
        pytest.raises(grpc.RpcError, match=r"cannot be parsed.*strings in UTF-8") as caught,
    ):
        channel.unary_unary(SERVICE + "EmbedQuery")(broken, timeout=SECONDS)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_message_of_a_stream_that_is_none(server: Any) -> None:
    """Bytes that are no message end their stream with a reason; batches accepted before are answered."""
    good = pb.EmbedDocumentsRequest(batch_id=7, texts=[b"rain"]).SerializeToString()
    with grpc.insecure_channel(server.address) as channel:
        answers = channel.stream_stream(SERVICE + "EmbedDocuments")(iter([good, b"\xff"]), timeout=SECONDS)
        assert pb.EmbedDocumentsResponse.FromString(next(answers)).batch_id == 7
        with pytest.raises(grpc.RpcError, match="cannot be parsed") as caught:
            next(answers)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_odd_texts(server: Any, stub_for: Callable[..., Any]) -> None:
    """Control characters, combining marks, emoji, one endless word: each gets a vector or a status."""
    texts = [
        "\x00",
        "\x00\x01\x02",
        "a\x00b",
        "\u200b\u200b",
        "e" + "\u0301" * 5000,
        "👩‍👩‍👧‍👦" * 500,
        "x" * 200_000,
        " " * 100_000 + "x",
        "\ud7ff\ue000\uffff",
        "[CLS] [SEP] [MASK] [PAD] [UNK]",
        "ﷺ" * 3000,
        "\u202e\u2066 bidi",
        "𝕳𝖊𝖑𝖑𝖔 " * 200,
    ]
    batch = pb.EmbedDocumentsRequest(batch_id=1, texts=[text.encode() for text in texts])
    (answer,) = stub_for(server).EmbedDocuments(iter([batch]), timeout=SECONDS)
    assert len(answer.items) == len(texts)
    assert answer.vectors.rows == sum(item.code == 0 for item in answer.items)
    assert {item.code for item in answer.items} <= {0, grpc.StatusCode.INVALID_ARGUMENT.value[0]}


@pytest.mark.parametrize(
    "values",
    [
        {"vector_type": 2**31 - 1},
        {"vector_type": -1},
        {"truncation": -(2**31)},
        {"dimensions": 2**32 - 1},
        {"prompt_name": "x" * 100_000},
        {"prompt_name": "\x00"},
    ],
)
def test_absurd_options(server: Any, stub_for: Callable[..., Any], values: dict[str, Any]) -> None:
    """Options beyond every range are INVALID_ARGUMENT for queries and streams."""
    stub = stub_for(server)
    options = pb.EmbeddingOptions(**values)
    batch = pb.EmbedDocumentsRequest(texts=[b"a"], options=options)
    query = pb.EmbedQueryRequest(texts=["a"], options=options)
    assert status_of(lambda: stub.EmbedQuery(query, timeout=SECONDS)) is grpc.StatusCode.INVALID_ARGUMENT
    assert (
        status_of(lambda: list(stub.EmbedDocuments(iter([batch]), timeout=SECONDS)))
        is grpc.StatusCode.INVALID_ARGUMENT
    )


def test_message_far_above_every_limit(server: Any, stub_for: Callable[..., Any]) -> None:
    """A message that gRPC itself refuses to read is RESOURCE_EXHAUSTED and costs no memory."""
    batch = pb.EmbedDocumentsRequest(texts=[b"x" * (64 << 20)])
    status = status_of(lambda: list(stub_for(server).EmbedDocuments(iter([batch]), timeout=SECONDS)))
    assert status is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_bytes_that_are_no_http(server: Any) -> None:
    """A connection that talks nonsense is dropped."""
    host, port = server.address.split(":")
    for data in (
        b"GET / HTTP/1.1\r\n\r\n",
        random.Random(0).randbytes(5000),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff",
    ):
        with socket.create_connection((host, int(port)), timeout=SECONDS) as connection:
            connection.sendall(data)


def test_stream_without_messages(server: Any, stub_for: Callable[..., Any]) -> None:
    """A stream that ends before its first message, and a batch without texts, are no errors."""
    stub = stub_for(server)
    assert list(stub.EmbedDocuments(iter([]), timeout=SECONDS)) == []
    (answer,) = stub.EmbedDocuments(iter([pb.EmbedDocumentsRequest(batch_id=5)]), timeout=SECONDS)
    assert (answer.batch_id, len(answer.items), answer.vectors.rows) == (5, 0, 0)
