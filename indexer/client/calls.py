"""One call over many pools: tried, tried again elsewhere, and hedged where it takes too long.

A query that is late is sent to a second pool too; the first answer wins, the other call is cancelled, and the
late pool is probed before it gets another. So a pool that is cut off costs one caller a short wait.
Guarantees: retries and second requests stay within budgets that calls earn; no call outlives its caller.
Assumes: one asyncio loop.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from indexer.client.channel import Connection, new_request_id
from indexer.client.hedging import Latencies
from indexer.client.members import Members
from indexer.client.retry import RetryBudget, full_jitter
from indexer.client.settings import HedgeConfig, RetryConfig
from indexer.client.status import CALL, Meaning, Status
from indexer.errors import AwayError, ModelMismatchError

T = TypeVar("T")
Ask = Callable[[Connection, float, str], Awaitable[T]]  # pool, seconds, request id


@dataclass(frozen=True)
class Call(Generic[T]):
    """One call.

    Attributes:
        ask: Asks one pool.
        deadline: Time of the loop's clock at which it is over.
        request_id: Its id, the same for all pools.
        size: Characters of its texts.
    """

    ask: Ask[T]
    deadline: float
    request_id: str
    size: int


class Caller:
    """Makes calls; must be made inside a running loop.

    Args:
        members: The pools.
        retry: How long and how often a call is tried.
        hedge: When a second pool is asked.
    """

    def __init__(self, members: Members, retry: RetryConfig, hedge: HedgeConfig) -> None:
        now = asyncio.get_running_loop().time()
        self._members, self._retry, self._hedge = members, retry, hedge
        self._retries = RetryBudget(retry, now)
        self._seconds = RetryBudget(
            RetryConfig(budget_ratio=hedge.ratio, budget_per_second=0.0, budget_reserve=hedge.reserve), now
        )
        self._latencies = Latencies(hedge)

    async def call(self, ask: Ask[T], timeout: float, request_id: str = "", size: int = 0) -> T:
        """Asks one pool after the other until one answers, within one deadline and the retry budget.

        Args:
            ask: Asks one pool; called several times, also at the same time.
            timeout: Seconds for all of it.
            request_id: `x-request-id` of the call; "" for a new one.
            size: Characters of its texts; 0 for a call without, which is not hedged.

        Raises:
            AwayError: No pool answered in time.
            PoolError: A pool refused.
        """
        clock = asyncio.get_running_loop().time
        call = Call(ask, clock() + timeout, request_id or new_request_id(), size)
        tried: list[str] = []
        self._retries.earn(clock())
        self._seconds.earn(clock())
        while True:
            connection = await self._members.pick(call.deadline, tried)
            try:
                return await self._ask(call, connection, tried)
            except AwayError as error:
                pause = self._pause(error, tried)
                if clock() + pause >= call.deadline:
                    raise
                if not self._retries.take(clock()):
                    raise AwayError(
                        f"{error}; not tried again: too many calls of this client fail",
                        error.retry_after,
                        error.code,
                        call.request_id,
                    ) from error
            await asyncio.sleep(pause)

    async def _ask(self, call: Call[T], connection: Connection, tried: list[str]) -> T:
        """Asks a pool, and another one as well if it is late; those that fail are `tried`."""
        attempts = [_Attempt(self._members, self._retry, call, connection)]
        try:
            if call.size and self._hedge.factor:
                await asyncio.wait({attempts[0].task}, timeout=self._latencies.delay(call.size))
                if not attempts[0].task.done() and (other := self._second([*tried, connection.target])):
                    attempts.append(_Attempt(self._members, self._retry, call, other))
            return await self._first_of(call, attempts, tried)
        finally:
            await _end(attempts)

    def _second(self, avoid: Sequence[str]) -> Connection | None:
        other = self._members.another(avoid)
        affordable = other is not None and self._seconds.take(asyncio.get_running_loop().time())
        return other if affordable else None

    async def _first_of(self, call: Call[T], attempts: "list[_Attempt[T]]", tried: list[str]) -> T:
        """Returns the first answer; raises what the last of the attempts raised where none answers."""
        left = list(attempts)
        while True:
            await asyncio.wait({attempt.task for attempt in left}, return_when=asyncio.FIRST_COMPLETED)
            attempt = next(one for one in left if one.task.done())
            left.remove(attempt)
            try:
                answer = attempt.task.result()
            except AwayError:
                tried.append(attempt.target)
                if not left:
                    raise
                continue
            self._latencies.note(call.size, attempt.lasted)
            for late in left:
                if late.began < attempt.began:
                    self._members.suspect(late.target)
            return answer

    def _pause(self, error: AwayError, tried: Sequence[str]) -> float:
        """Returns seconds to wait before the next attempt: none while there is a pool not tried yet."""
        if self._members.another(tried) is not None:
            return 0.0
        jitter = random.random()  # noqa: S311 - spreads load, keeps no secret
        rounds = 1 + len(tried) // max(1, len(self._members.balancer.members))
        return error.retry_after + full_jitter(self._retry, rounds, jitter)


class _Attempt(Generic[T]):
    """One pool being asked, in a task of its own, and what its answer says about it."""

    def __init__(self, members: Members, retry: RetryConfig, call: Call[T], connection: Connection) -> None:
        clock = asyncio.get_running_loop().time
        self._members, self._connection, self._call = members, connection, call
        self.target = connection.target
        self.began, self.lasted = clock(), 0.0
        self._seconds = min(max(0.001, call.deadline - self.began), retry.attempt)
        self._patient = self._seconds >= retry.attempt
        # Here and not in the task, which begins later: until then the pool might leave.
        members.balancer.began(self.target)
        connection.hold()
        self.task: asyncio.Task[T] = asyncio.create_task(self._run())
        self.task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[T]") -> None:
        self._members.balancer.ended(self.target)
        self._connection.release()

    async def _run(self) -> T:
        clock = asyncio.get_running_loop().time
        try:
            answer = await self._call.ask(self._connection, self._seconds, self._call.request_id)
        except AwayError as error:
            self._judge(error, clock())
            raise
        except ModelMismatchError as error:
            # It took another model over since it was asked; the others may still serve the right one.
            away = AwayError(str(error), code=Status.FAILED_PRECONDITION)
            self._members.failed(self.target, away)
            raise away from error
        self._members.balancer.answered(self.target)
        self.lasted = clock() - self.began
        return answer

    def _judge(self, error: AwayError, now: float) -> None:
        if CALL.get(Status(error.code)) is Meaning.BUSY:
            self._members.balancer.busy(self.target, now, error.retry_after)
        elif error.code != Status.DEADLINE_EXCEEDED or self._patient:
            self._members.failed(self.target, error)
        else:
            # A caller with little time says little about the pool: nothing is lost by asking it.
            self._members.suspect(self.target)


async def _end(attempts: "Sequence[_Attempt[Any]]") -> None:
    """Ends the tasks of attempts and waits for that.

    Their tracebacks hold the attempts, which must not hold the tasks: nothing of a call that is over shall
    wait for Python to look for cycles.
    """
    tasks = [attempt.task for attempt in attempts]
    for attempt in attempts:
        attempt.task.cancel()
        del attempt.task
    await asyncio.gather(*tasks, return_exceptions=True)
