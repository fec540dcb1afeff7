"""The RPCs: admission, and the road of a request through intake and pool.

Guarantees: each accepted text gets one answer, a vector or a status, also while the server drains; bytes in
flight are bounded; a caller that leaves takes its waiting texts along. Assumes one event loop.
"""

import asyncio
import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc

from embedpool.v1 import embedding_service_pb2 as pb
from embedpool.v1 import embedding_service_pb2_grpc
from worker.bulk import BulkStream
from worker.bundle import Manifest
from worker.config import ServeConfig
from worker.errors import OverloadError, RequestError, UnavailableError, WorkerError
from worker.gather import Gather
from worker.intake import Intake, Options, check_query
from worker.pool import Pool
from worker.scheduler import Priority
from worker.tokenizer import Tokens
from worker.wire import abort, documents_response, model_response, query_response, read_options
from worker.work import Work

# What a query's text costs beside its bytes and its vector: token ids, bookkeeping, the RPC; an estimate.
_QUERY_ITEM_BYTES = 4096
# Seconds after which a refused caller may try again: about what a full queue of queries takes; arbitrary.
_RETRY_SECONDS = 0.5
_DRAINS = "the server drains; send what follows to another one"

# gRPC publishes no types: an Any with a name.
_Context = Any


class EmbeddingService(embedding_service_pb2_grpc.EmbeddingServiceServicer):
    """Serves one bundle from one pool."""

    def __init__(self, config: ServeConfig, pool: Pool, intake: Intake) -> None:
        self._manifest = pool.current.manifest
        self._config = config
        self._limits = config.limits
        self._model = model_response(self._manifest, config)
        self._pool = pool
        self._intake = intake
        self._numbers = itertools.count()
        self._query_bytes = 0
        self._streams: set[_Conversation] = set()
        self._active = 0
        self._draining = False
        self._all_done = asyncio.Event()
        self._all_done.set()

    async def drain(self, seconds: float) -> int:
        """Refuses new work and waits for what was accepted; returns how many RPCs were not done in time."""
        self._draining = True
        for stream in self._streams:
            stream.stop_reading()
        try:
            await asyncio.wait_for(self._all_done.wait(), seconds)
        except TimeoutError:
            return self._active
        return 0

    async def GetModel(self, request: pb.GetModelRequest, context: _Context) -> pb.GetModelResponse:  # noqa: N802
        """Tells which model is served, its limits and its prompts."""
        return self._model

    async def EmbedQuery(self, request: pb.EmbedQueryRequest, context: _Context) -> pb.EmbedQueryResponse:  # noqa: N802
        """Embeds one text or a few, before bulk work."""
        try:
            with self._admitted():
                return await self._embed_query(request)
        except WorkerError as error:
            await abort(context, error)

    async def EmbedDocuments(self, request_iterator: object, context: _Context) -> None:  # noqa: N802
        """Embeds batches of documents, whichever is done first."""
        try:
            with self._admitted():
                if len(self._streams) >= self._config.max_streams:
                    raise OverloadError(
                        f"{len(self._streams)} bulk streams are open, the limit max_streams is "
                        f"{self._config.max_streams}; send more batches on fewer streams or try again later",
                        _RETRY_SECONDS,
                    )
                bulk = BulkStream(
                    next(self._numbers), self._pool, self._intake, self._limits, self._manifest.dim
                )
                stream = _Conversation(bulk, context, self._manifest, lambda: self._draining)
                self._streams.add(stream)
                try:
                    await stream.hold()
                finally:
                    self._streams.discard(stream)
        except WorkerError as error:
            await abort(context, error)

    @contextmanager
    def _admitted(self) -> Iterator[None]:
        if self._draining:
            raise UnavailableError(_DRAINS)
        if not self._pool.live:
            raise UnavailableError("the pool has no live process at the moment; try again")
        self._active += 1
        self._all_done.clear()
        try:
            yield
        finally:
            self._active -= 1
            if not self._active:
                self._all_done.set()

    async def _embed_query(self, request: pb.EmbedQueryRequest) -> pb.EmbedQueryResponse:
        options = read_options(request.options, self._manifest, self._manifest.query_prompt)
        texts = list(request.texts)
        size = sum(check_query(texts, self._limits))
        with self._query_bytes_held(size + len(texts) * (_QUERY_ITEM_BYTES + 4 * self._manifest.dim)):
            began = time.perf_counter_ns()
            tokens = await self._intake.query(texts, options)
            tokenized = time.perf_counter_ns()
            gather = await self._compute(tokens)
        return query_response(gather, tokens, options, self._manifest, tokenized - began)

    @contextmanager
    def _query_bytes_held(self, cost: int) -> Iterator[None]:
        # A query that meets no other may be of any size that passed its own limits.
        if self._query_bytes and self._query_bytes + cost > self._limits.max_query_bytes_in_flight:
            raise OverloadError(
                f"queries in flight hold {self._query_bytes} bytes, this one needs {cost}, the limit "
                f"max_query_bytes_in_flight is {self._limits.max_query_bytes_in_flight}; try again",
                _RETRY_SECONDS,
            )
        self._query_bytes += cost
        try:
            yield
        finally:
            self._query_bytes -= cost

    async def _compute(self, tokens: list[Tokens]) -> Gather:
        number = next(self._numbers)
        done = asyncio.Event()
        gather = Gather(len(tokens), self._manifest.dim, done.set)
        self._pool.submit(
            [
                Work(
                    stream=number,
                    priority=Priority.QUERY,
                    tokens=len(one.ids),
                    stackable=self._pool.current.manifest.max_group_tokens > 0,
                    ids=one.ids,
                    model=self._pool.current,
                    sink=gather,
                    row=row,
                )
                for row, one in enumerate(tokens)
            ]
        )
        try:
            await done.wait()
        except asyncio.CancelledError:
            self._pool.cancel(number)
            raise
        for row, error in sorted(gather.errors.items()):
            raise type(error)(f"texts[{row}]: {error}")
        return gather


