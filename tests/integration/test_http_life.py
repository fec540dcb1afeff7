"""The HTTP door while a server lives and ends: tokens, TLS, overload, callers that leave, draining."""

import contextlib
import http.client
import os
import shutil
import signal
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.integration.certificates import Authority, Pair
from tests.integration.held import ONE_PROCESS, counts_of, is_running, stopped
from tests.integration.http_door import (
    HTTP,
    SECONDS,
    ask,
    client_of,
    connection_to,
    door_of,
    head,
    socket_to,
)
from tests.integration.test_worker_auth import ADMIN, EMBED, NEXT, write
from tests.integration.test_worker_startup import assert_refused, serve
from tests.integration.test_worker_tls import replace, tls, wait_for

NAMED = (*HTTP, "--http-served-names", "tiny")
# Room for two short queries, or a long one.
ONE_QUERY = ("--max-text-bytes", "5000", "--max-query-bytes-in-flight", "12000")


def body_of(*texts: str) -> bytes:
    """Returns a request for vectors, head and body."""
    body = b'{"model":"tiny","input":[%s]}' % b",".join(b'"%s"' % text.encode() for text in texts)
    return head(len(body)) + body


def in_background(server: Any, *texts: str) -> "Future[tuple[int, Any, http.client.HTTPMessage]]":
    """Asks for vectors on a thread and a connection of its own."""

    def call() -> tuple[int, Any, http.client.HTTPMessage]:
        with connection_to(server) as connection:
            return ask(connection, body={"model": "tiny", "input": list(texts)})

    thread = ThreadPoolExecutor(1)
    answer = thread.submit(call)
    thread.shutdown(wait=False)
    return answer


@pytest.fixture
def held(start_worker: Callable[..., Any], tiny_bundle: Path) -> Any:
    """A server of one process, in which one large query fills the limit."""
    return start_worker(tiny_bundle, *NAMED, *ONE_PROCESS, *ONE_QUERY)


def test_caller_that_leaves_takes_its_texts_along(held: Any) -> None:
    """Texts of a closed connection that still wait are never computed: queries and bulk work alike."""
    with counts_of(held) as counts:
        with stopped(held):
            with socket_to(held) as first:
                first.sendall(body_of("rain"))
                counts.until(is_running)
                with socket_to(held) as query, socket_to(held) as bulk:
                    query.sendall(body_of("hail"))
                    bulk.sendall(body_of("one", "two", "three"))
                    counts.until(lambda now: now.queries.waiting == 1 and now.documents.waiting == 3)
                told = counts.until(
                    lambda now: now.queries.texts["cancelled"] == 1 and now.documents.texts["cancelled"] == 3
                )
                assert (told.queries.waiting, told.documents.waiting) == (0, 0)
            counts.until(lambda now: now.queries.texts["cancelled"] == 2)
        with connection_to(held) as connection:
            assert ask(connection, body={"model": "tiny", "input": "snow"})[0] == 200
        now = counts.until(lambda now: not now.query_bytes_in_flight)
        assert (now.queries.runs, now.documents.runs, now.open_streams) == (2, 0, 0)
    assert "status=CANCELLED" in held.log.read_text()
    assert "Traceback" not in held.log.read_text()


def test_overload_says_when_to_come_back(held: Any) -> None:
    """What has no room is a RateLimitError with Retry-After; OpenAI's client comes back by itself."""
    large = "word " * 900
    with counts_of(held) as counts, client_of(held) as client, client_of(held, max_retries=9) as patient:
        with stopped(held):
            accepted = in_background(held, large)
            counts.until(is_running)
            with pytest.raises(openai.RateLimitError) as refused:
                client.embeddings.create(model="tiny", input=large)
            told = refused.value.response.headers
            assert int(told["retry-after"]) >= 1
            assert int(told["retry-after-ms"]) >= 1
            assert refused.value.code == "rate_limit_exceeded"
            assert counts.now().queries.texts["overloaded"] == 1
        assert accepted.result(SECONDS)[0] == 200
        assert len(patient.embeddings.create(model="tiny", input=large).data) == 1


