"""No bytes that come through the HTTP door end the server, fill its memory, or keep a place in it."""

import contextlib
import json
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.integration.held import counts_of
from tests.integration.http_door import (
    EMBEDDINGS,
    HTTP,
    SECONDS,
    ask,
    client_of,
    connection_to,
    head,
    read_answer,
    read_to_end,
    socket_to,
)

GOOD = {"model": "tiny", "input": "rain"}
MAX_BODY = 3_000_000
MAX_CONNECTIONS = 8
READ_SECONDS = 2.0


@pytest.fixture(scope="module")
def served(start_shared_worker: Callable[..., Any], tiny_bundle: Path) -> Any:
    """A server with small bounds."""
    return start_shared_worker(
        tiny_bundle,
        *HTTP,
        *("--http-served-names", "tiny"),
        *("--http-max-body-bytes", str(MAX_BODY)),
        *("--http-max-body-bytes-in-flight", str(2 * MAX_BODY)),
        *("--http-max-connections", str(MAX_CONNECTIONS)),
        *("--http-read-seconds", str(READ_SECONDS)),
    )


def assert_lives(server: Any) -> None:
    """The server answers another caller, and holds nothing of those before."""
    with connection_to(server) as connection:
        assert ask(connection, body=GOOD)[0] == 200
    with counts_of(server) as counts:
        counts.until(lambda now: not now.query_bytes_in_flight and not now.open_streams)


def status_in(answer: bytes) -> int:
    """Returns the status of an answer."""
    assert answer.startswith(b"HTTP/1.1 "), answer[:80]
    return int(answer.split(b" ", 2)[1])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"input":' * 5000,
        b'{"model": "tiny", "input": NaN}',
        b'{"model": "tiny", "input": "a", "dimensions": Infinity}',
        b'{"model": "tiny", "input": "a", "dimensions": 1e400}',
        b'{"model": "tiny", "input": "a", "dimensions": 99999999999999999999}',
        b'{"model": "tiny", "input": "a", "dimensions": 2.0}',
        b'{"model": "tiny", "input": "\\ud800"}',
        b'{"model": "\\udfff", "input": "a"}',
        b'{"model": "tiny", "input": ["a", "\xed\xa0\x80"]}',
        b'{"model": "tiny", "input": [["a"]]}',
        b'{"model": "tiny", "input": [1, "a"]}',
        b'{"model": "tiny", "input": [true]}',
        b'{"model": "tiny", "input": {"a": "b"}}',
        b'{"model": "tiny", "input": null}',
        b'{"model": 7, "input": "a"}',
        b'{"model": "tiny", "input": "a", "input_type": ["query"]}',
        b'{"model": "tiny", "input": "a"} x',
        b'"input"',
    ],
)
def test_bodies_that_are_no_request(served: Any, body: bytes) -> None:
    """Malformed JSON, depth, numbers out of range, half characters, wrong types: 400, no more."""
    with connection_to(served) as connection:
        status, told, _ = ask(connection, body=body)
        assert status == 400
        assert set(told["error"]) == {"message", "type", "param", "code"}
        assert ask(connection, body=GOOD)[0] == 200


NAMES = st.sampled_from(
    ["input", "model", "encoding_format", "dimensions", "user", "input_type", "prompt_name", "truncate"]
)
WORDS = st.sampled_from(["tiny", "query", "float", "base64", "passage", "END", "NONE", "", "rain"])
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_subnormal=False)
    | WORDS
    | st.text(st.characters(), max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
BODIES = st.one_of(
    st.binary(max_size=200),
    st.dictionaries(NAMES, VALUES, max_size=5).map(lambda value: json.dumps(value).encode()),
    st.dictionaries(NAMES, VALUES, max_size=4).map(lambda value: json.dumps({**GOOD, **value}).encode()),
)


def test_no_body_is_the_servers_fault(served: Any) -> None:
    """Whatever a body holds, it is answered with 200 or with an error of the caller's."""
    with connection_to(served) as connection:

        @settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(BODIES)
        def answered(body: bytes) -> None:
            status, told, _ = ask(connection, body=body)
            assert status in (200, 400, 404), told
            assert ("error" in told) == (status != 200)

        answered()
    assert_lives(served)


PIECES = st.sampled_from(
    [
        *(b"POST ", b"GET ", b"CONNECT ", b"/v1/embeddings", b"/%zz", b" HTTP/1.1", b" HTTP/1.0", b" HTTP/9"),
        *(b"\r\n", b"\n", b"\r\n\r\n", b"host: x", b"content-length: 5", b"content-length: -1"),
        *(b"content-length: 99999999999999999999", b"transfer-encoding: chunked", b"5\r\nhello\r\n0\r\n\r\n"),
        *(b"content-type: application/json", b"upgrade: h2c", b"connection: upgrade", b"\x00\xff", b"{}"),
        *(b"connection: close", b"expect: 100-continue", b"http://[::1", b":", b" "),
    ]
)


def test_no_framing_is_the_servers_fault(served: Any) -> None:
    """Whatever comes before a body is answered, refused or left; nothing of it ends the server."""

    @settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(PIECES | st.binary(max_size=6), max_size=14))
    def answered(pieces: list[bytes]) -> None:
        with socket_to(served) as plain:
            plain.sendall(b"".join(pieces))
            plain.shutdown(socket.SHUT_WR)
            came = read_to_end(plain)
        assert b" 500 " not in came
        assert not came or status_in(came) < 500

    answered()
    assert_lives(served)
    log = served.log.read_text()
    assert "Traceback" not in log
    assert all(line.startswith("time=") for line in log.splitlines())


