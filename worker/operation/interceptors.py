"""What happens around every RPC: its id, its count and its line in the log; and whether it may pass.

The id comes back in the trailing metadata of a unary answer, and at once in the initial metadata of a stream:
initial metadata of its own costs a short answer an extra write, 0.1 ms and more.
"""

import asyncio
import contextlib
import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import grpc

from worker.operation.tokens import Role, Tokens
from worker.requests.calls import REQUEST_ID, Recorder, begin_call, current_call
from worker.requests.endings import Endings

# What a prober asks, who has no token.
OPEN = (
    "/grpc.health.v1.Health/",
    "/inference.GRPCInferenceService/ServerLive",
    "/inference.GRPCInferenceService/ServerReady",
    "/inference.GRPCInferenceService/ModelReady",
)
RELOAD = "/embedpool.v1.AdminService/Reload"
# RPCs that are a span; of streams each batch is one.
_TRACED = frozenset(
    {
        "/embedpool.v1.EmbeddingService/EmbedQuery",
        "/inference.GRPCInferenceService/ModelInfer",
        "/tei.v1.Embed/Embed",
    }
)
_NAMES = {code.value[0]: code.name for code in grpc.StatusCode}
_FACTORIES = {
    (False, False): (grpc.unary_unary_rpc_method_handler, "unary_unary"),
    (False, True): (grpc.unary_stream_rpc_method_handler, "unary_stream"),
    (True, False): (grpc.stream_unary_rpc_method_handler, "stream_unary"),
    (True, True): (grpc.stream_stream_rpc_method_handler, "stream_stream"),
}

_HOW_TO_SHOW_ONE = "send the metadata `authorization: Bearer TOKEN` with a token of this server"
_NO_ADMINISTRATOR = "this token may embed but not reload: use one of the --admin-token-file"
_NO_ADMINISTRATORS = (
    "this server has no tokens for administrators: send it SIGHUP, or start it with --admin-token-file"
)

# gRPC publishes no types: an Any with a name.
_Context = Any
_Handler = Any
_Details = Any
_Around = Callable[[_Context], AbstractAsyncContextManager[None]]


class Observer(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Gives each RPC an id, and tells how it ended."""

    def __init__(self, endings: Endings, recorder: Recorder | None = None) -> None:
        self._endings = endings
        self._recorder = recorder

    async def intercept_service(
        self, continuation: Callable[[_Details], Awaitable[_Handler]], details: _Details
    ) -> _Handler:
        """Returns the handler of an RPC, observed."""
        call = begin_call(details.method, dict(details.invocation_metadata), self._recorder)
        handler = await continuation(details)
        if handler is None:
            return None

        @contextlib.asynccontextmanager
        async def observed(context: _Context) -> AsyncIterator[None]:
            began = time.perf_counter_ns()
            gone = False
            try:
                if handler.response_streaming:
                    await context.send_initial_metadata(((REQUEST_ID, call.request_id),))
                else:
                    context.set_trailing_metadata(((REQUEST_ID, call.request_id),))
                yield
            except asyncio.CancelledError:
                gone = True
                raise
            finally:
                status = _status(context, gone=gone)
                self._endings.ended(call, status, began, is_span=call.method in _TRACED)

        return _around(handler, observed)


class Guard(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Lets pass who shows a token that the RPC asks for; health is open."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    async def intercept_service(
        self, continuation: Callable[[_Details], Awaitable[_Handler]], details: _Details
    ) -> _Handler:
        """Returns the handler of an RPC, or one that refuses it."""
        handler = await continuation(details)
        if handler is None or (refusal := self._refusal(details)) is None:
            return handler
        code, message = refusal

        @contextlib.asynccontextmanager
        async def refused(context: _Context) -> AsyncIterator[None]:
            await context.abort(code, message)
            yield

        return _around(handler, refused)

    def _refusal(self, details: _Details) -> tuple[grpc.StatusCode, str] | None:
        if details.method.startswith(OPEN):
            return None
        metadata = dict(details.invocation_metadata)
        authorization = metadata.get("authorization", "")
        caller = self._tokens.caller(authorization) if isinstance(authorization, str) else None
        if caller is not None and (call := current_call()) is not None:
            call.caller = caller.name
        wants_admin = details.method == RELOAD
        if caller is None and (self._tokens.closed or (wants_admin and self._tokens.administered)):
            said = "this token is not known" if authorization else "no token came"
            return grpc.StatusCode.UNAUTHENTICATED, f"{said}: {_HOW_TO_SHOW_ONE}"
        if wants_admin and not self._tokens.administered:
            return grpc.StatusCode.PERMISSION_DENIED, _NO_ADMINISTRATORS
        if wants_admin and caller is not None and caller.role is not Role.ADMIN:
            return grpc.StatusCode.PERMISSION_DENIED, _NO_ADMINISTRATOR
        return None


def _status(context: _Context, *, gone: bool) -> str:
    if gone:
        left = context.time_remaining()
        return "DEADLINE_EXCEEDED" if left is not None and left <= 0 else "CANCELLED"
    code = context.code()
    return str(code.name) if isinstance(code, grpc.StatusCode) else _NAMES.get(code or 0, str(code))


def _around(handler: _Handler, around: _Around) -> _Handler:
    """Returns a handler that does what `handler` does, inside of `around`."""
    make, name = _FACTORIES[handler.request_streaming, handler.response_streaming]
    inner = getattr(handler, name)

    async def answer(request: Any, context: _Context) -> Any:
        async with around(context):
            return await inner(request, context)

    async def generate(request: Any, context: _Context) -> AsyncIterator[Any]:
        async with around(context):
            async for message in inner(request, context):
                yield message

    # gRPC tells the two ways to write a streaming handler apart by what kind of function it is.
    behavior = generate if inspect.isasyncgenfunction(inner) else answer
    return make(
        behavior,
        request_deserializer=handler.request_deserializer,
        response_serializer=handler.response_serializer,
    )
