"""OpenAI's own package pointed at the worker: the vectors of the native wire, and its exceptions."""

import asyncio
import base64
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
from numpy.typing import NDArray

from embedpool.v1 import embedding_service_pb2 as pb
from tests.integration.held import counts_of
from tests.integration.http_door import HTTP, SECONDS, ask, client_of, connection_to, door_of
from tests.integration.test_worker_metrics import page_of

# Of different lengths, so that none shares a tensor with another and bits do not depend on who met whom.
TEXTS = [" ".join(["rain"] * count) for count in range(1, 24)]


@pytest.fixture(scope="module")
def served(start_shared_worker: Callable[..., Any], tiny_bundle: Path) -> Any:
    """A server of a small random model, which has a second name."""
    return start_shared_worker(
        tiny_bundle, *HTTP, "--http-served-names", "text-embedding-3-small, other", "--max-batch-items", "8"
    )


@pytest.fixture(scope="module")
def trapped(start_shared_worker: Callable[..., Any], trap_bundle: Path) -> Any:
    """A server of a model with a prompt, which fails on some words."""
    return start_shared_worker(trap_bundle, *HTTP)


@pytest.fixture
def client(served: Any) -> Iterator[openai.OpenAI]:
    """OpenAI's client of `served`."""
    with client_of(served) as made:
        yield made


def native(stub: Any, texts: list[str], **options: Any) -> NDArray[np.float32]:
    """Returns the native wire's vectors, with no prompt unless one is asked for."""
    asked = pb.EmbeddingOptions(**({"prompt_name": ""} | options))
    vectors = [
        np.frombuffer(
            stub.EmbedQuery(pb.EmbedQueryRequest(texts=[text], options=asked), timeout=SECONDS).vectors.data,
            np.float32,
        )
        for text in texts
    ]
    return np.stack(vectors)


def name_of(client: openai.OpenAI) -> str:
    """Returns the served model's own name."""
    return str(client.models.list().data[0].id)


def vectors_of(answer: Any) -> NDArray[np.float32]:
    """Returns the vectors of an answer as float32."""
    assert [one.index for one in answer.data] == list(range(len(answer.data)))
    return np.array([one.embedding for one in answer.data], np.float32)


@pytest.mark.parametrize("encoding", [None, "float", "base64"])
@pytest.mark.parametrize("dimensions", [None, 5])
def test_vectors_are_those_of_the_native_wire(
    served: Any, client: openai.OpenAI, stub_for: Callable[..., Any], encoding: Any, dimensions: int | None
) -> None:
    """One text and several, as numbers and as base64, whole and cut: bit for bit what EmbedQuery answers."""
    options: dict[str, Any] = {} if dimensions is None else {"dimensions": dimensions}
    wanted = native(stub_for(served), TEXTS, **options)
    if encoding is not None:
        options["encoding_format"] = encoding
    for texts in (TEXTS, TEXTS[:1]):
        answer = client.embeddings.create(model=name_of(client), input=texts, **options)
        if encoding == "base64":  # then the package hands out what came
            found = [np.frombuffer(base64.b64decode(str(one.embedding)), "<f4") for one in answer.data]
        else:
            found = list(vectors_of(answer))
        np.testing.assert_array_equal(np.stack(found), wanted[: len(texts)])
        assert answer.object == "list"
        assert answer.usage.prompt_tokens == answer.usage.total_tokens > 2 * len(texts)


def test_asynchronous_client(served: Any, stub_for: Callable[..., Any]) -> None:
    """Many requests at once on the asynchronous client: each gets its own text's vector."""
    wanted = native(stub_for(served), TEXTS)
    host, port = door_of(served)

    async def embed_all() -> list[Any]:
        async with openai.AsyncOpenAI(base_url=f"http://{host}:{port}/v1", api_key="none") as client:
            create = client.embeddings.create
            return await asyncio.gather(*(create(model="other", input=text) for text in TEXTS))

    for answer, vector in zip(asyncio.run(embed_all()), wanted, strict=True):
        np.testing.assert_array_equal(vectors_of(answer)[0], vector)
        assert answer.model == "other"