def test_large_bodies_are_refused_unread(served: Any) -> None:
    """A length beyond the limit is refused when it is announced; without one, when the limit is passed."""
    for declared in (MAX_BODY + 1, 10**12):
        with socket_to(served) as plain:
            plain.sendall(head(declared))  # nothing of the body is sent
            answer = read_answer(plain)
            assert status_in(answer) == 413
            assert str(MAX_BODY).encode() in answer
    with socket_to(served) as plain:
        plain.sendall(head(10**12, "expect: 100-continue"))
        assert status_in(read_answer(plain)) == 413
    with client_of(served) as client:  # sends it all the same, and yet gets the answer
        for size in (MAX_BODY + 1000, 5 * MAX_BODY):
            with pytest.raises(Exception, match=r"http\.max_body_bytes") as refused:
                client.post("/embeddings", cast_to=object, body={"input": "a" * size, "model": "tiny"})
            assert getattr(refused.value, "status_code", 0) == 413
    assert_lives(served)


def test_endless_chunks_are_refused(served: Any) -> None:
    """A body without a length is read to the limit; frames that hold nothing are counted too."""
    with socket_to(served) as plain:
        plain.sendall(head(None, "transfer-encoding: chunked"))
        chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
        with pytest.raises((ConnectionError, TimeoutError)):
            _send_until_told(plain, chunk, 40 * MAX_BODY)
    with socket_to(served) as plain:
        plain.sendall(head(None, "transfer-encoding: chunked"))
        with pytest.raises((ConnectionError, TimeoutError)):
            _send_until_told(plain, b"1;" + b"x" * 60_000 + b"\r\n \r\n", 40 * MAX_BODY)
    assert_lives(served)


