"""The HTTP interface as one ASGI application: paths, tokens, errors, and what is told of each request.

Guarantees: every request is answered in OpenAI's form, but for those whose caller has gone, and counted and
logged once; no exception leaves the application. Assumes one event loop.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from worker.errors import UnavailableError, WorkerError
from worker.requests.calls import Call, Recorder, begin_call, current_call
from worker.requests.endings import Endings
from worker.requests.frontend import Frontend
from worker.settings.config import ServeConfig
from worker.wires.http.codec import Codec
from worker.wires.http.embedding import Answered, Embedding
from worker.wires.http.exchange import CallerGoneError, Exchange, Receive, Scope, Send, whole_answer
from worker.wires.http.refusals import (
    BAD_REQUEST,
    FAILED,
    NO_PATH,
    NO_TOKEN,
    UNAVAILABLE,
    WRONG_METHOD,
    HttpError,
    http_error_of,
)

_log = logging.getLogger(__name__)

_Handler = Callable[[Exchange], Awaitable[Answered]]

EMBEDDINGS = "/v1/embeddings"
_MODELS = "/v1/models"
_MODEL = "/v1/models/{model}"
_LIVE = "/healthz"
_READY = "/readyz"
# What requests for anything else are counted as: each name that somebody tries must not be a metric.
_OTHER = "/"
_GET = ("GET", "HEAD")
_OPEN = frozenset({_LIVE, _READY})


class Named(Protocol):
    """Somebody known."""

    @property
    def name(self) -> str:
        """Name of the token shown, "" where it has none."""


class Doorkeeper(Protocol):
    """Who knows the tokens."""

    @property
    def closed(self) -> bool:
        """Whether embedding needs a token."""

    def caller(self, authorization: str) -> Named | None:
        """Returns who shows this `authorization` header; None for a wrong or missing token."""


class Application:
    """Answers requests.

    Args:
        config: Limits and names.
        frontend: Lets texts in.
        doorkeeper: Knows the tokens.
        endings: Told how each request ended.
        recorder: Takes traces down; None where nobody does.

    Raises:
        ConfigError: The extra `http` is not installed.
    """

    def __init__(
        self,
        config: ServeConfig,
        frontend: Frontend,
        doorkeeper: Doorkeeper,
        endings: Endings,
        recorder: Recorder | None = None,
    ) -> None:
        self._frontend = frontend
        self._doorkeeper = doorkeeper
        self._endings = endings
        self._recorder = recorder
        self._codec = Codec()
        self._embedding = Embedding(config, frontend, self._codec)
        self._began = int(time.time())
        self._working: set[asyncio.Task[None]] = set()
        self._routes: Mapping[str, tuple[tuple[str, ...], _Handler]] = {
            EMBEDDINGS: (("POST",), self._embedding.answer),
            _MODELS: (_GET, self._models),
            _MODEL: (_GET, self._model),
            _LIVE: (_GET, self._live),
            _READY: (_GET, self._ready),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request; an ASGI server makes a task of it."""
        began = time.perf_counter_ns()
        exchange = Exchange(scope, receive, send)
        route = self._route(exchange.path)
        call = begin_call(route, exchange.headers, self._recorder)
        task = asyncio.current_task()
        if task is not None:
            self._working.add(task)
            task.add_done_callback(self._working.discard)
        status = "CANCELLED"
        try:
            status = await self._answer(exchange, route, call)
        except CallerGoneError:
            pass  # nobody is there to be answered; it counts as cancelled
        except asyncio.CancelledError:
            if not exchange.gone:
                status = await self._refuse(exchange, call, _cut())
        finally:
            # Bulk work was taken down as spans of its batches.
            is_span = route == EMBEDDINGS and (bool(call.stages) or not call.texts)
            self._endings.ended(call, status, began, is_span=is_span)

    def cut(self) -> None:
        """Ends what is still worked on: its callers are told that the server ended."""
        for task in self._working:
            task.cancel()

    def not_http(self, began_ns: int) -> bytes:
        """Takes down bytes that are no request; returns the whole answer."""
        message = "this is no request of HTTP/1.1, or its framing is broken"
        return self._outside(HttpError(BAD_REQUEST, message), began_ns)

    def too_many(self, began_ns: int) -> bytes:
        """Takes down a connection beyond the limit; returns the whole answer."""
        message = "more connections are open than http.max_connections; try again later"
        return self._outside(http_error_of(UnavailableError(message)), began_ns)

    def _outside(self, error: HttpError, began_ns: int) -> bytes:
        call = begin_call(_OTHER, {})
        self._endings.ended(call, error.kind.grpc, began_ns, is_span=False)
        return whole_answer(error, self._codec.write(error.body()), call.request_id)

    async def _answer(self, exchange: Exchange, route: str, call: Call) -> str:
        try:
            answered = await self._handler(exchange, route)(exchange)
        except WorkerError as error:
            return await self._refuse(exchange, call, http_error_of(error))
        except CallerGoneError:
            raise
        except Exception:
            _log.exception("http request failed path=%s", route)
            told = (
                "the server failed at this request; its log says why, beside the x-request-id of this answer"
            )
            return await self._refuse(exchange, call, HttpError(FAILED, told))
        await exchange.answer(200, answered.body, call.request_id, (*answered.headers, *self._closing()))
        return "OK"

    async def _refuse(self, exchange: Exchange, call: Call, refusal: HttpError) -> str:
        headers = (*refusal.headers, *self._closing())
        body = self._codec.write(refusal.body())
        await exchange.answer(refusal.kind.http, body, call.request_id, headers)
        return refusal.kind.grpc

    def _closing(self) -> tuple[tuple[str, str], ...]:
        """Tells callers of a server that drains to take a new connection, to another one."""
        return (("connection", "close"),) if self._frontend.draining else ()

    def _route(self, path: str) -> str:
        if path in self._routes:
            return path
        return _MODEL if path.startswith(f"{_MODELS}/") else _OTHER

    def _handler(self, exchange: Exchange, route: str) -> _Handler:
        if route not in _OPEN:
            self._check_token(exchange)
        if route == _OTHER:
            raise HttpError(
                NO_PATH,
                f"there is no {exchange.path[:80]!r} here, but POST {EMBEDDINGS} and GET {_MODELS}; the "
                "base_url of OpenAI's clients ends with /v1",
            )
        methods, handler = self._routes[route]
        if exchange.method not in methods:
            allowed = ", ".join(methods)
            message = f"{route} does not know {exchange.method}, use {allowed}"
            raise HttpError(WRONG_METHOD, message, headers=(("allow", allowed),))
        return handler

    def _check_token(self, exchange: Exchange) -> None:
        authorization = exchange.headers.get("authorization", "")
        caller = self._doorkeeper.caller(authorization)
        if caller is not None and (call := current_call()) is not None:
            call.caller = caller.name
        if caller is None and self._doorkeeper.closed:
            said = "this token is not known" if authorization else "no token came"
            raise HttpError(
                NO_TOKEN,
                f"{said}: send the header `authorization: Bearer TOKEN` with a token of this server; "
                "OpenAI's clients send their api_key so",
                headers=(("www-authenticate", "Bearer"),),
            )

    async def _models(self, exchange: Exchange) -> Answered:
        names = self._embedding.names()
        return self._json({"object": "list", "data": [self._described(name) for name in names]})

    async def _model(self, exchange: Exchange) -> Answered:
        name = exchange.path.removeprefix(f"{_MODELS}/")
        self._embedding.check_name(name)
        return self._json(self._described(name))

    async def _live(self, exchange: Exchange) -> Answered:
        return self._json({"status": "live"})

    async def _ready(self, exchange: Exchange) -> Answered:
        if not self._frontend.ready:
            what = "drains" if self._frontend.draining else "has no live process at the moment"
            raise HttpError(UNAVAILABLE, f"not ready: the server {what}")
        return self._json({"status": "ready"})

    def _described(self, name: str) -> dict[str, object]:
        return {"id": name, "object": "model", "created": self._began, "owned_by": "embedpool"}

    def _json(self, value: object) -> Answered:
        return Answered(self._codec.write(value), ())


def _cut() -> HttpError:
    return HttpError(UNAVAILABLE, "the server ended before this was computed; send it to another one")
