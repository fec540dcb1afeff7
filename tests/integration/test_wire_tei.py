"""`tei.v1`: clients of Text Embeddings Inference get the same vectors as native ones, on the same port."""

import re
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray
from tokenizers import Tokenizer as RustTokenizer

from embedpool.v1 import embedding_service_pb2 as pb
from embedpool.v1 import embedding_service_pb2_grpc
from embedpool.wires import tei_pb2 as tei
from embedpool.wires import tei_pb2_grpc
from worker.bundle import TOKENIZER, read_bundle
from worker.session import Session

SECONDS = 60.0
INVALID = grpc.StatusCode.INVALID_ARGUMENT
LONG = "the list of names that it returns is long " * 60
TEXTS = ["a red house", "rain", "Ünïcode ﬁrst — 北京 👩‍👩‍👧‍👦", LONG]


class Client:
    """Stubs of both wires of one server."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.info = tei_pb2_grpc.InfoStub(channel)
        self.embed = tei_pb2_grpc.EmbedStub(channel)
        self.tokenize = tei_pb2_grpc.TokenizeStub(channel)
        self.raw_stream = channel.stream_stream(
            "/tei.v1.Embed/EmbedStream", response_deserializer=tei.EmbedResponse.FromString
        )
        self.native = embedding_service_pb2_grpc.EmbeddingServiceStub(channel)

    def native_query(self, text: str, **options: Any) -> NDArray[np.float32]:
        """Returns the vector of the native wire, without a prompt unless one is named."""
        options = {"prompt_name": "", **options}
        request = pb.EmbedQueryRequest(texts=[text], options=pb.EmbeddingOptions(**options))
        return np.frombuffer(self.native.EmbedQuery(request, timeout=SECONDS).vectors.data, "<f4")

    def vector(self, text: str, **values: Any) -> NDArray[np.float32]:
        """Returns the vector of this wire."""
        answer = self.embed.Embed(tei.EmbedRequest(inputs=text, **values), timeout=SECONDS)
        return np.array(answer.embeddings, np.float32)

    def stream(self, requests: Sequence[tei.EmbedRequest]) -> tuple[list[tei.EmbedResponse], Any]:
        """Returns all answers of a stream, and its call."""
        call = self.embed.EmbedStream(iter(requests), timeout=SECONDS)
        return list(call), call


def _client(start: Callable[..., Any], bundle: Path, *arguments: str) -> Iterator[Client]:
    server = start(bundle, "--processes", "1", *arguments)
    children = server.child_pids()
    with grpc.insecure_channel(server.address) as channel:
        yield Client(channel)
    assert server.child_pids() == children
    assert "Traceback" not in server.log.read_text()


@pytest.fixture(scope="module")
def client(start_shared_worker: Callable[..., Any], tiny_bundle: Path) -> Iterator[Client]:
    """A client of a small model whose graph normalizes."""
    yield from _client(start_shared_worker, tiny_bundle)


@pytest.fixture(scope="module")
def trap(start_shared_worker: Callable[..., Any], trap_bundle: Path) -> Iterator[Client]:
    """A client of a model that can fail, has a prompt, and does not normalize."""
    yield from _client(start_shared_worker, trap_bundle, "--max-text-bytes", "400000")


def test_info(client: Client, tiny_bundle: Path) -> None:
    """What is told of the model and the limits is true."""
    manifest, info = read_bundle(tiny_bundle).manifest, client.info.Info(tei.InfoRequest(), timeout=SECONDS)
    assert (info.model_id, info.model_sha) == (manifest.name, manifest.fingerprint)
    assert (info.model_type, info.model_dtype) == (tei.MODEL_TYPE_EMBEDDING, "int8-dynamic")
    assert (info.max_input_length, info.max_client_batch_size) == (manifest.max_tokens, 1)
    assert info.max_batch_tokens >= manifest.max_tokens
    assert info.max_concurrent_requests > 1
    assert info.version
    assert not info.HasField("sha")


@pytest.mark.parametrize("text", TEXTS)
def test_vectors_are_those_of_the_native_wire(client: Client, text: str) -> None:
    """Embed gives what EmbedQuery gives, bit for bit, whole or in part; streams give the same."""
    assert np.array_equal(client.vector(text, truncate=True), client.native_query(text))
    part = client.vector(text, truncate=True, dimensions=8, normalize=True)
    assert np.array_equal(part, client.native_query(text, dimensions=8))
    (answer,), _ = client.stream([tei.EmbedRequest(inputs=text, truncate=True)])
    options = pb.EmbeddingOptions(prompt_name="")
    batch = pb.EmbedDocumentsRequest(texts=[text.encode()], options=options)
    (expected,) = client.native.EmbedDocuments(iter([batch]), timeout=SECONDS)
    assert np.array_equal(np.array(answer.embeddings, "<f4"), np.frombuffer(expected.vectors.data, "<f4"))
    assert answer.metadata.compute_tokens == expected.items[0].token_count


def test_metadata_and_headers(client: Client) -> None:
    """An answer tells characters, tokens and times, and the headers the same times in milliseconds."""
    answer, call = client.embed.Embed.with_call(tei.EmbedRequest(inputs="Ünï 👩"), timeout=SECONDS)
    told = answer.metadata
    assert told.compute_chars == 5
    assert told.compute_tokens >= 3
    assert told.inference_time_ns > 0
    assert told.total_time_ns >= told.inference_time_ns + told.tokenization_time_ns
    headers = dict(call.initial_metadata())
    for name in ("total", "tokenization", "queue", "inference"):
        assert headers[f"x-{name}-time"] == str(getattr(told, f"{name}_time_ns") // 1_000_000)


def test_the_end_of_a_long_text(client: Client, tiny_bundle: Path) -> None:
    """truncation_direction LEFT keeps what a tokenizer keeps that cuts on the left, of long texts."""
    bundle = read_bundle(tiny_bundle)
    oracle = RustTokenizer.from_file(str(tiny_bundle / TOKENIZER))
    oracle.no_padding()
    oracle.enable_truncation(bundle.manifest.max_tokens, direction="left")
    left = tei.TRUNCATION_DIRECTION_LEFT
    text = LONG + "and it ends with rain"
    ids = np.array(oracle.encode(text).ids)
    vector = client.vector(text, truncate=True, truncation_direction=left)
    assert np.array_equal(vector, Session(bundle).embed([ids])[0])
    assert not np.array_equal(vector, client.vector(text, truncate=True))
    assert np.array_equal(client.vector("rain", truncation_direction=left), client.vector("rain"))


def test_prompts_and_length(trap: Client) -> None:
    """No prompt unless named; vectors have unit length unless the caller says no, as at their origin."""
    raw = trap.native_query("w7 w9")
    assert np.array_equal(trap.vector("w7 w9", normalize=False), raw)
    unit = trap.vector("w7 w9")
    assert np.allclose(unit, raw / np.linalg.norm(raw), atol=1e-6)
    assert abs(float(np.linalg.norm(unit)) - 1) < 1e-6
    prompted = trap.vector("w7 w9", normalize=False, prompt_name="question")
    assert np.array_equal(prompted, trap.native_query("w7 w9", prompt_name="question"))
    assert not np.array_equal(prompted, raw)
    # The beginning that is cut is that of all that is read: the prompt goes first.
    long = "w5 " * 40
    left = {"truncate": True, "truncation_direction": tei.TRUNCATION_DIRECTION_LEFT, "normalize": False}
    prompted = trap.vector(long, prompt_name="question", **left)
    assert np.array_equal(prompted, trap.vector(long, **left))
    assert np.allclose(prompted, trap.native_query("w5"), atol=1e-5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"inputs": ""}, "inputs is empty"),
        ({"inputs": " \n"}, "inputs is empty"),
        ({"inputs": LONG}, "inputs: the text has more than 128 tokens"),
        ({"inputs": "a", "dimensions": 0}, "dimensions is 0"),
        ({"inputs": "a", "dimensions": 33}, "dimensions is 33, the model's vectors have 32"),
        ({"inputs": "a", "prompt_name": "no"}, "prompt_name is 'no', the model's prompts are: none"),
        ({"inputs": "a", "normalize": False}, "normalize is false, but"),
        ({"inputs": "a", "truncation_direction": 2}, "truncation_direction is 2"),
        ({"inputs": "a" * 2_000_000}, "inputs has 2000000 bytes, the limit max_text_bytes is 1048576"),
    ],
)
def test_what_is_refused(client: Client, values: dict[str, Any], message: str) -> None:
    """Each broken rule is INVALID_ARGUMENT, in the words of this wire; on a stream it is a failure there."""
    request = tei.EmbedRequest(**values)
    with pytest.raises(grpc.RpcError) as caught:
        client.embed.Embed(request, timeout=SECONDS)
    assert caught.value.code() is INVALID
    assert re.match(message, caught.value.details()), caught.value.details()
    (answer,), call = client.stream([request])
    assert call.code() is grpc.StatusCode.OK
    assert answer.failure.code == INVALID.value[0]


def test_what_fails_in_the_model(trap: Client) -> None:
    """A model that fails is FAILED_PRECONDITION here, alone and on a stream, which goes on."""
    with pytest.raises(grpc.RpcError) as caught:
        trap.embed.Embed(tei.EmbedRequest(inputs="w1 fail"), timeout=SECONDS)
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    answers, call = trap.stream([tei.EmbedRequest(inputs=text) for text in ("w1", "fail", "w2")])
    assert [len(answer.embeddings) for answer in answers] == [8, 0, 8]
    assert answers[1].failure.code == grpc.StatusCode.FAILED_PRECONDITION.value[0]
    assert call.code() is grpc.StatusCode.OK


def test_ten_thousand_texts_in_order(trap: Client) -> None:
    """Answers come in the order of the requests, each with its own vector; bad texts keep their place."""
    texts = [f"w{number % 96} w{number // 96 % 96} " + "w5 " * (number % 5) for number in range(10_000)]
    bad = set(range(0, 10_000, 997))
    requests = [
        tei.EmbedRequest(inputs="" if number in bad else text, normalize=False)
        for number, text in enumerate(texts)
    ]
    answers, call = trap.stream(requests)
    options = pb.EmbeddingOptions(prompt_name="")
    batches = (
        pb.EmbedDocumentsRequest(
            batch_id=first, texts=[t.encode() for t in texts[first : first + 500]], options=options
        )
        for first in range(0, 10_000, 500)
    )
    natives = sorted(trap.native.EmbedDocuments(batches, timeout=SECONDS), key=lambda one: one.batch_id)
    expected = np.concatenate([np.frombuffer(one.vectors.data, "<f4").reshape(-1, 8) for one in natives])
    assert len(answers) == 10_000
    for number, answer in enumerate(answers):
        assert answer.HasField("failure") == (not answer.embeddings) == (number in bad)
        if number not in bad:
            assert np.array_equal(np.array(answer.embeddings, "<f4"), expected[number])
            assert answer.metadata.compute_chars == len(texts[number])
    told = call.trailing_metadata()
    assert dict(told)["x-failed-texts"] == str(len(bad))
    lines = [value for key, value in told if key == "x-failed-text"]
    assert lines == [f"{number} INVALID_ARGUMENT the text is empty" for number in sorted(bad)]


def test_each_message_has_its_own_options(client: Client) -> None:
    """Options of one message of a stream say nothing of the next; what is no message is a failure there."""
    requests = [
        tei.EmbedRequest(inputs="rain", dimensions=8),
        tei.EmbedRequest(inputs="rain"),
        tei.EmbedRequest(inputs=LONG),
        tei.EmbedRequest(inputs=LONG, truncate=True),
        tei.EmbedRequest(inputs="rain", prompt_name="né\n"),
    ]
    sent = [request.SerializeToString() for request in requests]
    sent[2:2] = [b"\xff\xff", tei.EmbedRequest(inputs="ab").SerializeToString().replace(b"ab", b"\xff\xfe")]
    call = client.raw_stream(iter(sent), timeout=SECONDS)
    answers = list(call)
    assert [len(answer.embeddings) for answer in answers] == [8, 32, 0, 0, 0, 32, 0]
    messages = [answer.failure.message for answer in answers if answer.HasField("failure")]
    for message, start in zip(
        messages,
        (
            "the request cannot be parsed",
            "the request cannot be parsed",
            "the text has more than",
            "prompt_name",
        ),
        strict=True,
    ):
        assert message.startswith(start)
    assert dict(call.trailing_metadata())["x-failed-texts"] == "4"


def test_empty_stream(client: Client) -> None:
    """A stream without messages is no error."""
    answers, call = client.stream([])
    assert (answers, call.code()) == ([], grpc.StatusCode.OK)


@pytest.mark.parametrize("special", [True, False])
def test_tokens(client: Client, tiny_bundle: Path, special: bool) -> None:
    """Tokens are the tokenizer's, with their places in code points; a text of any length has all of them."""
    oracle = RustTokenizer.from_file(str(tiny_bundle / TOKENIZER))
    oracle.no_padding()
    oracle.no_truncation()
    texts = [*TEXTS, LONG * 20, "   "]
    requests = [tei.EncodeRequest(inputs=text, add_special_tokens=special) for text in texts]
    streamed = client.tokenize.TokenizeStream(iter(requests), timeout=SECONDS)
    for text, request, answer in zip(texts, requests, streamed, strict=True):
        assert client.tokenize.Tokenize(request, timeout=SECONDS) == answer
        expected = oracle.encode(text, add_special_tokens=special)
        assert [token.id for token in answer.tokens] == expected.ids
        for token, name, mask, (start, stop) in zip(
            answer.tokens, expected.tokens, expected.special_tokens_mask, expected.offsets, strict=True
        ):
            assert token.special == bool(mask)
            assert (token.HasField("start"), token.HasField("stop")) == (not mask, not mask)
            assert token.text == (name if mask else text[start:stop])
            assert (token.start, token.stop) == ((0, 0) if mask else (start, stop))


