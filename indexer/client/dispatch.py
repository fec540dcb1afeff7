"""Brings batches to pools and answers back, through outages, with each batch in one place at a time.

Guarantees: a batch is in the queue, in flight to exactly one pool, or answered; when a pool goes away, what
it owes goes back to the queue and from there to whichever pool is there; every batch is answered once. A pool
that joins gets work, one that leaves ends what it took. One that was away for too long or refuses is asked
again from time to time while others go on; the work ends when none is left.
Assumes: one asyncio loop; `on_answer` does not block.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Generic

from indexer.client.answers import Answer, Pool
from indexer.client.bulk_stream import B
from indexer.client.directory import Directory
from indexer.client.flow import ByteBudget, race
from indexer.client.membership import changes
from indexer.client.posts import Post, end
from indexer.client.settings import Access, Options
from indexer.client.status import Status
from indexer.config import FlowConfig
from indexer.errors import AwayError, GaveUpError, PoolError

_POSTPONED_TIMES = 5  # a text that a live pool postpones this often counts as refused; arbitrary


class Dispatcher(Generic[B]):
    """Keeps every pool busy with batches from one queue.

    Args:
        directory: Which pools there are.
        access: What opens them.
        accept: Raises PoolError where a pool at an address, as it describes itself, may not take part.
        dim: Values of each vector.
        options: How to embed.
        flow: Windows and patience.
        on_answer: Called in the loop with each batch and its answer.
        log: Takes a line for people when a pool goes or comes back.
    """

    def __init__(
        self,
        directory: Directory,
        access: Access,
        accept: Callable[[str, Pool], None],
        dim: int,
        options: Options,
        flow: FlowConfig,
        on_answer: Callable[[B, Answer], None],
        log: Callable[[str], None],
    ) -> None:
        self.access = access
        self.options = options
        self.flow = flow
        self.log = log
        # Ordered by number: what comes back from a lost pool is next, so the oldest batch finishes first.
        self.queue: asyncio.PriorityQueue[tuple[int, B]] = asyncio.PriorityQueue()
        self._directory = directory
        self._accept = accept
        self._dim = dim
        self._on_answer = on_answer
        self._posts: dict[str, Post[B]] = {}
        self._answered = False
        self._postponed: dict[int, int] = {}
        self._budget = ByteBudget(flow.bytes_in_flight)

    async def put(self, batch: B) -> None:
        """Takes a batch, waiting while too many bytes are in flight."""
        await self._budget.take(batch.bytes)
        self.queue.put_nowait((batch.number, batch))

    async def run(self) -> None:
        """Works until it is cancelled.

        Raises:
            GaveUpError: Every pool was away for too long, or there was none.
            PoolError: Every one refused for good; ModelMismatchError where that is because of the model.
        """
        await race(self._directory.watch(), self._work())

    async def _work(self) -> None:
        leaving: list[Post[B]] = []  # they get no more batches and end their last
        alone_since: float | None = None
        try:
            while True:
                leaving += self._take_changes()
                for post in self._posts.values():
                    if post.task.done():
                        post.task.result()  # raises: it does not end by itself
                gone = [post for post in leaving if post.task.done()]
                leaving = [post for post in leaving if post not in gone]
                await end(gone)
                alone_since = self._check_not_alone(alone_since)
                await self._directory.news.wait(None if alone_since is None else 1.0)
        finally:
            await end([*self._posts.values(), *leaving])

    def _take_changes(self) -> "list[Post[B]]":
        """Begins to work with who joined; returns those who left."""
        wanted = self._directory.endpoints
        found = changes(self._posts, wanted)
        for target in found.joins:
            self._posts[target] = Post(self, wanted[target], self._directory)
        left = [self._posts.pop(target) for target in found.leaves]
        for post in left:
            post.leave()
        return left

    def _check_not_alone(self, since: float | None) -> float | None:
        """Returns since when there has been no pool at all; raises when none is left to hope for."""
        reasons = [post.out for post in self._posts.values() if post.out is not None]
        if self._posts:
            if len(reasons) == len(self._posts):
                refusals = [one for one in reasons if not isinstance(one, AwayError)]
                if len(refusals) == len(reasons):
                    raise refusals[0]
                raise GaveUpError(self.flow.retry_seconds, "; ".join(map(str, reasons)))
            return None
        now = asyncio.get_running_loop().time()
        if since is not None and now - since >= self.flow.retry_seconds:
            told = [f"{name}: {why}" for name, why in self._directory.errors.items()]
            raise GaveUpError(self.flow.retry_seconds, "; ".join(told) or "no pool is there")
        return now if since is None else since

    def accepted(self, target: str, pool: Pool) -> None:
        """Takes what a pool says of itself; raises PoolError where it may not take part."""
        self._accept(target, pool)
        if target in self._posts:
            self._posts[target].out = None

    def refused(self, post: "Post[B]", error: PoolError) -> None:
        """Notes that a pool refuses; raises where every other one would refuse the same.

        Raises:
            PoolError: The request itself is wrong, and nothing was ever answered.
        """
        if not self._answered and error.code == Status.INVALID_ARGUMENT:
            raise error
        if post.out is None and len(self._directory.endpoints) > 1:
            self.log(f"{error}; it is set aside, the other workers go on")
        post.out = error

    def lost(self, post: "Post[B]", error: AwayError) -> None:
        """Notes that a pool was away for too long."""
        if post.out is None and len(self._directory.endpoints) > 1:
            self.log(f"{post.endpoint.address} is given up; the other workers go on")
        post.out = error

    async def take_answer(self, target: str, pool: Pool, batch: B, answer: Answer) -> None:
        """Hands an answer on.

        Raises:
            AwayError: The pool wants part of the batch again later; the batch is still owed.
            PoolError: The answer does not fit the batch or the model.
        """
        if answer.fingerprint != pool.fingerprint:
            self._accept(target, replace(pool, model=replace(pool.model, fingerprint=answer.fingerprint)))
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
        self._answered = True
        self._on_answer(batch, answer)
        await self._budget.give(batch.bytes)
