"""One caller's stream of document batches: how much of it is here, what is done, what is still to come.

Guarantees: each accepted batch is finished exactly once; a text's bytes count from acceptance until its
answer is written; when the caller leaves, its waiting texts never reach the model. Assumes one event loop;
one task calls `accept` and `wait_for_room`, another `finished` and `written`.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence

from worker.config import Limits
from worker.errors import RequestError, WorkerError
from worker.gather import Gather
from worker.intake import Intake, Options, check_batch
from worker.pool import Pool
from worker.scheduler import Priority
from worker.tokenizer import Tokens
from worker.work import Work

# Text bytes tokenized in one go: small, so that processes get work before a large batch is tokenized whole
# and streams take turns in between; large enough that a hop to the thread is cheap per text. Arbitrary.
_CHUNK_BYTES = 64 * 1024
# Token ids and bookkeeping that a waiting text costs beside its bytes and its vector; an estimate.
_ITEM_BYTES = 1024


class Batch:
    """One message on its way through the pool.

    Attributes:
        batch_id: The caller's number for it.
        cost: Bytes that it holds here.
        tokens: Tokens of each text; None for a refused one.
        gather: Vectors and errors, row i for text i.
    """

    def __init__(self, batch_id: int, cost: int, gather: Gather) -> None:
        self.batch_id = batch_id
        self.cost = cost
        self.tokens: list[tuple[int, bool] | None] = []
        self.gather = gather


class BulkStream:
    """The batches of one stream that are in flight.

    Args:
        number: The scheduler's number for the stream.
        pool: Computes.
        intake: Tokenizes.
        limits: Bounds batches and bytes in flight.
        dim: Length of the pool's vectors.
    """

    def __init__(self, number: int, pool: Pool, intake: Intake, limits: Limits, dim: int) -> None:
        self._number = number
        self._pool = pool
        self._intake = intake
        self._limits = limits
        self._dim = dim
        self._ids: set[int] = set()
        self._done: deque[Batch] = deque()
        self._bytes = 0
        self._ended = False
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    @property
    def in_flight(self) -> int:
        """Count of batches accepted and not yet written."""
        return len(self._ids)

    async def wait_for_room(self) -> None:
        """Returns when the bytes in flight are below their limit."""
        await self._room.wait()

    async def accept(self, batch_id: int, texts: Sequence[bytes], options: Options) -> None:
        """Takes a batch in; returns when all its texts wait for a process.

        Raises:
            RequestError: The batch breaks a limit, or its id is in flight.
        """
        size = check_batch(texts, self._limits)
        if batch_id in self._ids:
            raise RequestError(f"batch_id {batch_id} is in flight already; use each id once")
        cost = size + len(texts) * (_ITEM_BYTES + 4 * self._dim)
        self._ids.add(batch_id)
        self._bytes += cost
        if self._bytes >= self._limits.max_stream_bytes_in_flight:
            self._room.clear()
        batch = Batch(batch_id, cost, Gather(len(texts), self._dim, lambda: self._complete(batch)))
        if not texts:
            self._complete(batch)
        for first, chunk in _chunks(texts):
            self._queue(batch, first, await self._intake.documents(chunk, options))

    def end(self) -> None:
        """Notes that no batch will be accepted any more."""
        self._ended = True
        self._changed.set()

    async def finished(self) -> AsyncIterator[Batch]:
        """Yields each batch when it is done, until the stream has ended and nothing is in flight."""
        while True:
            while self._done:
                yield self._done.popleft()
            if self._ended and not self._ids:
                return
            self._changed.clear()
            await self._changed.wait()

    def written(self, batch: Batch) -> None:
        """Notes that a batch's answer left; makes room."""
        self._ids.remove(batch.batch_id)
        self._bytes -= batch.cost
        if self._bytes < self._limits.max_stream_bytes_in_flight:
            self._room.set()

    def close(self) -> None:
        """Drops what is still in flight."""
        self._pool.cancel(self._number)

    def _queue(self, batch: Batch, first: int, outcomes: Sequence[Tokens | WorkerError]) -> None:
        works = []
        for row, outcome in enumerate(outcomes, first):
            if isinstance(outcome, Tokens):
                batch.tokens.append((len(outcome.ids), outcome.truncated))
                works.append(
                    Work(
                        stream=self._number,
                        priority=Priority.BULK,
                        tokens=len(outcome.ids),
                        stackable=self._pool.current.manifest.max_group_tokens > 0,
                        ids=outcome.ids,
                        model=self._pool.current,
                        sink=batch.gather,
                        row=row,
                    )
                )
            else:
                batch.tokens.append(None)
                batch.gather.fail(row, outcome)
        self._pool.submit(works)

    def _complete(self, batch: Batch) -> None:
        self._done.append(batch)
        self._changed.set()


def _chunks(texts: Sequence[bytes]) -> Iterator[tuple[int, Sequence[bytes]]]:
    """Yields (index of the first, texts), cut so that each holds about `_CHUNK_BYTES`, one text at least."""
    first = size = 0
    for index, text in enumerate(texts):
        if index > first and size + len(text) > _CHUNK_BYTES:
            yield first, texts[first:index]
            first, size = index, 0
        size += len(text)
    if first < len(texts):
        yield first, texts[first:]
