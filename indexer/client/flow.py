"""How much may be under way, and how long a pool may be away. No I/O; time is an argument."""

import asyncio
import contextlib
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

E = TypeVar("E", bound=BaseException)

_FIRST_DELAY_SECONDS = 0.2  # after the first failure; doubles with each further one
_LAST_DELAY_SECONDS = 5.0  # a pool that came back waits no longer than this


class ByteBudget:
    """Bytes that may be held at once; one larger piece passes when nothing else is held."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0
        self._changed = asyncio.Condition()

    async def take(self, size: int) -> None:
        """Waits until `size` bytes fit."""
        async with self._changed:
            await self._changed.wait_for(lambda: not self._held or self._held + size <= self._limit)
            self._held += size

    async def give(self, size: int) -> None:
        """Gives bytes back."""
        async with self._changed:
            self._held -= size
            self._changed.notify_all()


class News:
    """Wakes all who wait when there is something new; they look for themselves what it is."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def tell(self) -> None:
        """Wakes all who wait now."""
        self._event.set()
        self._event = asyncio.Event()

    async def wait(self, seconds: float | None = None) -> None:
        """Returns at the next news, or after so many seconds."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._event.wait(), seconds)


@dataclass
class Outage:
    """How long a pool has been away, and how long to wait before the next attempt.

    Attributes:
        limit_seconds: How long is too long.
    """

    limit_seconds: float
    _since: float | None = field(default=None, init=False)
    _failures: int = field(default=0, init=False)

    @property
    def lasts(self) -> bool:
        """Whether the pool has not answered since it failed."""
        return self._since is not None

    def end(self) -> bool:
        """Notes that the pool answered; returns whether it was away."""
        lasted = self.lasts
        self._since, self._failures = None, 0
        return lasted

    def next_delay(self, now: float, retry_after: float, jitter: float) -> float | None:
        """Returns seconds to wait after a failure at time `now`, None when the pool has been away too long.

        Args:
            now: Seconds on any steady clock.
            retry_after: Least wait that the pool asked for.
            jitter: A random number in [0, 1): clients that lost one pool together come back apart.
        """
        self._since = now if self._since is None else self._since
        backoff = min(_LAST_DELAY_SECONDS, _FIRST_DELAY_SECONDS * 2**self._failures)
        self._failures = min(self._failures + 1, 30)
        delay = max(retry_after, backoff * (0.5 + 0.5 * jitter))
        return None if now + delay - self._since > self.limit_seconds else delay


async def race(*coroutines: Coroutine[object, object, None]) -> None:
    """Runs coroutines side by side until the first ends, cancels the others and waits for them.

    Raises what the first to fail raised.
    """
    tasks: list[asyncio.Task[Any]] = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    done: set[asyncio.Task[Any]] = set()
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        while done:
            done.pop().result()
    finally:
        await _end(tasks)
        # What is raised here holds this frame, which must not hold the tasks that hold it: such a cycle would
        # keep connections open until Python looks for cycles.
        del tasks, done


async def _end(tasks: Sequence[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def forever() -> None:
    """Waits until it is cancelled: for a part of a race that has nothing left to do."""
    await asyncio.get_running_loop().create_future()


def bare(error: E) -> E:
    """Returns an error that is kept for later, without its frames, which would hold connections open."""
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)