def test_tokens_behind_a_prompt(trap: Client) -> None:
    """A prompt is in front of the tokens too, and places count from its beginning."""
    answer = trap.tokenize.Tokenize(tei.EncodeRequest(inputs="w7", prompt_name="question"), timeout=SECONDS)
    told = [(token.text, token.start, token.stop) for token in answer.tokens]
    assert told == [("w1", 0, 2), ("w2", 3, 5), ("w7", 6, 8)]


def test_tokens_that_are_refused(client: Client) -> None:
    """What cannot be told is INVALID_ARGUMENT, and a failure at its place of a stream, which goes on."""
    bad = [
        (tei.EncodeRequest(), "the text is empty"),
        (tei.EncodeRequest(inputs="a" * 2_000_000), "the text has 2000000 bytes, the limit max_text_bytes"),
        (tei.EncodeRequest(inputs="a", prompt_name="no"), "prompt_name is 'no'"),
    ]
    for request, message in bad:
        with pytest.raises(grpc.RpcError, match=message) as caught:
            client.tokenize.Tokenize(request, timeout=SECONDS)
        assert caught.value.code() is INVALID
    good = tei.EncodeRequest(inputs="rain")
    call = client.tokenize.TokenizeStream(iter([*(one for one, _ in bad), good]), timeout=SECONDS)
    *failed, last = call
    assert [answer.failure.code for answer in failed] == [INVALID.value[0]] * len(bad)
    assert last.tokens
    assert dict(call.trailing_metadata())["x-failed-texts"] == str(len(bad))