def _send_until_told(plain: socket.socket, data: bytes, most: int) -> None:
    """Sends again and again until the server has closed; fails where it takes `most` bytes."""
    for _ in range(most // len(data)):
        plain.sendall(data)


def test_bodies_come_in_many_ways(served: Any) -> None:
    """Chunks, single bytes, HTTP/1.0, an upgrade that is not taken, one request behind another are read."""
    body = json.dumps(GOOD).encode()
    with socket_to(served) as plain:
        frames = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
        plain.sendall(head(None, "transfer-encoding: chunked", "connection: close") + frames)
        assert status_in(read_to_end(plain)) == 200
    with socket_to(served) as plain:
        for byte in head(len(body), "connection: close") + body:
            plain.sendall(bytes([byte]))
        assert status_in(read_to_end(plain)) == 200
    with socket_to(served) as plain:
        plain.sendall(head(len(body)).replace(b"HTTP/1.1", b"HTTP/1.0") + body)
        answer = read_to_end(plain)  # it closes by itself
        assert (status_in(answer), answer.count(b"connection: close")) == (200, 1)
    with socket_to(served) as plain:  # as Java's client begins
        upgrade = ("connection: upgrade, http2-settings", "upgrade: h2c", "http2-settings: AAMAAABkAAQAAP__")
        plain.sendall(head(len(body), *upgrade) + body[:5])
        plain.sendall(body[5:] + head(len(body), "connection: close") + body)
        assert read_to_end(plain).count(b"HTTP/1.1 200 OK") == 2


def test_wrong_ways_in(served: Any) -> None:
    """Paths, methods, and forms of a body that are not known are told as such; the connection stays."""
    with connection_to(served) as connection:
        for path, method, headers, status in (
            ("/", "GET", {}, 404),
            ("/embeddings", "POST", {}, 404),
            ("/v1/embeddings/", "POST", {}, 404),
            ("/v1/embeddings", "GET", {}, 405),
            ("/v1/models", "DELETE", {}, 405),
            ("/v1/embeddings", "POST", {"content-type": "text/plain"}, 415),
            ("/v1/embeddings", "POST", {"content-type": "application/json; charset=latin-1"}, 415),
            ("/v1/embeddings", "POST", {"content-encoding": "gzip"}, 415),
            ("/v1/embeddings", "POST", {"content-type": 'Application/JSON; Charset="UTF-8"'}, 200),
            ("/v1/embeddings?x=1", "POST", {"content-encoding": "identity"}, 200),
        ):
            found, told, answered = ask(connection, path, GOOD if method == "POST" else None, headers, method)
            assert found == status, (path, method, told)
            assert len(answered["x-request-id"]) == 32
            assert (answered["allow"] is not None) == (status == 405)
        for path in ("/healthz", "/readyz"):
            assert ask(connection, path)[0] == 200
            assert ask(connection, path, method="HEAD")[:2] == (200, None)


def test_slow_callers_are_not_waited_for(served: Any) -> None:
    """Who sends no head, half of one, or half of a body, is closed after http.read_seconds."""
    cases = {
        b"": None,
        b"\r\n": None,
        head(10)[:40]: None,
        head(10) + b"{": 408,
        head(None, "transfer-encoding: chunked") + b"3\r\n{}": 408,
    }
    with contextlib.ExitStack() as sockets:
        began = time.monotonic()
        waiting = {sent: sockets.enter_context(socket_to(served)) for sent in cases}
        for sent, plain in waiting.items():
            plain.sendall(sent)
        for sent, plain in waiting.items():
            answer = read_to_end(plain)
            assert time.monotonic() - began >= READ_SECONDS * 0.8
            assert (status_in(answer) if answer else None) == cases[sent]
    assert_lives(served)


def test_heads_have_an_end(served: Any) -> None:
    """A head that never ends is cut, long before it holds memory that matters."""
    with socket_to(served) as plain:
        plain.sendall(f"POST {EMBEDDINGS} HTTP/1.1\r\n".encode())
        with pytest.raises(ConnectionError):
            _send_until_told(plain, b"x-filler: " + b"x" * 30_000 + b"\r\n", 20_000_000)
    assert_lives(served)


def test_connections_have_a_bound(served: Any) -> None:
    """A connection beyond the limit is told so and closed; when others have gone there is room again."""
    open_ones = [socket.create_connection(_door(served), SECONDS) for _ in range(3 * MAX_CONNECTIONS)]
    try:
        told = [one for one in open_ones if _is_refused(one)]
        assert len(told) >= 2 * MAX_CONNECTIONS
    finally:
        for one in open_ones:
            one.close()
    deadline = time.monotonic() + SECONDS
    while True:
        with connection_to(served) as connection:
            if ask(connection, body=GOOD)[0] == 200:
                return
        assert time.monotonic() < deadline


def _is_refused(plain: socket.socket) -> bool:
    return b" 503 " in read_to_end(plain)[:40]


def _door(server: Any) -> tuple[str, int]:
    with connection_to(server) as connection:
        return connection.host, connection.port


def test_bodies_in_flight_have_a_bound(served: Any) -> None:
    """Bodies that come slowly hold no more than the limit together; the next caller is sent away."""
    deadline = time.monotonic() + SECONDS
    while (told := _while_two_bodies_are_held(served)) is None:
        assert time.monotonic() < deadline  # a busy machine takes them in too late: once more
    assert int(told["retry-after"]) >= 1
    assert_lives(served)


def _while_two_bodies_are_held(served: Any) -> Any:
    """Returns the headers with which another body was sent away; None where all came through."""
    part = b" " * (MAX_BODY - 10)
    with socket_to(served) as one, socket_to(served) as two, connection_to(served) as connection:
        for plain in (one, two):
            plain.sendall(head(MAX_BODY) + part)
        over = time.monotonic() + READ_SECONDS
        while time.monotonic() < over:
            status, _, told = ask(connection, body={**GOOD, "user": "x" * 50_000})
            if status == 429:
                return told
    return None
