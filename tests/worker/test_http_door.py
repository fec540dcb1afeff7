"""Parts of the HTTP door that need no server: what callers may say, are told, and how texts are cut."""

import json
import socket
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.errors import ModelError, OverloadError, PoisonError, RequestError, UnavailableError, WorkerError
from worker.operation.listen import bind_http
from worker.settings.config import Limits, ServeConfig
from worker.settings.groups import Http
from worker.wires.http.batches import _pieces
from worker.wires.http.codec import Codec
from worker.wires.http.refusals import FAILED, HttpError, first_bad, http_error_of
from worker.wires.http.request import EmbeddingRequest, read_request

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_subnormal=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
MEMBERS = st.sampled_from(
    ["input", "model", "encoding_format", "dimensions", "input_type", "prompt_name", "x"]
)


@given(st.dictionaries(MEMBERS, JSON, max_size=5) | JSON)
def test_a_body_is_a_request_or_a_refusal(value: Any) -> None:
    """Any JSON value is read as a request whose texts are strings, or refused in OpenAI's form."""
    try:
        request = read_request(value, max_inputs=3)
    except HttpError as error:
        refused = error
    else:
        assert isinstance(request, EmbeddingRequest)
        assert 1 <= len(request.texts) <= 3
        assert all(isinstance(text, str) for text in request.texts)
        return
    told: Any = json.loads(Codec().write(refused.body()))
    assert refused.kind.http == 400
    assert told["error"]["message"] == str(refused)


@pytest.mark.parametrize(
    ("error", "status", "param", "message"),
    [
        (RequestError("texts[3] is empty"), 400, "input", "input[3] is empty"),
        (RequestError("texts have 9 bytes"), 400, "input", "input have 9 bytes"),
        (RequestError("options.prompt_name is 'x'"), 400, "prompt_name", "prompt_name is 'x'"),
        (OverloadError("full", 0.25), 429, "", "full"),
        (UnavailableError("drains"), 503, "", "drains"),
        (PoisonError("texts[0]: ended two"), 500, "input", "input[0]: ended two"),
        (WorkerError("new kind"), 500, "", "new kind"),
    ],
)
def test_errors_have_one_table(error: WorkerError, status: int, param: str, message: str) -> None:
    """Each error has its status, the words of this wire, and tells clients whether to come again."""
    told = http_error_of(error)
    assert (told.kind.http, told.param, str(told)) == (status, param, message)
    headers = dict(told.headers)
    assert ("retry-after" in headers) == (status in (429, 503))
    assert headers.get("x-should-retry") == ("false" if status == 500 else None)
    if isinstance(error, OverloadError):
        assert (headers["retry-after"], headers["retry-after-ms"]) == ("1", "250")


def test_first_bad_text_decides() -> None:
    """The lowest index is named with its error, and how many more are bad; the longest list ends."""
    told = first_bad({7: RequestError("it is empty"), 2: ModelError("it failed")}, 9)
    assert (told.kind, str(told)) == (FAILED, "input[2]: it failed (2 of the 9 texts are bad: 2, 7)")
    many: dict[int, WorkerError] = {index: RequestError("x") for index in range(40)}
    assert str(first_bad(many, 50)).endswith("8, 9, …)")


@given(st.lists(st.integers(0, 9), min_size=1, max_size=40))
def test_pieces_keep_the_limits(sizes: list[int]) -> None:
    """All texts are there in their order, in no more pieces than need be, each within both limits."""
    limits = Limits(max_text_bytes=9, max_batch_items=4, max_batch_bytes=12, max_stream_bytes_in_flight=12)
    texts = [bytes(size) for size in sizes]
    pieces = list(_pieces(texts, limits))
    assert [text for _, piece in pieces for text in piece] == texts
    assert [first for first, _ in pieces] == [sum(len(p) for _, p in pieces[:n]) for n in range(len(pieces))]
    for number, (_, piece) in enumerate(pieces):
        assert 1 <= len(piece) <= 4
        assert sum(map(len, piece)) <= 12
        if number + 1 < len(pieces):  # the next text would not have gone in
            after = pieces[number + 1][1][0]
            assert len(piece) == 4 or sum(map(len, piece)) + len(after) > 12
    with pytest.raises(RequestError, match=r"texts\[1\] has 10 bytes"):
        list(_pieces([b"", bytes(10)], limits))


def test_answers_are_sent_at_once(tmp_path: Path) -> None:
    """The socket names its protocol: asyncio lets small writes wait for the caller's ACK otherwise."""
    config = ServeConfig(tmp_path, http=Http(listen="127.0.0.1:0"))
    listening, address = bind_http(config, encrypted=False)
    with listening:
        assert listening.proto == socket.IPPROTO_TCP
        assert address == f"127.0.0.1:{listening.getsockname()[1]}"
