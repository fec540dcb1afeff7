"""The HTTP server: uvicorn's protocol on a socket of our own, with bounds that it does not have.

Guarantees: a connection that sends nothing, a head that comes slowly or never ends, an answer that is not
read: each is closed after a while, and so many connections at the most are open. Uvicorn's own `Server` is
left out: it handles signals, which are the process's, and knows no bound for TLS handshakes.

Assumes one event loop, and the extra `http`, which is loaded when a listener is made.
"""

import asyncio
import contextlib
import logging
import socket
import ssl
import time
from collections.abc import Iterable
from typing import Any

from worker.errors import ConfigError
from worker.settings.groups import Http
from worker.wires.http.application import Application
from worker.wires.http.codec import not_installed

# Seconds that a TLS handshake may take; arbitrary.
_HANDSHAKE_SECONDS = 10.0
# Seconds between two requests on a connection: above what clients keep theirs open for (5 to 60), so that
# they close it and not we, just when the next request is on its way.
_IDLE_SECONDS = 75
# Seconds in which a caller must take some of an answer that is waiting for it; arbitrary.
_STALLED_SECONDS = 30.0
# Seconds for those to be told that were cut off; arbitrary.
_CUT_SECONDS = 0.5
# Seconds and bytes for the rest of a body that was answered before it had come; arbitrary. Closing at once
# would cost the caller the answer.
_LINGER_SECONDS = 2.0
_LINGER_BYTES = 8 * 1024 * 1024
# Bytes of a head, and of what frames a body beside its content; arbitrary, what proxies allow or more.
_HEAD_BYTES = 64 * 1024
# Framing bytes that one byte of a body may have: chunks of one byte have five.
_FRAMING = 8


