"""Brings batches to pools and answers back, through outages, with each batch in one place at a time.

Guarantees: a batch is in the queue, in flight to exactly one pool, or answered; when a pool goes away, what
it owes goes back to the queue and from there to whichever pool is there; every batch is answered once.
Assumes: one asyncio loop; `on_answer` does not block.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from indexer.client.answers import Answer
from indexer.client.channel import DocumentStream
from indexer.client.flow import ByteBudget, Outage, forever, race
from indexer.client.settings import Access, Options
from indexer.config import FlowConfig
from indexer.errors import AwayError, GaveUpError, PoolError

_SPARE_BATCHES = 2  # sent beyond two for each process, to cover the way there and back
_REFUSAL_SECONDS = 0.5  # after a failure: enough for a pool on another host to say why; arbitrary
_POSTPONED_TIMES = 5  # a text that a live pool postpones this often counts as refused; arbitrary


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


class Dispatcher(Generic[B]):
    """Keeps every pool busy with batches from one queue.

    Args:
        targets: Addresses of the pools.
        access: What opens them.
        check_model: Raises ModelMismatchError unless the fingerprint that a target serves is right.
        dim: Values of each vector.
        options: How to embed.
        flow: Windows and patience.
        on_answer: Called in the loop with each batch and its answer.
        log: Takes a line for people when a pool goes or comes back.
    """

    def __init__(
        self,
        targets: Sequence[str],
        access: Access,
        check_model: Callable[[str, str], None],
        dim: int,
        options: Options,
        flow: FlowConfig,
        on_answer: Callable[[B, Answer], None],
        log: Callable[[str], None],
    ) -> None:
        self.access = access
        self.check_model = check_model
        self.options = options
        self.flow = flow
        self.log = log
        # Ordered by number: what comes back from a lost pool is next, so the oldest batch finishes first.
        self.queue: asyncio.PriorityQueue[tuple[int, B]] = asyncio.PriorityQueue()
        self._targets = targets
        self._dim = dim
        self._on_answer = on_answer
        self._postponed: dict[int, int] = {}
        self._budget = ByteBudget(flow.bytes_in_flight)

    async def put(self, batch: B) -> None:
        """Takes a batch, waiting while too many bytes are in flight."""
        await self._budget.take(batch.bytes)
        self.queue.put_nowait((batch.number, batch))

    async def run(self) -> None:
        """Works until it is cancelled.

        Raises:
            GaveUpError: Every pool was away for too long.
            PoolError: One refused for good.
            ModelMismatchError: A pool serves another model.
        """
        lost: list[AwayError] = []
        await race(*(self._serve(target, lost) for target in self._targets))

    async def _serve(self, target: str, lost: list[AwayError]) -> None:
        """Works with one pool; when it is given up waits for the others, or raises if it was the last."""
        lost.append(await self._work_until_lost(target))
        if len(lost) == len(self._targets):
            raise GaveUpError(self.flow.retry_seconds, "; ".join(map(str, lost)))
        self.log(f"{target} is given up; the other workers go on")
        await forever()

    async def _work_until_lost(self, target: str) -> AwayError:
        """Works with one pool until it has been away for too long; returns how it was away at last."""
        outage = Outage(self.flow.retry_seconds)
        clock = asyncio.get_running_loop().time
        while True:
            try:
                await _Connection(self, target, outage).run()
            except AwayError as error:
                if not outage.lasts:
                    self.log(f"{error}; trying again for up to {self.flow.retry_seconds:g} s")
                jitter = random.random()  # noqa: S311 - spreads load, keeps no secret
                delay = outage.next_delay(clock(), error.retry_after, jitter)
                if delay is None:
                    return error
                await asyncio.sleep(delay)

    async def take_answer(self, target: str, batch: B, answer: Answer) -> None:
        """Hands an answer on.

        Raises:
            AwayError: The pool wants part of the batch again later; the batch is still owed.
            PoolError: The answer does not fit the batch or the model.
        """
        self.check_model(target, answer.fingerprint)
        if answer.postponed:
            times = self._postponed.get(batch.number, 0) + 1
            self._postponed[batch.number] = times
            if times < _POSTPONED_TIMES:
                raise AwayError(f"worker {target} postponed a text: {answer.postponed}")
        self._postponed.pop(batch.number, None)
        answered = answer.good.size + len(answer.failures)
        if answered != len(batch.texts):
            raise PoolError(f"worker {target} answered {answered} texts of a batch of {len(batch.texts)}")
        if answer.good.size and answer.vectors.shape[1] != self._dim:
            raise PoolError(
                f"worker {target} sent vectors of {answer.vectors.shape[1]} values, wanted {self._dim}"
            )
        self._on_answer(batch, answer)
        await self._budget.give(batch.bytes)


class _Connection(Generic[B]):
    """One stream to one pool and what is in flight on it."""

    def __init__(self, dispatcher: Dispatcher[B], target: str, outage: Outage) -> None:
        self._dispatcher = dispatcher
        self._target = target
        self._outage = outage
        self._stream = DocumentStream(target, dispatcher.access, dispatcher.options)
        self._in_flight: dict[int, B] = {}
        self._bytes = 0
        self._answered = False
        self._room = asyncio.Event()
        self._last_word = 0.0  # when the pool last answered, or got its first batch, on the loop's clock

    async def run(self) -> None:
        """Works until the connection breaks; raises AwayError or PoolError, never returns."""
        flow = self._dispatcher.flow
        try:
            pool = await self._stream.open(_REFUSAL_SECONDS if self._outage.lasts else 0.0)
            self._dispatcher.check_model(self._target, pool.model.fingerprint)
            window = 2 * max(1, pool.processes) + _SPARE_BATCHES
            size = min(flow.stream_bytes_in_flight, pool.max_stream_bytes)
            await race(self._send(window, size), self._receive(), self._watch(flow.answer_seconds))
        finally:
            for batch in self._in_flight.values():
                self._dispatcher.queue.put_nowait((batch.number, batch))
            await self._stream.close()

    async def _send(self, window: int, size: int) -> None:
        while True:
            # The last batch may go beyond `size`, or a text larger than it could never be sent.
            # One batch alone until it is answered: if the pool refuses it, no other write hides the reason.
            while len(self._in_flight) >= (window if self._answered else 1) or self._bytes >= size:
                self._room.clear()
                await self._room.wait()
            _, batch = await self._dispatcher.queue.get()
            if not self._in_flight:
                self._last_word = asyncio.get_running_loop().time()
            self._in_flight[batch.number] = batch
            self._bytes += batch.bytes
            try:
                await self._stream.send(batch.number, batch.texts)
            except AwayError:
                # `_receive` learns why and tells it.
                await forever()

    async def _receive(self) -> None:
        while True:
            answer = await self._stream.receive()
            self._last_word = asyncio.get_running_loop().time()
            batch = self._in_flight.get(answer.number)
            if batch is None:
                raise PoolError(
                    f"worker {self._target} answered batch {answer.number}, which it was not sent"
                )
            await self._dispatcher.take_answer(self._target, batch, answer)
            del self._in_flight[answer.number]
            self._bytes -= batch.bytes
            self._answered = True
            self._room.set()
            if self._outage.end():
                self._dispatcher.log(f"worker {self._target} is back")

    async def _watch(self, answer_seconds: float) -> None:
        """Raises AwayError when the pool owes answers and is silent for too long."""
        clock = asyncio.get_running_loop().time
        while True:
            silence = clock() - self._last_word if self._in_flight else 0.0
            if silence >= answer_seconds:
                raise AwayError(f"worker {self._target} owes answers and was silent for {answer_seconds:g} s")
            await asyncio.sleep(max(0.1, answer_seconds - silence))
