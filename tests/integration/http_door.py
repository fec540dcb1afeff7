"""The HTTP door of a server under test: its address, OpenAI's client of it, and plain connections to it."""

import contextlib
import http.client
import json
import re
import socket
from collections.abc import Iterator, Mapping
from typing import Any

import openai

SECONDS = 60.0
HTTP = ("--http-listen", "127.0.0.1:0")
EMBEDDINGS = "/v1/embeddings"
JSON = {"content-type": "application/json"}


def door_of(server: Any) -> tuple[str, int]:
    """Returns host and port; the log has them."""
    found = re.search(r"http address=(\S+):(\d+)", server.log.read_text())
    assert found is not None
    return found[1], int(found[2])


@contextlib.contextmanager
def client_of(server: Any, token: str = "", **options: Any) -> Iterator[openai.OpenAI]:
    """Yields OpenAI's client, which tries everything once."""
    host, port = door_of(server)
    settings = {"base_url": f"http://{host}:{port}/v1", "max_retries": 0, "timeout": SECONDS}
    with openai.OpenAI(api_key=token or "none", **(settings | options)) as client:
        yield client


@contextlib.contextmanager
def connection_to(server: Any) -> Iterator[http.client.HTTPConnection]:
    """Yields a connection of the standard library's client."""
    connection = http.client.HTTPConnection(*door_of(server), timeout=SECONDS)
    try:
        yield connection
    finally:
        connection.close()


@contextlib.contextmanager
def socket_to(server: Any) -> Iterator[socket.socket]:
    """Yields a socket for bytes that no client would send."""
    with socket.create_connection(door_of(server), SECONDS) as plain:
        yield plain


def ask(
    connection: http.client.HTTPConnection,
    path: str = EMBEDDINGS,
    body: Any = None,
    headers: Mapping[str, str] | None = None,
    method: str = "",
) -> tuple[int, Any, http.client.HTTPMessage]:
    """Returns status, JSON and headers of an answer; a body that is no bytes is sent as JSON."""
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
    told = {**(JSON if body is not None else {}), **(headers or {})}
    connection.request(method or ("GET" if body is None else "POST"), path, body, told)
    response = connection.getresponse()
    content = response.read()
    return response.status, json.loads(content) if content else None, response.headers


def head(length: int | None, *lines: str) -> bytes:
    """Returns the head of a request for vectors, with further header lines."""
    told = [f"POST {EMBEDDINGS} HTTP/1.1", "host: x", "content-type: application/json", *lines]
    if length is not None:
        told.append(f"content-length: {length}")
    return "\r\n".join([*told, "", ""]).encode()


def read_answer(plain: socket.socket) -> bytes:
    """Returns one answer, head and body; the connection may stay open."""
    came = b""
    while b"\r\n\r\n" not in came:
        came += plain.recv(65536)
    length = int(came.split(b"content-length: ")[1].split(b"\r\n")[0])
    end = came.index(b"\r\n\r\n") + 4 + length
    while len(came) < end:
        came += plain.recv(65536)
    return came


def read_to_end(plain: socket.socket) -> bytes:
    """Returns what comes until the server closes the connection."""
    came = b""
    with contextlib.suppress(ConnectionResetError):
        while part := plain.recv(65536):
            came += part
    return came