def test_slow_reader_is_held_back(start_worker: Callable[..., Any], trap_bundle: Path) -> None:
    """Who sends and does not read, good texts or bad, is not read from; once he reads, all is answered."""
    limits = (
        "--max-text-bytes",
        "4000",
        "--max-batch-bytes",
        "4000",
        "--max-stream-bytes-in-flight",
        "64000",
    )
    server = start_worker(trap_bundle, *limits)
    total, sent = 40_000, 0
    progress = threading.Event()

    def send() -> Iterator[tei.EmbedRequest]:
        nonlocal sent
        for number in range(total):
            sent += 1
            progress.set()
            yield tei.EmbedRequest(inputs="w1 " * 1300 if number % 2 else " " * 3900, truncate=True)

    # A fixed, small window: otherwise the client's gRPC takes megabytes of answers off the server unasked.
    window = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 65536)]
    with grpc.insecure_channel(server.address, options=window) as channel:
        answers = tei_pb2_grpc.EmbedStub(channel).EmbedStream(send(), timeout=4 * SECONDS)
        while progress.wait(3):  # it ends when no message was taken for so long
            progress.clear()
            assert sent < total // 2
        stopped_at = sent
        for number in range(stopped_at + 10):
            assert next(answers).HasField("failure") == (number % 2 == 0)
        assert sent > stopped_at
        answers.cancel()
    assert server.terminate() == 0
    assert "Traceback" not in server.log.read_text()
