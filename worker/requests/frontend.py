"""Who is let in, and what becomes of it in the end: what every wire calls.

Guarantees: each accepted text gets one answer, a vector or an error, also while the server drains; bytes in
flight are bounded; a caller that leaves takes its waiting texts along; each text counts once, as it ended.
Assumes one event loop.
"""

import asyncio
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, TypeVar

from worker.errors import OverloadError, UnavailableError, WorkerError
from worker.models import Model
from worker.processes.pool import Pool
from worker.requests.batch import Batch
from worker.requests.bulk import BulkStream
from worker.requests.intake import Intake, Options, check_text
from worker.requests.outcomes import outcome_of
from worker.requests.queries import Embeddings, Queries
from worker.requests.telling import Telling
from worker.scheduling.admission import Admission, Waiting
from worker.scheduling.scheduler import Priority
from worker.settings.config import ServeConfig
from worker.statistics import Outcome, Statistics

DRAINS = "the server drains; send what follows to another one"

# Seconds after which a stream that was refused may be tried again; arbitrary: streams last.
_STREAM_RETRY_SECONDS = 1.0

_T = TypeVar("_T")

# How a caller wants its texts embedded by a model; raises RequestError for what that one lacks.
ReadOptions = Callable[[Model], Options]


class Conversation(Protocol):
    """A bulk stream as its wire speaks it."""

    async def hold(self) -> None:
        """Answers all that is accepted, until the caller has sent its last; raises WorkerError."""

    def stop_reading(self) -> None:
        """Accepts nothing more: the server drains."""


@dataclass(frozen=True)
class Answer:
    """A query's vectors, how they were wanted, and the model that computed them."""

    embeddings: Embeddings
    options: Options
    model: Model


class Frontend:
    """Lets texts in to the models of one pool.

    Args:
        config: Limits.
        pool: Computes.
        intake: Tokenizes.
        statistics: Counts how texts end.
    """

    def __init__(self, config: ServeConfig, pool: Pool, intake: Intake, statistics: Statistics) -> None:
        self.config = config
        self.pool = pool
        self._intake = intake
        self._statistics = statistics
        self._numbers = itertools.count()
        bounds = (
            config.limits.max_query_bytes_in_flight,
            config.max_query_wait_seconds,
            config.processes,
            config.bulk_share,
        )
        self._admission = Admission(*bounds)
        # Apart: who looks at the tokens of a large text keeps no query out.
        self._telling = Admission(*bounds, of="texts to tokenize")
        self._queries = Queries(self._next_number, config, pool, intake, self._admission)
        self._streams: set[BulkStream] = set()
        self._conversations: set[Conversation] = set()
        self._active = 0
        self._all_done = asyncio.Event()
        self._all_done.set()
        self.draining = False

    @property
    def ready(self) -> bool:
        """Whether texts would be let in now."""
        return self.pool.live and not self.draining

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
        return sum(stream.bytes for stream in self._streams)

    async def drain(self, seconds: float) -> int:
        """Refuses new work and waits for what was accepted; returns how many calls were not done in time."""
        self.draining = True
        for conversation in self._conversations:
            conversation.stop_reading()
        try:
            await asyncio.wait_for(self._all_done.wait(), seconds)
        except TimeoutError:
            return self._active
        return 0

    async def query(self, texts: Sequence[str], read_options: ReadOptions) -> Answer:
        """Embeds one text or a few, before bulk work.

        Raises:
            WorkerError: They are refused, or one of them could not be computed; the message names its index.
        """
        try:
            with self._admitted(), self.pool.lease() as model:
                options = read_options(model)
                embeddings = await self._queries.embed(texts, options, model)
        except WorkerError as error:
            self._statistics.text(Priority.QUERY, outcome_of(error), len(texts))
            raise
        except asyncio.CancelledError:
            self._statistics.text(Priority.QUERY, Outcome.CANCELLED, len(texts))
            raise
        for text in embeddings.texts:
            self._statistics.embedded(Priority.QUERY, text.token_count, truncated=text.truncated)
        return Answer(embeddings, options, model)

    async def documents(self, texts: Sequence[bytes], read_options: ReadOptions) -> Batch:
        """Embeds texts as bulk work that is answered as a whole; a bad text is an error in its gather.

        Raises:
            WorkerError: They are refused as a whole.
        """
        with self._admitted(), self._stream() as bulk:
            try:
                await bulk.accept(0, texts, read_options)
            except WorkerError as error:
                self._statistics.text(Priority.BULK, outcome_of(error), len(texts))
                raise
            finally:
                bulk.end()
            async for batch in bulk.finished():
                bulk.written(batch)
                answered = batch
        return answered

    async def tokens(self, telling: Telling[_T]) -> _T:
        """Tells the tokens of a text.

        Raises:
            WorkerError: It is refused, or the tokenizer failed.
        """
        cost = telling.cost(check_text(telling.text, self.config.limits))
        nothing = Waiting(0, bulk=False)
        longest = self.pool.current.manifest.max_tokens
        with self._admitted(), self._telling.admitted(0, cost, nothing, longest):
            return await self.tokens_in_turn(telling)

    async def tokens_in_turn(self, telling: Telling[_T]) -> _T:
        """Tells the tokens of a text that a stream holds, which holds no other.

        Raises:
            WorkerError: It is refused, or the tokenizer failed.
        """
        check_text(telling.text, self.config.limits)
        with self.pool.lease() as model:
            whole = telling.prompt_for(model) + telling.text
            return await self._intake.tokens(len(whole), lambda: telling.told(model.tokenizer, whole))

    async def converse(self, speak: Callable[[BulkStream], Conversation]) -> None:
        """Serves a bulk stream to its end.

        Raises:
            WorkerError: It is refused, or its caller broke a rule.
        """
        with self._admitted(), self._stream() as bulk:
            conversation = speak(bulk)
            self._conversations.add(conversation)
            try:
                await conversation.hold()
            finally:
                self._conversations.discard(conversation)

    def _next_number(self) -> int:
        return next(self._numbers)

    @contextmanager
    def _stream(self) -> Iterator[BulkStream]:
        if len(self._streams) >= self.config.max_streams:
            raise OverloadError(
                f"{len(self._streams)} bulk streams are open, the limit max_streams is "
                f"{self.config.max_streams}; send more batches on fewer streams or try again later",
                _STREAM_RETRY_SECONDS,
            )
        bulk = BulkStream(
            self._next_number,
            self.pool,
            self._intake,
            self.config.limits,
            self._statistics,
            self._admission.measured,
        )
        self._streams.add(bulk)
        try:
            yield bulk
        finally:
            self._streams.discard(bulk)
            bulk.close()

    @contextmanager
    def _admitted(self) -> Iterator[None]:
        if self.draining:
            raise UnavailableError(DRAINS)
        if not self.pool.live:
            raise UnavailableError("the pool has no live process at the moment; try again")
        self._active += 1
        self._all_done.clear()
        try:
            yield
        finally:
            self._active -= 1
            if not self._active:
                self._all_done.set()
