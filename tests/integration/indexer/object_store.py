"""A real S3-compatible server on loopback, behind a gate that can fail."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any

from moto.server import ThreadedMotoServer

KEY, SECRET = "AKIDEXAMPLE", "wJalrXUtnFEMI+K7MDENG"  # of nobody


@dataclass
class Gate:
    """What stands between the store and who asks it.

    Attributes:
        port: Where to ask, on 127.0.0.1.
        store: Endpoint of the store itself, to write to: uploads do not pass the gate.
        requests: Method and path of each request so far.
        left: Requests that are let through before all others find the connection closed; None for all.
        stumbles: Requests that are answered 503 first.
    """

    port: int
    store: str
    requests: list[str] = field(default_factory=list)
    left: int | None = None
    stumbles: int = 0
    lock: Any = field(default_factory=Lock)

    @property
    def url(self) -> str:
        """The store's endpoint."""
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def object_store() -> Iterator[Gate]:
    """Runs a store and its gate; both end with the block."""
    store = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    store.start()
    behind = store.get_host_and_port()
    try:
        with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
            gate = Gate(server.server_address[1], "http://{}:{}".format(*behind))
            server.gate, server.behind = gate, behind  # type: ignore[attr-defined]
            thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
            thread.start()
            try:
                yield gate
            finally:
                server.shutdown()
                thread.join()
    finally:
        store.stop()


class _Handler(BaseHTTPRequestHandler):
    """Hands each request on, as the gate says."""

    def _hand_on(self) -> None:
        gate: Gate = self.server.gate  # type: ignore[attr-defined]
        with gate.lock:
            gate.requests.append(f"{self.command} {self.path}")
            closed, stumbles = gate.left == 0, gate.stumbles > 0
            if gate.left:
                gate.left -= 1
            gate.stumbles -= stumbles
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.close_connection = True
        if closed:
            return
        if stumbles:
            self.send_response(503)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        connection = HTTPConnection(*self.server.behind)  # type: ignore[attr-defined]
        connection.request(self.command, self.path, body, dict(self.headers))
        answer = connection.getresponse()
        content = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "connection", "server", "date"):
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)
        connection.close()

    do_GET = do_HEAD = _hand_on  # noqa: N815 - names that http.server calls

    def log_message(self, *_: object) -> None:
        """Says nothing."""