class _Conversation:
    """Reads and writes one bulk stream."""

    def __init__(
        self, bulk: BulkStream, context: _Context, manifest: Manifest, is_draining: Callable[[], bool]
    ) -> None:
        self._bulk = bulk
        self._context = context
        self._manifest = manifest
        self._is_draining = is_draining
        self._first: pb.EmbeddingOptions | None = None
        self._options = Options()
        self._reader: asyncio.Task[None] | None = None
        self._between_batches = False

    async def hold(self) -> None:
        """Answers all accepted batches, until the caller has sent its last one or broke a rule."""
        self._reader = asyncio.create_task(self._read())
        try:
            async for batch in self._bulk.finished():
                await self._context.write(documents_response(batch, self._options, self._manifest))
                self._bulk.written(batch)
            await self._reader
        except grpc.aio.InternalError:
            return  # the answer cannot be written: the caller is gone, and gRPC tells us a moment later
        except asyncio.CancelledError:
            if self._is_draining() and self._reader.cancelled():
                raise UnavailableError(_DRAINS) from None
            raise
        finally:
            self._reader.cancel()
            self._bulk.close()

    def stop_reading(self) -> None:
        """Takes no further batch; one that is being accepted is accepted whole."""
        if self._reader is not None and self._between_batches:
            self._reader.cancel()

    async def _read(self) -> None:
        try:
            while (request := await self._next()) is not grpc.aio.EOF:
                self._agree(request)
                await self._bulk.accept(request.batch_id, request.texts, self._options)
        finally:
            self._bulk.end()

    async def _next(self) -> Any:
        if self._is_draining():
            raise UnavailableError(_DRAINS)
        self._between_batches = True
        try:
            await self._bulk.wait_for_room()
            return await self._context.read()
        finally:
            self._between_batches = False

    def _agree(self, request: pb.EmbedDocumentsRequest) -> None:
        if self._first is None:
            self._first = request.options
            self._options = read_options(request.options, self._manifest, self._manifest.document_prompt)
        elif request.HasField("options") and request.options != self._first:
            raise RequestError(f"batch {request.batch_id}: options differ from the stream's first message's")
