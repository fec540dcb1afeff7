"""Bytes that are no message are the caller's mistake: INVALID_ARGUMENT, and no traceback in the log.

gRPC itself reports them as UNKNOWN, as if the server had failed, and logs a traceback for each.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from worker.errors import RequestError
from worker.wires.status import abort

# gRPC publishes no types: an Any with a name.
_Handler = Any
_Details = Any
_Context = Any


def not_a_message(error: DecodeError) -> RequestError:
    """Returns what a caller is told whose bytes are no message."""
    return RequestError(
        f"the request cannot be parsed: {error}; send messages made from this release's .proto files, "
        "with strings in UTF-8"
    )


class Parser(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Parses the requests of unary RPCs; streams read their own messages."""

    async def intercept_service(
        self, continuation: Callable[[_Details], Awaitable[_Handler]], details: _Details
    ) -> _Handler:
        """Returns the handler of an RPC that tells callers what of theirs is no message."""
        handler = await continuation(details)
        if handler is None or handler.unary_unary is None or handler.request_deserializer is None:
            return handler
        parse, inner = handler.request_deserializer, handler.unary_unary

        def parse_or_tell(data: bytes) -> Any:
            try:
                return parse(data)
            except DecodeError as error:
                return not_a_message(error)

        async def answer(request: Any, context: _Context) -> Any:
            if isinstance(request, RequestError):
                await abort(context, request)
            return await inner(request, context)

        return grpc.unary_unary_rpc_method_handler(
            answer, request_deserializer=parse_or_tell, response_serializer=handler.response_serializer
        )
