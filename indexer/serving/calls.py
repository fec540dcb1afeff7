"""What happens around every call: who may pass, what is no message, which status an error is.

Each call that failed is a line of the log, with its method, status, time and id; never a text, a filter or a
token.
"""

import asyncio
import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status as RichStatus
from grpc_status import rpc_status

from indexer.client import Status
from indexer.errors import (
    AwayError,
    ConfigError,
    DrainError,
    IndexerError,
    InputError,
    ModelMismatchError,
    OverloadError,
    PoolError,
)
from indexer.serving.credentials import Tokens

_log = logging.getLogger(__name__)

# gRPC publishes no types: an Any with a name.
Context = Any
_Handler = Any
_Details = Any

REQUEST_ID = "x-request-id"
_SANE = re.compile(r"[A-Za-z0-9._~:/+-]{1,128}")
_HEALTH = "/grpc.health.v1.Health/"
_HOW_TO_SHOW_ONE = "send the metadata `authorization: Bearer TOKEN` with a token of this server"
_LINES_A_SECOND = 10  # for failed calls: a flood of refusals must not be one of disk writes. Arbitrary
# Statuses of a pool that a caller of ours can do something about; all others of its are UNAVAILABLE here.
_PASSED_ON = (Status.INVALID_ARGUMENT, Status.RESOURCE_EXHAUSTED, Status.INTERNAL)


def status_of(error: IndexerError) -> Status:
    """Returns the status that an error is told as: the one table, which `search_service.proto` documents."""
    table: tuple[tuple[type[IndexerError], Status], ...] = (
        (ConfigError, Status.INVALID_ARGUMENT),
        (OverloadError, Status.RESOURCE_EXHAUSTED),
        (DrainError, Status.UNAVAILABLE),
        (InputError, Status.FAILED_PRECONDITION),
        (ModelMismatchError, Status.FAILED_PRECONDITION),
    )
    for kind, status in table:
        if isinstance(error, kind):
            return status
    if isinstance(error, PoolError):
        return Status(error.code) if error.code in _PASSED_ON else Status.UNAVAILABLE
    return Status.INTERNAL


async def abort(context: Context, error: IndexerError) -> NoReturn:
    """Ends a call with the status of an error; an overload says in its details when to try again."""
    code = grpc.StatusCode[status_of(error).value]
    status = RichStatus(code=code.value[0], message=str(error))
    if isinstance(error, OverloadError | AwayError) and error.retry_after:
        delay = Duration()
        delay.FromNanoseconds(int(error.retry_after * 1e9))
        status.details.add().Pack(RetryInfo(retry_delay=delay))
    rich = rpc_status.to_status(status)
    await context.abort(code, str(error), (*context.trailing_metadata(), *rich.trailing_metadata))
    raise AssertionError("abort always raises")


def request_id(context: Context) -> str:
    """Returns the id of a call: the caller's `x-request-id` where that is sane, else a new one."""
    given = dict(context.invocation_metadata()).get(REQUEST_ID)
    return given if isinstance(given, str) and _SANE.fullmatch(given) else secrets.token_hex(16)


async def _refuse(error: ConfigError, _: Context) -> NoReturn:
    raise error


class Guard(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Lets pass who shows a token; health is open."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    async def intercept_service(
        self, continuation: Callable[[_Details], Awaitable[_Handler]], details: _Details
    ) -> _Handler:
        """Returns the handler of a call, or one that refuses it."""
        handler = await continuation(details)
        if handler is None or details.method.startswith(_HEALTH):
            return handler
        authorization = dict(details.invocation_metadata).get("authorization", "")
        if isinstance(authorization, str) and self._tokens.known(authorization):
            return handler
        said = "this token is not known" if authorization else "no token came"

        async def refuse(_: Any, context: Context) -> None:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, f"{said}: {_HOW_TO_SHOW_ONE}")

        # On the wire a call with one message is a stream of one.
        return grpc.stream_stream_rpc_method_handler(refuse)


class Observer(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Tells callers what of theirs is no message, makes statuses of errors, and logs calls that failed."""

    def __init__(self) -> None:
        self._second, self._lines = 0, 0

    async def intercept_service(
        self, continuation: Callable[[_Details], Awaitable[_Handler]], details: _Details
    ) -> _Handler:
        """Returns the handler of a call, observed."""
        handler = await continuation(details)
        if handler is None or handler.unary_unary is None or handler.request_deserializer is None:
            return handler
        method, parse, inner = details.method, handler.request_deserializer, handler.unary_unary

        def parse_or_tell(data: bytes) -> Any:
            try:
                return parse(data)
            except DecodeError as error:
                return ConfigError(
                    f"the request cannot be parsed: {error}; send messages made from this release's .proto "
                    "files, with strings in UTF-8"
                )

        async def answer(request: Any, context: Context) -> Any:
            began, name = time.perf_counter(), request_id(context)
            context.set_trailing_metadata(((REQUEST_ID, name),))
            try:
                return await (_refuse if isinstance(request, ConfigError) else inner)(request, context)
            except IndexerError as error:
                self._tell(method, status_of(error), began, name)
                await abort(context, error)
            except asyncio.CancelledError:
                self._tell(method, Status.CANCELLED, began, name)
                raise
            except Exception:
                _log.exception("fault method=%s request_id=%s", method, name)
                await context.abort(
                    grpc.StatusCode.INTERNAL, f"the server failed at this call; its log has request id {name}"
                )

        return grpc.unary_unary_rpc_method_handler(
            answer, request_deserializer=parse_or_tell, response_serializer=handler.response_serializer
        )

    def _tell(self, method: str, status: Status, began: float, name: str) -> None:
        now = int(time.monotonic())
        self._lines = self._lines + 1 if now == self._second else 1
        self._second = now
        if self._lines <= _LINES_A_SECOND:
            level = logging.WARNING if status is Status.INTERNAL else logging.INFO
            milliseconds = (time.perf_counter() - began) * 1e3
            _log.log(
                level,
                "call method=%s status=%s duration_ms=%.2f request_id=%s",
                method,
                status,
                milliseconds,
                name,
            )
