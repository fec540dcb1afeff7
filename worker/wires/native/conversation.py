"""Reads and writes one bulk stream.

Guarantees: batches accepted before the end of the stream, before a broken rule or before the server drains
are answered first; nothing is read while the stream's bytes stand at their limit. Assumes one event loop.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from embedpool.v1 import embedding_service_pb2 as pb
from worker.errors import RequestError, UnavailableError
from worker.models import Model
from worker.requests.bulk import BulkStream
from worker.requests.frontend import DRAINS
from worker.requests.intake import Options
from worker.wires.native.messages import documents_response, read_options
from worker.wires.parsing import not_a_message

# gRPC publishes no types: an Any with a name.
Context = Any


class DocumentConversation:
    """One call of EmbedDocuments.

    Args:
        bulk: The stream's batches.
        context: The call.
        max_windows: Windows of one text.
        is_draining: Tells whether nothing more may be accepted.
    """

    def __init__(
        self, bulk: BulkStream, context: Context, max_windows: int, is_draining: Callable[[], bool]
    ) -> None:
        self._bulk = bulk
        self._context = context
        self._max_windows = max_windows
        self._is_draining = is_draining
        self._first: pb.EmbeddingOptions | None = None
        self._options: tuple[int, Options] | None = None  # generation that they were read for
        self._reader: asyncio.Task[None] | None = None
        self._between_batches = False

    async def hold(self) -> None:
        """Answers all accepted batches, until the caller has sent its last one or broke a rule.

        Raises:
            RequestError: The caller broke a rule.
            UnavailableError: The server drains.
        """
        self._reader = asyncio.create_task(self._read())
        try:
            async for batch in self._bulk.finished():
                await self._context.write(documents_response(batch))
                self._bulk.written(batch)
            await self._reader
        except grpc.aio.InternalError:
            return  # the answer cannot be written: the caller is gone, and gRPC tells us a moment later
        except asyncio.CancelledError:
            if self._is_draining() and self._reader.cancelled():
                raise UnavailableError(DRAINS) from None
            raise
        finally:
            self._reader.cancel()

    def stop_reading(self) -> None:
        """Takes no further batch; one that is being accepted is accepted whole."""
        if self._reader is not None and self._between_batches:
            self._reader.cancel()

    async def _read(self) -> None:
        try:
            while (request := await self._next()) is not grpc.aio.EOF:
                await self._accept(request)
        finally:
            self._bulk.end()

    async def _accept(self, request: pb.EmbedDocumentsRequest) -> None:
        try:
            self._agree(request)
            await self._bulk.accept(request.batch_id, request.texts, self._options_for)
        except RequestError:
            self._bulk.refused(len(request.texts))
            raise

    async def _next(self) -> Any:
        if self._is_draining():
            raise UnavailableError(DRAINS)
        self._between_batches = True
        try:
            await self._bulk.wait_for_room()
            return await self._context.read()
        except DecodeError as error:
            raise not_a_message(error) from None
        finally:
            self._between_batches = False

    def _agree(self, request: pb.EmbedDocumentsRequest) -> None:
        if self._first is None:
            self._first = request.options
        elif request.HasField("options") and request.options != self._first:
            raise RequestError(f"batch {request.batch_id}: options differ from the stream's first message's")

    def _options_for(self, model: Model) -> Options:
        """Reads the stream's options anew for each model: prompts, dimensions and windows are the model's."""
        if self._options is None or self._options[0] != model.generation:
            first = self._first if self._first is not None else pb.EmbeddingOptions()
            options = read_options(first, model, model.manifest.document_prompt, self._max_windows)
            self._options = (model.generation, options)
        return self._options[1]
