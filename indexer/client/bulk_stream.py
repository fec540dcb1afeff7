"""One stream of batches to one pool: what is in flight on it, and how it ends.

Guarantees: a batch is in flight until it is answered; when the stream ends for any reason, what is in flight
goes back to the queue. A pool that leaves gets no more batches, and its stream ends with its last answer.
Assumes: one asyncio loop.
"""

import asyncio
from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

from indexer.client.answers import Answer, Pool
from indexer.client.channel import DocumentStream
from indexer.client.flow import News, Outage, forever, race
from indexer.client.naming import Endpoint
from indexer.client.settings import Access, Options
from indexer.config import FlowConfig
from indexer.errors import AwayError, PoolError

_SPARE_BATCHES = 2  # sent beyond two for each process, to cover the way there and back
_REFUSAL_SECONDS = 0.5  # after a failure: enough for a pool on another host to say why; arbitrary


class Texts(Protocol):
    """Texts that travel together."""

    @property
    def number(self) -> int:
        """Unique among the batches of a dispatcher, and rising in the order of texts."""
        ...

    @property
    def texts(self) -> Sequence[bytes]:
        """UTF-8 bytes of each."""
        ...

    @property
    def bytes(self) -> int:
        """What the batch counts in the budgets of bytes in flight."""
        ...


B = TypeVar("B", bound=Texts)


class Desk(Protocol[B]):
    """Where a stream gets its batches from, and takes answers to."""

    access: Access
    options: Options
    flow: FlowConfig
    queue: "asyncio.PriorityQueue[tuple[int, B]]"

    def accepted(self, target: str, pool: Pool) -> None:
        """Takes what a pool says of itself; raises PoolError where it may not take part."""
        ...

    async def take_answer(self, target: str, pool: Pool, batch: B, answer: Answer) -> None:
        """Takes an answer; raises AwayError where the batch is still owed, PoolError where it is wrong."""
        ...

    def log(self, line: str) -> None:
        """Takes a line for people."""
        ...


class BulkStream(Generic[B]):
    """One stream to one pool and what is in flight on it.

    Args:
        desk: Batches and answers.
        endpoint: The pool.
        outage: How long it has been away.
        leaving: Set when it shall get no more batches.
    """

    def __init__(self, desk: Desk[B], endpoint: Endpoint, outage: Outage, leaving: asyncio.Event) -> None:
        self._desk, self._outage, self._leaving = desk, outage, leaving
        self._target = endpoint.address
        self._stream = DocumentStream(endpoint.address, desk.access, desk.options, endpoint.host)
        self._in_flight: dict[int, B] = {}
        self._bytes = 0
        self._answered = False
        self._answers = News()
        self._last_word = 0.0  # when the pool last answered, or got its first batch, on the loop's clock

    @property
    def idle(self) -> bool:
        """Whether the pool owes no answer."""
        return not self._in_flight

    async def run(self) -> None:
        """Works until the pool has left; raises AwayError or PoolError when the stream breaks before."""
        try:
            pool = await self._stream.open(_REFUSAL_SECONDS if self._outage.lasts else 0.0)
            self._desk.accepted(self._target, pool)
            await race(self._send(pool), self._receive(pool), self._watch(), self._leave())
        finally:
            for batch in self._in_flight.values():
                self._desk.queue.put_nowait((batch.number, batch))
            await self._stream.close()

    async def _send(self, pool: Pool) -> None:
        window = 2 * max(1, pool.processes) + _SPARE_BATCHES
        size = min(self._desk.flow.stream_bytes_in_flight, pool.max_stream_bytes)
        while True:
            # The last batch may go beyond `size`, or a text larger than it could never be sent.
            # One batch alone until it is answered: if the pool refuses it, no other write hides the reason.
            while len(self._in_flight) >= (window if self._answered else 1) or self._bytes >= size:
                await self._answers.wait()
            number, batch = await self._desk.queue.get()
            if self._leaving.is_set():
                self._desk.queue.put_nowait((number, batch))
                await forever()
            if not self._in_flight:
                self._last_word = asyncio.get_running_loop().time()
            self._in_flight[batch.number] = batch
            self._bytes += batch.bytes
            try:
                await self._stream.send(batch.number, batch.texts)
            except AwayError:
                # `_receive` learns why and tells it.
                await forever()

    async def _receive(self, pool: Pool) -> None:
        while True:
            answer = await self._stream.receive()
            self._last_word = asyncio.get_running_loop().time()
            batch = self._in_flight.get(answer.number)
            if batch is None:
                raise PoolError(
                    f"worker {self._target} answered batch {answer.number}, which it was not sent"
                )
            await self._desk.take_answer(self._target, pool, batch, answer)
            del self._in_flight[answer.number]
            self._bytes -= batch.bytes
            self._answered = True
            self._answers.tell()
            if self._outage.end():
                self._desk.log(f"worker {self._target} is back")

    async def _leave(self) -> None:
        """Returns when the pool is to leave and owes nothing."""
        await self._leaving.wait()
        while self._in_flight:
            await self._answers.wait()

    async def _watch(self) -> None:
        """Raises AwayError when the pool owes answers and is silent for too long, or is not there at all."""
        clock, flow = asyncio.get_running_loop().time, self._desk.flow
        heard = 0.0
        while True:
            silence = clock() - self._last_word if self._in_flight else 0.0
            if silence >= flow.answer_seconds:
                raise AwayError(
                    f"worker {self._target} owes answers and was silent for {flow.answer_seconds:g} s"
                )
            unheard = min(silence, clock() - heard)
            if unheard >= flow.echo_seconds:
                # A batch takes well below a second: the pool hangs, is gone, or has a hard time.
                await self._stream.echo(2 * flow.echo_seconds)
                heard = clock()
                continue
            await asyncio.sleep(max(0.1, min(flow.answer_seconds - silence, flow.echo_seconds - unheard)))
