"""Which queries are let in while others wait.

Pure: no clock, no I/O; how fast the pool is comes from the runs that it was told of. Bulk work has no part
in the bytes and is never let in or refused here: flow control slows it down.

Guarantees: the bytes of all queries in flight stay below their limit, but for a query that is alone; who
would wait longer than the limit is refused at once, with the time after which trying again makes sense. The
wait is an
estimate: tokens that go before over the pool's measured tokens per second, less what bulk work may claim.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import exp

from worker.errors import OverloadError

# Seconds of computing after which an old measurement of the speed counts for a third; arbitrary: some hundred
# runs, so that one odd run changes little and another kind of texts shows soon.
_SPEED_SECONDS = 5.0
# Shortest time that a refused caller is told to wait, in seconds; arbitrary, above a round trip.
_SHORTEST_RETRY = 0.05
# UTF-8 bytes of a token in prose; what a text costs is estimated before it is tokenized.
_BYTES_PER_TOKEN = 4


@dataclass(frozen=True)
class Waiting:
    """What is ahead of a query that comes now.

    Attributes:
        query_tokens: Tokens of queries that wait for a process.
        bulk: Whether bulk work waits.
    """

    query_tokens: int
    bulk: bool


class Speed:
    """Tokens that one process computes in a second: a moving mean over the time of the runs."""

    def __init__(self) -> None:
        self._tokens = 0.0
        self._seconds = 0.0

    def measured(self, tokens: int, seconds: float) -> None:
        """Takes note of runs."""
        kept = exp(-seconds / _SPEED_SECONDS)
        self._tokens = self._tokens * kept + tokens
        self._seconds = self._seconds * kept + seconds

    @property
    def tokens_per_second(self) -> float | None:
        """The mean, or None while nothing was measured."""
        return self._tokens / self._seconds if self._seconds > 0 else None


class Admission:
    """Lets queries in, and counts what they hold.

    Args:
        max_bytes: Bytes that all queries together may hold.
        max_wait_seconds: Longest wait for a process that a query may be expected to have.
        processes: Compute processes.
        bulk_share: Share of the tokens that waiting bulk work may claim.
        of: What those are called that it counts.

    Attributes:
        of: The same.
        bytes: What the queries in flight hold.
    """

    def __init__(
        self,
        max_bytes: int,
        max_wait_seconds: float,
        processes: int,
        bulk_share: float,
        of: str = "queries",
    ) -> None:
        self.of = of
        self._max_bytes = max_bytes
        self._max_wait = max_wait_seconds
        self._processes = processes
        self._bulk_share = bulk_share
        self._speed = Speed()
        self._queries = 0
        self._tokens_on_the_way = 0  # of queries that are let in and not queued yet; estimated
        self.bytes = 0

    def measured(self, tokens: int, seconds: float) -> None:
        """Takes note of how long runs took, of either class."""
        self._speed.measured(tokens, seconds)

    def expected_wait(self, waiting: Waiting, own_tokens: int, longest_run: int) -> float:
        """Returns the seconds that a query would wait for a process; 0 while the speed is not known.

        Queries share fairly: each other one goes ahead with as many tokens as this one has, and a run, at
        most.
        """
        speed = self._speed.tokens_per_second
        if not speed:
            return 0.0
        ahead = waiting.query_tokens + self._tokens_on_the_way
        ahead = min(ahead, self._queries * (own_tokens + longest_run))
        share = 1 - self._bulk_share if waiting.bulk else 1.0
        return ahead / (speed * self._processes * share)

    @contextmanager
    def admitted(
        self, text_bytes: int, cost: int, waiting: Waiting, longest_run: int
    ) -> Iterator["Admitted"]:
        """Lets a query in for as long as the context lasts.

        Args:
            text_bytes: UTF-8 bytes of its texts.
            cost: Bytes that it holds here.
            waiting: What is ahead of it.
            longest_run: Tokens of the longest run there can be.

        Raises:
            OverloadError: Too many bytes are in flight, or it would wait too long.
        """
        tokens = text_bytes // _BYTES_PER_TOKEN
        wait = self.expected_wait(waiting, tokens, longest_run)
        if wait > self._max_wait:
            raise OverloadError(
                f"queries wait about {wait:.1f} s for a process, the limit max_query_wait_seconds is "
                f"{self._max_wait:g}; try again later or on another server",
                self._retry_after(wait),
            )
        query = Admitted(self, tokens)
        query.hold(cost, wait)
        self._queries += 1
        self._tokens_on_the_way += tokens
        try:
            yield query
        finally:
            query.queued()
            self._queries -= 1
            self.bytes -= query.cost

    def _retry_after(self, wait: float) -> float:
        """Returns the seconds by which the wait is expected to be half of the longest one allowed."""
        return max(wait - self._max_wait / 2, wait / 2, _SHORTEST_RETRY)


class Admitted:
    """A query that was let in.

    Attributes:
        cost: Bytes that it holds.
    """

    def __init__(self, admission: Admission, tokens: int) -> None:
        self._admission = admission
        self._tokens = tokens
        self.cost = 0

    def hold(self, cost: int, expected_wait: float = 0.0) -> None:
        """Takes more bytes.

        Raises:
            OverloadError: With those of other queries they are too many.
        """
        admission = self._admission
        others = admission.bytes - self.cost
        # A query that meets no other may be of any size that passed its own limits.
        if others and admission.bytes + cost > admission._max_bytes:  # noqa: SLF001  one thing in two classes
            raise OverloadError(
                f"{admission.of} in flight hold {admission.bytes} bytes, this one needs {cost} more, the "
                f"limit max_query_bytes_in_flight is {admission._max_bytes}; try again",  # noqa: SLF001
                admission._retry_after(expected_wait),  # noqa: SLF001
            )
        self.cost += cost
        admission.bytes += cost

    def queued(self) -> None:
        """Notes that its texts wait for a process now, where the scheduler counts them."""
        self._admission._tokens_on_the_way -= self._tokens  # noqa: SLF001
        self._tokens = 0