class Listener:
    """Listens from `start` until `stop`.

    Args:
        application: Answers.
        http: Bounds.
        context: TLS, where it is encrypted.

    Raises:
        ConfigError: The extra is not installed.
    """

    def __init__(self, application: Application, http: Http, context: ssl.SSLContext | None) -> None:
        try:
            import uvicorn
            from uvicorn.server import ServerState

            protocol = _bounded_protocol(http, application)
        except ImportError as error:
            raise ConfigError(not_installed(error)) from None
        # What uvicorn says of single connections is the callers' doing, and as much as they please.
        self._config = uvicorn.Config(
            application,
            http=protocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            log_level=logging.ERROR,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=_IDLE_SECONDS,
        )
        self._config.load()
        self._protocol = protocol
        self._state = ServerState()
        self._application = application
        self._context = context
        self._server: asyncio.Server | None = None

    async def start(self, listening: socket.socket) -> None:
        """Takes connections from a socket that listens, and owns it."""
        self._server = await asyncio.get_running_loop().create_server(
            lambda: self._protocol(self._config, self._state, {}),
            sock=listening,
            ssl=self._context,
            ssl_handshake_timeout=None if self._context is None else _HANDSHAKE_SECONDS,
        )

    async def stop(self, seconds: float) -> None:
        """Takes no more connections; gives answers so long to leave, then ends what is still worked on."""
        if self._server is not None:
            self._server.close()
        for connection in self._connections():
            connection.shutdown()
        if not await self._all_lost(seconds):
            self._application.cut()
            await self._all_lost(_CUT_SECONDS)
        for connection in self._connections():
            connection.transport.abort()

    def _connections(self) -> list[Any]:
        return list(self._state.connections)

    async def _all_lost(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while connections := self._connections():
                    await connections[0].lost.wait()
        return not self._state.connections


def _bounded_protocol(http: Http, application: Application) -> Any:
    """Returns uvicorn's protocol of HTTP/1.1, bounded."""
    from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

    class Bounded(HttpToolsProtocol):
        """One connection: a timer watches what it waits for, another what waits for it; bytes are counted."""

        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self.lost = asyncio.Event()
            self._waiting: asyncio.TimerHandle | None = None
            self._stalled: asyncio.TimerHandle | None = None
            self._messages = 0
            self._inside = False
            self._began_ns = 0
            self._framing = 0
            self._thrown = 0

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._began_ns = time.perf_counter_ns()
            if len(self.connections) > http.max_connections:
                self._refuse(application.too_many(self._began_ns))
            else:
                self._abort_in(http.read_seconds)

        def connection_lost(self, exc: Exception | None) -> None:
            self._goes_on()
            super().connection_lost(exc)  # ends what `pause_writing` began
            self.resume_writing()
            self.lost.set()

        def data_received(self, data: bytes) -> None:
            if self.transport.is_closing():
                return
            if not self._inside and self._waiting is None:
                self._began_ns = time.perf_counter_ns()
                self._abort_in(http.read_seconds)
            message = self._messages if self._inside else None
            self._unset_keepalive_if_required()
            try:
                self._feed(data)
            except HttpParserError:
                self._refuse(application.not_http(self._began_ns))
            if self._inside and self._messages == message:
                self._framing += len(data)
                if self._framing > _HEAD_BYTES:
                    self.transport.abort()

        def _feed(self, data: bytes) -> None:
            try:
                self.parser.feed_data(data)
            except HttpParserUpgrade as upgrade:
                # Java's client asks for HTTP/2 with every first request, and lives with being refused; but
                # the parser takes what follows for another protocol. It gets the head again, without that.
                if self.parser.get_method() == b"CONNECT":
                    raise HttpParserError("this is no proxy") from None
                head = _without_upgrade(self.parser, self.url, self.headers)
                self.parser = HttpRequestParser(self)
                self.parser.feed_data(head + data[upgrade.args[0] :])

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self._messages += 1
            self._inside = True
            self._framing = self._thrown = 0

        def on_headers_complete(self) -> None:
            if self.parser.should_upgrade():
                return
            self._goes_on()  # how long a body takes is the application's to bound
            super().on_headers_complete()

        def on_body(self, body: bytes) -> None:
            self._framing -= (1 + _FRAMING) * len(body)
            super().on_body(body)
            if self.cycle.response_complete:
                self._thrown += len(body)
                if self._thrown > _LINGER_BYTES:
                    self.transport.abort()

        def on_message_complete(self) -> None:
            if self.parser.should_upgrade():
                return
            self._inside = False
            super().on_message_complete()
            if self.cycle.response_complete:
                self._abort_in(_IDLE_SECONDS)

        def on_response_complete(self) -> None:
            super().on_response_complete()
            if self.transport.is_closing():
                self._abort_in(_STALLED_SECONDS)
            elif self._inside and self.cycle.response_complete:
                self._abort_in(_LINGER_SECONDS)

        def timeout_keep_alive_handler(self) -> None:
            self.transport.abort()  # closing would wait for a caller that takes no answer

        def pause_writing(self) -> None:
            super().pause_writing()
            if self._stalled is None:
                self._stalled = self.loop.call_later(_STALLED_SECONDS, self.transport.abort)

        def resume_writing(self) -> None:
            super().resume_writing()
            if self._stalled is not None:
                self._stalled.cancel()
                self._stalled = None

        def _refuse(self, answer: bytes) -> None:
            self.transport.write(answer)
            self.transport.close()
            self._abort_in(_STALLED_SECONDS)

        def _abort_in(self, seconds: float) -> None:
            self._goes_on()
            self._waiting = self.loop.call_later(seconds, self.transport.abort)

        def _goes_on(self) -> None:
            if self._waiting is not None:
                self._waiting.cancel()
                self._waiting = None

    return Bounded


def _without_upgrade(parser: Any, url: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Returns the head of a request that asks for no other protocol."""
    lines = [b"%s %s HTTP/%s" % (parser.get_method(), url, parser.get_http_version().encode())]
    lines += [b"%s: %s" % pair for pair in headers if pair[0] not in (b"connection", b"upgrade")]
    return b"\r\n".join([*lines, b"", b""])
