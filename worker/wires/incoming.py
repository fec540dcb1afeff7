"""The messages that a caller sends on a stream, one at a time.

Guarantee: `stop` takes no message away that `next` has returned or is about to. Assumes one event loop, and
one task that calls `next`.
"""

import asyncio
from typing import Any

from google.protobuf.message import DecodeError

from worker.errors import RequestError, UnavailableError
from worker.requests.frontend import DRAINS
from worker.wires.parsing import not_a_message

# gRPC publishes no types: an Any with a name.
_Context = Any


class Incoming:
    """Reads a stream.

    Args:
        context: The call.
    """

    def __init__(self, context: _Context) -> None:
        self._context = context
        self._reading: asyncio.Future[Any] | None = None
        self._stopped = False

    async def next(self) -> Any:
        """Returns a message, a RequestError in the place of one that cannot be parsed, or grpc.aio.EOF.

        Raises:
            UnavailableError: It was stopped.
        """
        if self._stopped:
            raise UnavailableError(DRAINS)
        self._reading = asyncio.ensure_future(self._read())
        try:
            return await self._reading
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._stopped and task is not None and not task.cancelling():
                raise UnavailableError(DRAINS) from None
            raise
        finally:
            self._reading = None

    def stop(self) -> None:
        """Reads nothing more: the server drains."""
        self._stopped = True
        if self._reading is not None:
            self._reading.cancel()

    async def _read(self) -> Any | RequestError:
        try:
            return await self._context.read()
        except DecodeError as error:
            return not_a_message(error)
