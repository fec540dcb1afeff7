"""One request and its answer, by ASGI 3: a body read within bounds, a caller that may leave.

Guarantees: no more of a body is held than the limits allow, nor for longer than an answer takes; a caller
that leaves cancels the task that works for it. Assumes one event loop, and one task for each exchange.
"""

import asyncio
import functools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping
from contextlib import asynccontextmanager, contextmanager
from email.utils import formatdate
from http import HTTPStatus
from typing import Any

from worker.errors import OverloadError
from worker.requests.calls import REQUEST_ID
from worker.wires.http.refusals import BAD_REQUEST, TOO_LARGE, TOO_SLOW, Headers, HttpError

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

# Seconds after which a caller may try again for whose body there was no room; arbitrary.
_ROOM_SECONDS = 1.0
_GONE = "http.disconnect"


class CallerGoneError(Exception):
    """The caller closed its connection: nobody waits for an answer."""


class Account:
    """Counts the bytes of bodies that all exchanges hold.

    Args:
        limit: What it may grow to.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.bytes = 0

    @contextmanager
    def opened(self) -> Iterator[Callable[[int], None]]:
        """Yields what adds bytes, or raises OverloadError; all of them are given back in the end."""
        held = 0

        def hold(more: int) -> None:
            nonlocal held
            if self.bytes + more > self._limit:
                raise OverloadError(
                    f"the bodies of the requests in flight hold {self.bytes} bytes, the limit "
                    f"http.max_body_bytes_in_flight is {self._limit}; try again later",
                    _ROOM_SECONDS,
                )
            held += more
            self.bytes += more

        try:
            yield hold
        finally:
            self.bytes -= held


class Exchange:
    """One request and its answer.

    Args:
        scope: What ASGI tells of the request.
        receive: Awaits the next part of it.
        send: Sends a part of the answer.

    Attributes:
        headers: The request's, names in lower case; of those that repeat the last one.
        gone: Whether the caller closed its connection.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        self.gone = False
        self._receive = receive
        self._send = send

    async def body(self, limit: int, hold: Callable[[int], None], seconds: float) -> bytes:
        """Reads the request's body.

        Args:
            limit: Bytes that it may have.
            hold: Counts them.
            seconds: In which all of it must have come.

        Raises:
            CallerGoneError: The caller left.
            OverloadError: `hold` has no room.
            HttpError: It is too large, told before it is read where its length was announced; or too slow.
        """
        if self._announced() > limit:
            raise _too_large(limit)
        parts, size = [], 0
        try:
            async with asyncio.timeout(seconds):
                while True:
                    message = await self._receive()
                    if message["type"] == _GONE:
                        self.gone = True
                        raise CallerGoneError
                    part = message.get("body", b"")
                    size += len(part)
                    if size > limit:
                        raise _too_large(limit)
                    hold(len(part))
                    parts.append(part)
                    if not message.get("more_body", False):
                        return parts[0] if len(parts) == 1 else b"".join(parts)
        except TimeoutError:
            raise HttpError(
                TOO_SLOW,
                f"{size} bytes of the body came in {seconds:g} s (http.read_seconds); send it faster",
                headers=(("connection", "close"),),
            ) from None

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Cancels this task when the caller leaves; to be entered when the body was read."""
        working = asyncio.current_task()

        def left(watcher: "asyncio.Task[None]") -> None:
            if working is not None and not watcher.cancelled():
                self.gone = True
                working.cancel()

        watcher = asyncio.create_task(self._left())
        watcher.add_done_callback(left)
        try:
            yield
        finally:
            watcher.remove_done_callback(left)
            watcher.cancel()

    async def answer(self, status: int, body: bytes, request_id: str, headers: Headers = ()) -> None:
        """Sends the answer: JSON."""
        told = _head(body, request_id, headers)
        encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in told]
        await self._send({"type": "http.response.start", "status": status, "headers": encoded})
        await self._send({"type": "http.response.body", "body": body})

    def _announced(self) -> int:
        length = self.headers.get("content-length", "0")
        if not length.isdecimal():
            raise HttpError(BAD_REQUEST, f"content-length is {length[:20]!r}, it must be a number")
        return int(length)

    async def _left(self) -> None:
        while (await self._receive())["type"] != _GONE:
            pass


def whole_answer(error: HttpError, body: bytes, request_id: str) -> bytes:
    """Returns an answer to what never became a request: its connection is closed behind it."""
    status = HTTPStatus(error.kind.http)
    lines = [f"HTTP/1.1 {status.value} {status.phrase}"]
    headers = (*error.headers, ("connection", "close"))
    lines += [f"{name}: {value}" for name, value in _head(body, request_id, headers)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def _head(body: bytes, request_id: str, headers: Headers) -> Headers:
    return (
        ("content-type", "application/json"),
        ("content-length", str(len(body))),
        ("date", _date_of(int(time.time()))),
        (REQUEST_ID, request_id),
        *headers,
    )


def _too_large(limit: int) -> HttpError:
    return HttpError(
        TOO_LARGE, f"the body has more than {limit} bytes, the limit http.max_body_bytes; send fewer texts"
    )


@functools.lru_cache(1)
def _date_of(second: int) -> str:
    return formatdate(second, usegmt=True)
