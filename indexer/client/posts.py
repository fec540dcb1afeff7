"""One pool during bulk work: a stream after another, for as long as the pool is a member.

Assumes: one asyncio loop.
"""

import asyncio
import random
from collections.abc import Sequence
from typing import Any, Generic, Protocol

from indexer.client.bulk_stream import B, BulkStream, Desk
from indexer.client.directory import Directory
from indexer.client.flow import Outage, bare
from indexer.client.naming import Endpoint
from indexer.errors import AwayError, PoolError

# Between attempts at a pool that was given up or refuses, while others go on: it may be put right, or be
# replaced by one that fits. Arbitrary; an attempt costs one connection.
_ASIDE_SECONDS = 30.0


class Employer(Desk[B], Protocol[B]):
    """Whom a pool works for."""

    def refused(self, post: "Post[B]", error: PoolError) -> None:
        """Notes that a pool refuses; raises where every other one would refuse the same."""
        ...

    def lost(self, post: "Post[B]", error: AwayError) -> None:
        """Notes that a pool was away for too long."""
        ...


class Post(Generic[B]):
    """One pool and the task that works with it.

    Attributes:
        endpoint: The pool.
        out: Why nothing is hoped of it for now; None while it works or is only away for a moment.
        task: Ends when the pool has left.
    """

    def __init__(self, dispatcher: Employer[B], endpoint: Endpoint, directory: Directory) -> None:
        self.endpoint = endpoint
        self.out: PoolError | None = None
        self._dispatcher, self._directory = dispatcher, directory
        self._leaving = asyncio.Event()
        self._stream: BulkStream[B] | None = None
        self.task = asyncio.create_task(self._work())
        self.task.add_done_callback(self._ended)

    def leave(self) -> None:
        """Has the task end when the pool owes nothing."""
        self._leaving.set()
        if self._stream is None or self._stream.idle:
            self.task.cancel()

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._directory.news.tell()

    async def _work(self) -> None:
        dispatcher, outage = self._dispatcher, Outage(self._dispatcher.flow.retry_seconds)
        while True:
            self._stream = BulkStream(dispatcher, self.endpoint, outage, self._leaving)
            error = await self._until_it_breaks(self._stream)
            self._stream = None
            if self._leaving.is_set():
                return
            if isinstance(error, AwayError):
                delay = self._delay(outage, error)
            else:
                dispatcher.refused(self, error)
                delay = _ASIDE_SECONDS
            self._directory.hurry()
            self._directory.news.tell()
            await asyncio.sleep(delay)

    async def _until_it_breaks(self, stream: BulkStream[B]) -> PoolError:
        try:
            await stream.run()
        except PoolError as error:
            return bare(error)
        return AwayError(f"worker {self.endpoint.address} has left")

    def _delay(self, outage: Outage, error: AwayError) -> float:
        """Returns seconds until the next attempt at a pool that is away."""
        dispatcher = self._dispatcher
        if not outage.lasts:
            dispatcher.log(f"{error}; trying again for up to {dispatcher.flow.retry_seconds:g} s")
        jitter = random.random()  # noqa: S311 - spreads load, keeps no secret
        delay = outage.next_delay(asyncio.get_running_loop().time(), error.retry_after, jitter)
        if delay is None:
            dispatcher.lost(self, error)
            return _ASIDE_SECONDS
        return delay


async def end(posts: Sequence[Post[Any]]) -> None:
    """Ends the tasks of posts and waits for that.

    Their tracebacks hold the posts, which must not hold the tasks: such a cycle would keep connections open
    until Python looks for cycles.
    """
    tasks = [post.task for post in posts]
    for post in posts:
        post.task.cancel()
        del post.task
    await asyncio.gather(*tasks, return_exceptions=True)
