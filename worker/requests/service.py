"""The RPCs: who is let in, and what becomes of it in the end.

Guarantees: each accepted text gets one answer, a vector or a status, also while the server drains; bytes in
flight are bounded; a caller that leaves takes its waiting texts along; each text counts once, as it ended.
Assumes one event loop.
"""

import asyncio
import itertools
from collections.abc import Iterator
from contextlib import contextmanager

from embedpool.v1 import embedding_service_pb2 as pb
from embedpool.v1 import embedding_service_pb2_grpc
from worker.errors import OverloadError, RequestError, UnavailableError, WorkerError
from worker.processes.pool import Pool
from worker.requests.bulk import BulkStream
from worker.requests.conversation import DRAINS, Context, Conversation
from worker.requests.intake import Intake
from worker.requests.outcomes import outcome_of
from worker.requests.queries import Queries
from worker.requests.wire import abort, model_response, query_response, read_options
from worker.scheduling.admission import Admission
from worker.scheduling.scheduler import Priority
from worker.settings.config import ServeConfig
from worker.statistics import Outcome, Statistics

# Seconds after which a stream that was refused may be tried again; arbitrary: streams last.
_STREAM_RETRY_SECONDS = 1.0


class EmbeddingService(embedding_service_pb2_grpc.EmbeddingServiceServicer):
    """Serves the models of one pool.

    Args:
        config: Limits.
        pool: Computes.
        intake: Tokenizes.
        statistics: Counts how texts end.
    """

    def __init__(self, config: ServeConfig, pool: Pool, intake: Intake, statistics: Statistics) -> None:
        self._config = config
        self._limits = config.limits
        self._pool = pool
        self._intake = intake
        self._statistics = statistics
        self._numbers = itertools.count()
        self._admission = Admission(
            config.limits.max_query_bytes_in_flight,
            config.max_query_wait_seconds,
            config.processes,
            config.bulk_share,
        )
        self._queries = Queries(self._next_number, config, pool, intake, self._admission)
        self._streams: set[Conversation] = set()
        self._active = 0
        self._draining = False
        self._all_done = asyncio.Event()
        self._all_done.set()

    @property
    def open_streams(self) -> int:
        """Bulk streams that are being served."""
        return len(self._streams)

    @property
    def query_bytes(self) -> int:
        """Bytes that the queries in flight hold."""
        return self._admission.bytes

    @property
    def document_bytes(self) -> int:
        """Bytes that the batches in flight hold, all streams together."""
        return sum(stream.bulk.bytes for stream in self._streams)

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

    async def GetModel(self, request: pb.GetModelRequest, context: Context) -> pb.GetModelResponse:  # noqa: N802
        """Tells which model is served, its limits and its prompts."""
        return model_response(self._pool.current, self._config)

    async def EmbedQuery(self, request: pb.EmbedQueryRequest, context: Context) -> pb.EmbedQueryResponse:  # noqa: N802
        """Embeds one text or a few, before bulk work."""
        try:
            with self._admitted():
                return await self._embed_query(request)
        except WorkerError as error:
            self._statistics.text(Priority.QUERY, outcome_of(error), len(request.texts))
            await abort(context, error)
        except asyncio.CancelledError:
            self._statistics.text(Priority.QUERY, Outcome.CANCELLED, len(request.texts))
            raise

    async def EmbedDocuments(self, request_iterator: object, context: Context) -> None:  # noqa: N802
        """Embeds batches of documents, whichever is done first."""
        try:
            with self._admitted():
                self._check_streams()
                bulk = BulkStream(
                    self._next_number,
                    self._pool,
                    self._intake,
                    self._limits,
                    self._statistics,
                    self._admission.measured,
                )
                stream = Conversation(bulk, context, self._config.max_windows, lambda: self._draining)
                self._streams.add(stream)
                try:
                    await stream.hold()
                finally:
                    self._streams.discard(stream)
        except WorkerError as error:
            await abort(context, error)

    def _next_number(self) -> int:
        return next(self._numbers)

    def _check_streams(self) -> None:
        if len(self._streams) >= self._config.max_streams:
            raise OverloadError(
                f"{len(self._streams)} bulk streams are open, the limit max_streams is "
                f"{self._config.max_streams}; send more batches on fewer streams or try again later",
                _STREAM_RETRY_SECONDS,
            )

    @contextmanager
    def _admitted(self) -> Iterator[None]:
        if self._draining:
            raise UnavailableError(DRAINS)
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
        with self._pool.lease() as model:
            prompt = model.manifest.query_prompt
            options = read_options(request.options, model, prompt, self._config.max_windows)
            if options.chunking is not None and options.chunking.separate:
                raise RequestError(
                    "options.chunking.separate is for EmbedDocuments: a query has one vector; leave it out"
                )
            embeddings = await self._queries.embed(list(request.texts), options, model)
            response = query_response(embeddings, options, model.manifest)
        for text in embeddings.texts:
            self._statistics.embedded(Priority.QUERY, text.token_count, truncated=text.truncated)
        return response
