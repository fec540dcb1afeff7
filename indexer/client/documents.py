"""One call of `embed_documents`: texts in, outcomes out in the same order, few of them held at once."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from indexer.client.answers import NO_LIMIT, Answer, Document, Pool
from indexer.client.cutting import CutRule, TextBatch, outcomes
from indexer.client.dispatch import Dispatcher
from indexer.client.members import Members
from indexer.client.settings import Options
from indexer.client.status import Status
from indexer.config import FlowConfig
from indexer.errors import AwayError, ModelMismatchError


class DocumentJob:
    """Batches under way for one call, and their answers in order.

    Guarantees: what is held (texts, vectors, bookkeeping) is at most `flow.bytes_in_flight` and one batch.
    Assumes: one asyncio loop; one caller that submits while there is `room`, and takes.

    Args:
        members: The pools.
        pool: One of them, as it described itself.
        options: How to embed.
        flow: Windows and patience.
        log: Takes a line for people when a pool goes or comes back.
    """

    def __init__(
        self, members: Members, pool: Pool, options: Options, flow: FlowConfig, log: Callable[[str], None]
    ) -> None:
        pools = members.pools
        self.rule = CutRule.of([pool, *pools.values()], flow)
        self._limit = flow.bytes_in_flight
        self._held = 0
        self._line: deque[tuple[TextBatch, asyncio.Future[Answer | None]]] = deque()
        self._answers: dict[int, asyncio.Future[Answer | None]] = {}
        self._model = pool.fingerprint
        self._dispatcher: Dispatcher[TextBatch] = Dispatcher(
            # Also those that are away now: they may be back, and others join, before the end.
            directory=members.directory,
            access=members.access,
            accept=self._accept,
            dim=options.dimensions or pool.dim,
            options=options,
            flow=replace(flow, bytes_in_flight=NO_LIMIT),  # held back here, until the answers are taken
            on_answer=self._on_answer,
            log=log,
        )
        self._runner = asyncio.create_task(self._dispatcher.run())

    @property
    def room(self) -> bool:
        """Whether another batch may be submitted."""
        return self._held < self._limit

    @property
    def pending(self) -> bool:
        """Whether a submitted batch has not been taken."""
        return bool(self._line)

    @property
    def ready(self) -> bool:
        """Whether `take` returns at once."""
        return bool(self._line) and self._line[0][1].done()

    async def submit(self, batch: TextBatch) -> None:
        """Sends a batch, as soon as a pool takes it; it never waits."""
        answer: asyncio.Future[Answer | None] = asyncio.get_running_loop().create_future()
        self._line.append((batch, answer))
        self._held += batch.bytes
        if batch.texts:
            self._answers[batch.number] = answer
            await self._dispatcher.put(batch)
        else:
            answer.set_result(None)

    async def take(self, deadline: float | None) -> list[Document]:
        """Returns what became of the oldest batch, waiting for it.

        Raises:
            PoolError: The pools were away for too long, refused for good or serve another model.
            AwayError: The deadline, on the loop's clock, passed (DEADLINE_EXCEEDED).
        """
        batch, answer = self._line[0]
        left = None if deadline is None else max(0.0, deadline - asyncio.get_running_loop().time())
        waiting: set[asyncio.Future[Any]] = {answer, self._runner}
        await asyncio.wait(waiting, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            if self._runner.done():
                self._runner.result()  # raises: it does not end by itself
            raise AwayError(
                f"document {batch.first} has no answer and the time is up; give more, or none",
                code=Status.DEADLINE_EXCEEDED,
            )
        self._line.popleft()
        self._held -= batch.bytes
        return outcomes(batch, answer.result())

    async def close(self) -> None:
        """Ends the streams; what is not answered never will be."""
        self._runner.cancel()
        await asyncio.gather(self._runner, return_exceptions=True)
        del self._runner, self._dispatcher  # as in `race`: they would hold each other, and connections

    def _accept(self, target: str, pool: Pool) -> None:
        """Raises PoolError for a pool that cannot take part: one result never mixes models."""
        if pool.fingerprint != self._model:
            raise ModelMismatchError(
                f"worker {target} serves model {pool.fingerprint[:12]}, the documents before have vectors of "
                f"model {self._model[:12]}: one result never mixes them; use pools of one model"
            )
        self.rule.check(target, pool)

    def _on_answer(self, batch: TextBatch, answer: Answer) -> None:
        self._answers.pop(batch.number).set_result(answer)