def test_models_by_all_their_names(client: openai.OpenAI) -> None:
    """The list has the model's own name first; each name can be asked for, and no other."""
    names = [model.id for model in client.models.list()]
    assert names[1:] == ["text-embedding-3-small", "other"]
    assert client.models.retrieve(names[1]).id == names[1]
    with pytest.raises(openai.NotFoundError) as missing:
        client.models.retrieve("gpt-4/x")
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError, match=r"'gpt-4'.*text-embedding-3-small") as missing:
        client.embeddings.create(model="gpt-4", input="rain")
    assert (missing.value.code, missing.value.param) == ("model_not_found", "model")


def test_class_follows_the_caller(served: Any, client: openai.OpenAI) -> None:
    """One text is a query and several are bulk work, unless the caller says what they are."""
    with counts_of(served) as counts:
        for input_type, texts, query, bulk in (
            (None, 1, 1, 0),
            (None, 2, 0, 2),
            ("query", 2, 2, 0),
            ("document", 1, 0, 1),
            ("passage", 1, 0, 1),
        ):
            before = counts.now()
            extra = {} if input_type is None else {"input_type": input_type}
            client.embeddings.create(model="other", input=["rain"] * texts, extra_body=extra)
            after = counts.now()
            assert after.queries.texts["ok"] - before.queries.texts["ok"] == query
            assert after.documents.texts["ok"] - before.documents.texts["ok"] == bulk
        assert (after.query_bytes_in_flight, after.document_bytes_in_flight, after.open_streams) == (0, 0, 0)


def test_prompts_only_when_asked_for(trapped: Any, stub_for: Callable[..., Any]) -> None:
    """Without a word no prompt is put in front; input_type means the model's own, prompt_name one of them."""
    plain = native(stub_for(trapped), ["w7 w8"])
    prompted = native(stub_for(trapped), ["w7 w8"], prompt_name="question")
    assert not np.array_equal(plain, prompted)
    with client_of(trapped) as client:
        for extra, wanted in (
            ({}, plain),
            ({"input_type": "query"}, prompted),
            ({"input_type": "passage"}, plain),
            ({"prompt_name": "question"}, prompted),
            ({"input_type": "query", "prompt_name": ""}, plain),
            ({"input_type": "document", "prompt_name": "question"}, prompted),
        ):
            answer = client.embeddings.create(model="traps", input="w7 w8", extra_body=extra)
            np.testing.assert_array_equal(vectors_of(answer), wanted)
        with pytest.raises(openai.BadRequestError, match="prompts are: question") as refused:
            client.embeddings.create(model="traps", input="w1", extra_body={"prompt_name": "answer"})
        assert refused.value.param == "prompt_name"


def test_cut_texts_are_told_or_refused(client: openai.OpenAI) -> None:
    """A header counts texts that were cut; with `truncate: NONE` they are refused instead."""
    long = "rain " * 400
    raw = client.embeddings.with_raw_response.create(model="other", input=["rain", long])
    assert raw.headers["x-embedpool-truncated"] == "1"
    assert len(raw.headers["x-embedpool-model-fingerprint"]) == 64
    assert (
        "x-embedpool-truncated"
        not in client.embeddings.with_raw_response.create(model="other", input="rain").headers
    )
    for texts in ([long], ["rain", long]):
        with pytest.raises(openai.BadRequestError, match=rf"input\[{len(texts) - 1}\].*more than 128 tokens"):
            client.embeddings.create(model="other", input=texts, extra_body={"truncate": "NONE"})


