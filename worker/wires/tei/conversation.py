"""Reads and writes one stream of `tei.v1`.

Guarantees: each message read gets one answer, in the order of the messages, a vector or a failure; what was
read before the server drains is answered first; nothing is read while what waits here stands at its limit.
Assumes one event loop.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import grpc

from embedpool.wires import tei_pb2 as pb
from worker.errors import RequestError, UnavailableError, WorkerError
from worker.requests.batch import Batch
from worker.requests.bulk import BulkStream
from worker.wires.incoming import Incoming
from worker.wires.tei.messages import Asked, Failures, batch_response, failure_of, read_options

# gRPC publishes no types: an Any with a name.
Context = Any


class EmbedConversation:
    """One call of EmbedStream; each message is a batch of one text, numbered as it comes.

    Args:
        bulk: The stream's batches.
        context: The call.
    """

    def __init__(self, bulk: BulkStream, context: Context) -> None:
        self._bulk = bulk
        self._context = context
        self._incoming = Incoming(context)
        self._asked: dict[int, Asked] = {}
        self._failures = Failures()

    async def hold(self) -> None:
        """Answers all messages that are read.

        Raises:
            UnavailableError: The server drains.
        """
        reader = asyncio.create_task(self._read())
        try:
            await self._write_in_order()
            await reader
        except grpc.aio.InternalError:
            return  # the answer cannot be written: the caller is gone, and gRPC tells us a moment later
        finally:
            reader.cancel()
            _tell(self._context, self._failures)

    def stop_reading(self) -> None:
        """Takes no further message."""
        self._incoming.stop()

    async def _read(self) -> None:
        index = 0
        try:
            while True:
                await self._bulk.wait_for_room()
                if (message := await self._incoming.next()) is grpc.aio.EOF:
                    return
                await self._accept(index, message)
                index += 1
        finally:
            self._bulk.end()

    async def _accept(self, index: int, message: pb.EmbedRequest | RequestError) -> None:
        try:
            if isinstance(message, RequestError):
                self._asked[index] = Asked(0, normalize=True)
                raise message
            self._asked[index] = Asked.of(message)
            await self._bulk.accept(index, [message.inputs.encode()], partial(read_options, message))
        except RequestError as error:
            self._bulk.refuse(index, error)

    async def _write_in_order(self) -> None:
        done: dict[int, Batch] = {}
        index = 0
        async for finished in self._bulk.finished():
            done[finished.batch_id] = finished
            while (batch := done.pop(index, None)) is not None:
                response = batch_response(self._asked.pop(index), batch)
                if response.HasField("failure"):
                    self._failures.note(index, response.failure)
                await self._context.write(response)
                self._bulk.written(batch)
                index += 1


class TokenizeConversation:
    """One call of TokenizeStream; it holds one text at a time.

    Args:
        context: The call.
        answer: Tells the tokens of one request; raises WorkerError.
    """

    def __init__(
        self, context: Context, answer: Callable[[pb.EncodeRequest], Awaitable[pb.EncodeResponse]]
    ) -> None:
        self._context = context
        self._answer = answer
        self._incoming = Incoming(context)
        self._failures = Failures()

    async def hold(self) -> None:
        """Answers all messages that are read.

        Raises:
            UnavailableError: The server drains.
        """
        index = 0
        try:
            while (message := await self._incoming.next()) is not grpc.aio.EOF:
                response = await self._response(message)
                if response.HasField("failure"):
                    self._failures.note(index, response.failure)
                await self._context.write(response)
                index += 1
        except grpc.aio.InternalError:
            return  # as above
        finally:
            _tell(self._context, self._failures)

    def stop_reading(self) -> None:
        """Takes no further message."""
        self._incoming.stop()

    async def _response(self, message: pb.EncodeRequest | RequestError) -> pb.EncodeResponse:
        try:
            if isinstance(message, RequestError):
                raise message
            return await self._answer(message)
        except UnavailableError:
            raise
        except WorkerError as error:
            return pb.EncodeResponse(failure=failure_of(error))


def _tell(context: Context, failures: Failures) -> None:
    if headers := failures.headers():
        context.set_trailing_metadata((*context.trailing_metadata(), *headers))