def test_accepted_is_answered_and_new_ones_are_sent_away(held: Any) -> None:
    """While the server drains it is not ready and refuses; what was accepted is answered, then it ends."""
    with connection_to(held) as early, counts_of(held) as counts:
        assert ask(early, "/readyz")[0] == 200
        with stopped(held):
            accepted = [in_background(held, "rain"), in_background(held, "a", "b", "c")]
            counts.until(lambda now: is_running(now) and now.queries.waiting + now.documents.waiting == 3)
            held.process.send_signal(signal.SIGTERM)
            wait_for(lambda: "draining" in held.log.read_text())
            status, told, headers = ask(early, body={"model": "tiny", "input": "late"})
            assert (status, told["error"]["code"], headers["connection"]) == (503, "unavailable", "close")
            assert headers["retry-after"] is not None
            with connection_to(held) as late:
                assert ask(late, "/readyz")[0] == 503
                assert ask(late, "/healthz")[0] == 200
        for answer in accepted:
            status, told, headers = answer.result(SECONDS)
            assert (status, headers["connection"]) == (200, "close")
    assert held.process.wait(SECONDS) == 0
    assert "Traceback" not in held.log.read_text()


def test_drain_deadline_cuts_and_says_so(start_worker: Callable[..., Any], tiny_bundle: Path) -> None:
    """What is not done in time is told so with a 503; the server ends with exit code 1."""
    server = start_worker(tiny_bundle, *NAMED, *ONE_PROCESS, "--drain-seconds", "0.2")
    with counts_of(server) as counts:
        (child,) = server.child_pids()
        os.kill(child, signal.SIGSTOP)
        accepted = in_background(server, "rain")
        counts.until(is_running)
    assert server.terminate() == 1
    status, told, _ = accepted.result(SECONDS)
    assert (status, told["error"]["code"]) == (503, "unavailable")
    assert "raise --drain-seconds" in server.log.read_text().splitlines()[-1]


def test_killed_process_costs_no_answer(start_worker: Callable[..., Any], tiny_bundle: Path) -> None:
    """A process that is killed under its texts is replaced; its callers get their vectors all the same."""
    server = start_worker(tiny_bundle, *NAMED, "--processes", "1")
    (child,) = server.child_pids()
    with counts_of(server) as counts:
        os.kill(child, signal.SIGSTOP)
        answers = [in_background(server, "rain"), in_background(server, *["hail"] * 20)]
        counts.until(is_running)
        os.kill(child, signal.SIGKILL)
        for answer, count in zip(answers, (1, 20), strict=True):
            status, told, _ = answer.result(SECONDS)
            assert (status, len(told["data"])) == (200, count)


def test_only_who_shows_a_token_may_embed(
    start_worker: Callable[..., Any], tiny_bundle: Path, tmp_path: Path
) -> None:
    """The API key is a token of the gRPC door, rotated with it; health is open, and no token is logged."""
    path = write(tmp_path / "embed", f"search {EMBED}\n")
    tokens = ("--token-file", str(path), "--admin-token-file", str(write(tmp_path / "admin", ADMIN)))
    server = start_worker(tiny_bundle, *NAMED, *tokens, "--log-level", "debug")
    with connection_to(server) as connection:
        for place in ("/v1/embeddings", "/v1/models", "/nowhere"):
            for body in (None, b"{"):
                status, told, headers = ask(connection, place, body)
                assert (status, told["error"]["code"]) == (401, "invalid_api_key")
                assert headers["www-authenticate"] == "Bearer"
        assert ask(connection, "/healthz")[0] == ask(connection, "/readyz")[0] == 200
    for token in (EMBED, ADMIN):
        with client_of(server, token) as client:
            assert len(client.embeddings.create(model="tiny", input="rain").data) == 1
    for token in ("", EMBED + "x"):
        with client_of(server, token) as client, pytest.raises(openai.AuthenticationError):
            client.embeddings.create(model="tiny", input="rain")
    write(path, NEXT)
    server.process.send_signal(signal.SIGHUP)

    def is_known(token: str) -> bool:
        with connection_to(server) as connection:
            shown = {"authorization": f"Bearer {token}"}
            return ask(connection, body={"model": "tiny", "input": "a"}, headers=shown)[0] == 200

    wait_for(lambda: is_known(NEXT))
    assert not is_known(EMBED)
    log = server.log.read_text()
    assert "caller=search" in log
    assert not any(token in log for token in (EMBED, ADMIN, NEXT))