def test_either_end_of_a_long_text_can_be_kept(client: openai.OpenAI) -> None:
    """`truncate: START` embeds the last words, `END` and nothing at all the first ones."""
    first, last = "snow " * 200, "rain " * 200

    def vector(text: str, **extra: str) -> list[float]:
        found: list[float] = (
            client.embeddings.create(model="other", input=text, extra_body=extra).data[0].embedding
        )
        return found

    assert vector(first + last, truncate="START") == vector(last, truncate="START")
    assert vector(first + last, truncate="END") == vector(first + last) == vector(first)
    assert vector(first) != vector(last)


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        ({"input": "", "model": "other"}, "input", r"input\[0\] is empty"),
        ({"input": ["a", " ", "b", ""], "model": "other"}, "input", r"input\[1\]: .*2 of the 4 .*: 1, 3"),
        ({"input": ["a"] * 2049, "model": "other"}, "input", "2049 texts.*http.max_inputs is 2048"),
        ({"input": "a" * 1_100_000, "model": "other"}, "input", r"input\[0\].*max_text_bytes is 1048576"),
        ({"input": ["a", "a" * 1_100_000], "model": "other"}, "input", r"input\[1\].*max_text_bytes"),
        ({"input": [1, 2, 3], "model": "other"}, "input", "check_embedding_ctx_length=False"),
        ({"input": [[1, 2], [3]], "model": "other"}, "input", "token ids"),
        ({"input": "a", "model": "other", "dimensions": 33}, "dimensions", "33.*vectors have 32"),
        ({"input": "a", "model": "other", "dimensions": 0}, "dimensions", "1 or more"),
        ({"input": "a", "model": "other", "encoding_format": "int8"}, "encoding_format", "float or base64"),
        ({"input": ["a"] * 33, "model": "other", "input_type": "query"}, "input", "max_query_texts is 32"),
        ({"input": "a", "model": "other", "prompt": "x"}, "prompt", "did you mean prompt_name"),
    ],
)
def test_bad_requests_name_what_is_wrong(client: openai.OpenAI, body: Any, param: str, words: str) -> None:
    """A bad request is a BadRequestError that names the text or the member, and the limit."""
    with pytest.raises(openai.BadRequestError, match=words) as refused:
        client.post("/embeddings", cast_to=object, body=body)
    assert (refused.value.param, refused.value.type) == (param, "invalid_request_error")
    assert refused.value.request_id


def test_failures_are_not_tried_again(trapped: Any) -> None:
    """A text on which the model fails is an InternalServerError that says not to repeat it."""
    with client_of(trapped, max_retries=2) as client, counts_of(trapped) as counts:
        before = counts.now().queries.texts["failed"]
        with pytest.raises(openai.InternalServerError, match=r"input\[0\]"):
            client.embeddings.create(model="traps", input="fail")
        assert counts.now().queries.texts["failed"] == before + 1
        with pytest.raises(openai.InternalServerError, match=r"input\[1\]"):
            client.embeddings.create(model="traps", input=["w1", "fail", "w2"])


def test_requests_are_counted_and_logged_as_rpcs(start_worker: Callable[..., Any], tiny_bundle: Path) -> None:
    """The log has a line with the caller's id for each request, the page its count, and neither a text."""
    server = start_worker(tiny_bundle, *HTTP, "--log-level", "debug", "--metrics-listen", "127.0.0.1:0")
    with client_of(server) as client, connection_to(server) as connection:
        name = name_of(client)
        headers = {"x-request-id": "mine-1"}
        raw = client.embeddings.with_raw_response.create(
            model=name, input="strictlyprivate", extra_headers=headers
        )
        assert raw.headers["x-request-id"] == "mine-1"
        status, _, told = ask(connection, body={"input": "strictlyprivate", "mo": "strictlyprivate"})
        assert (status, len(told["x-request-id"])) == (400, 32)
        for path in ("/strictlyprivate", "/v1/models/strictlyprivate"):
            assert ask(connection, path)[0] == 404
    log = server.log.read_text()
    assert "rpc method=/v1/embeddings status=OK" in log
    assert "texts=1 tokens=" in log.split("method=/v1/embeddings status=OK")[1].splitlines()[0]
    assert "request_id=mine-1" in log
    assert "rpc method=/v1/embeddings status=INVALID_ARGUMENT" in log
    assert "rpc method=/ status=NOT_FOUND" in log
    assert "strictlyprivate" not in log
    page = page_of(server)
    assert page["embedpool_rpcs_total", ("method", "/v1/embeddings"), ("status", "OK")] == 1