def test_same_rules_for_the_network_as_grpc(tiny_bundle: Path, tmp_path: Path) -> None:
    """Beyond this machine nothing is unencrypted unless asked for, tokens never; bad settings are told."""
    token = ("--token-file", str(write(tmp_path / "tokens", EMBED)))
    for arguments, words, code in (
        (("--http-listen", "0.0.0.0:0"), ("0.0.0.0:0", "--tls-cert", "--insecure"), 2),
        (("--http-listen", "0.0.0.0:0", "--insecure", *token), ("tokens would travel",), 2),
        (("--http-listen", "nonsense"), ("HOST:PORT",), 1),
        ((*HTTP, "--http-max-inputs", "0"), ("--http-max-inputs is 0",), 2),
    ):
        done = serve("--bundle", str(tiny_bundle), "--listen", "127.0.0.1:0", *arguments)
        assert_refused(done, *words, code=code)


def test_missing_extra_is_named(tiny_bundle: Path) -> None:
    """Without the packages of the extra the server does not start, and says which extra to install."""
    for package in ("uvicorn", "orjson"):
        code = f"import sys; sys.modules[{package!r}] = None; from worker.__main__ import run; run()"
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                code,
                "serve",
                "--bundle",
                str(tiny_bundle),
                "--listen",
                "127.0.0.1:0",
                *HTTP,
            ],
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
        assert_refused(done, "pip install 'embedpool[http]'", package, code=2)


@contextlib.contextmanager
def https(server: Any, ca: Path, client: Pair | None = None) -> Iterator[http.client.HTTPSConnection]:
    """Yields a connection that trusts `ca` and shows the certificate `client`."""
    context = ssl.create_default_context(cafile=str(ca))
    if client is not None:
        context.load_cert_chain(client.cert, client.key)
    _, port = door_of(server)
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=SECONDS, context=context)
    try:
        yield connection
    finally:
        connection.close()


def test_encrypted_and_rotated(start_worker: Callable[..., Any], tiny_bundle: Path, tmp_path: Path) -> None:
    """The gRPC door's certificate, key and authorities hold here too; new files from the next handshake."""
    authority = Authority(tmp_path / "authority")
    ours, others = Authority(tmp_path / "ours"), Authority(tmp_path / "others")
    served, client, other = authority.sign("one"), ours.sign("client"), others.sign("other")
    callers = tmp_path / "callers.pem"
    shutil.copy(ours.pair.cert, callers)
    arguments = (*tls(served), "--tls-client-ca", str(callers))
    server = start_worker(tiny_bundle, "--http-listen", "0.0.0.0:0", *NAMED[2:], *arguments)
    good = {"model": "tiny", "input": "rain"}

    def shown_to(caller: Pair | None) -> str:
        with https(server, authority.pair.cert, caller) as connection:
            assert ask(connection, body=good)[0] == 200
            certificate: Any = connection.sock.getpeercert()
            return str(dict(part[0] for part in certificate["subject"])["commonName"])

    assert shown_to(client) == "one"
    for stranger in (None, authority.sign("stranger"), other):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            shown_to(stranger)
    with pytest.raises((http.client.HTTPException, ConnectionError)), connection_to(server) as plain:
        ask(plain, body=good)

    replace(served, authority.sign("two"))
    shutil.copy(others.pair.cert, callers)
    server.process.send_signal(signal.SIGHUP)
    wait_for(lambda: "rotated of" in server.log.read_text())
    assert shown_to(other) == "two"
    with pytest.raises((ssl.SSLError, ConnectionError)):
        shown_to(client)
    log = server.log.read_text()
    assert "Traceback" not in log
    assert all(line.startswith("time=") for line in log.splitlines())
