"""Which pool gets the next call. Pure: no I/O, no clock; time and random draws are arguments.

Two pools are drawn by chance and the one with fewer calls in flight is taken ("the power of two choices",
M. Mitzenmacher, 2001): near the balance of asking all of them, and no herd runs to the same one.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum

from indexer.client.retry import full_jitter
from indexer.client.settings import RetryConfig


class State(Enum):
    """Where a pool stands."""

    NEW = "not asked yet"
    PROBING = "being asked whether it serves"
    UP = "takes calls"
    ASIDE = "failed; is asked again when its time has come"
    LEFT = "is no member any more; its calls end, and no other begins"


@dataclass
class Standing:
    """What is known of one pool.

    Attributes:
        state: Where it stands.
        in_flight: Calls sent and not answered.
        failures: Failures since its last answer to a call.
        due: Time before which it is left alone, on the caller's clock.
    """

    state: State = State.NEW
    in_flight: int = 0
    failures: int = 0
    due: float = 0.0


class Balancer:
    """Spreads calls over pools and leaves those alone that fail.

    Guarantees: a pool that is aside gets no call before a probe of it succeeded, and no probe before its
    delay is over; its delay grows with each failure until it answers a call. One that joins is probed before
    its first call; one that left gets neither calls nor probes, and is known until its calls are over.

    Args:
        targets: Addresses, each once, of those who are there at the start.
        retry: Delays of a pool that fails.

    Attributes:
        standings: What is known of each pool, those that left and still have calls included.
    """

    def __init__(self, targets: Sequence[str], retry: RetryConfig) -> None:
        self._retry = retry
        self.standings = {target: Standing() for target in targets}

    @property
    def members(self) -> list[str]:
        """The pools that have not left."""
        return [target for target, one in self.standings.items() if one.state is not State.LEFT]

    def join(self, target: str) -> None:
        """Takes a pool in, also one that left before; it has to be probed."""
        one = self.standings.setdefault(target, Standing())
        if one.state is State.LEFT:
            one.state, one.due = State.NEW, 0.0

    def leave(self, target: str) -> None:
        """Lets a pool go: it is forgotten when its calls are over."""
        self.standings[target].state = State.LEFT
        self._forget(target)

    def _forget(self, target: str) -> None:
        one = self.standings[target]
        if one.state is State.LEFT and not one.in_flight:
            del self.standings[target]

    def choose(self, now: float, first: float, second: float, avoid: Collection[str] = ()) -> str | None:
        """Returns a pool that takes a call now, one that is not to be avoided if there is; None for none.

        Args:
            now: Time.
            first: A random number in [0, 1).
            second: Another one.
            avoid: Pools that failed this very call.
        """
        ready = [t for t, one in self.standings.items() if one.state is State.UP and one.due <= now]
        fresh = [target for target in ready if target not in avoid] or ready
        if not fresh:
            return None
        one = fresh.pop(int(first * len(fresh)))
        other = fresh[int(second * len(fresh))] if fresh else one
        return min(one, other, key=lambda target: self.standings[target].in_flight)

    def to_probe(self, now: float) -> list[str]:
        """Returns the pools to ask whether they serve; each counts as being asked from now on."""
        found = [
            target
            for target, one in self.standings.items()
            if one.state in (State.NEW, State.ASIDE) and one.due <= now
        ]
        for target in found:
            self.standings[target].state = State.PROBING
        return found

    def next_due(self) -> float | None:
        """Returns the earliest time at which a pool that is left alone may be asked; None without one."""
        waiting = (one.due for one in self.standings.values() if one.state in (State.ASIDE, State.UP))
        return min(waiting, default=None)

    def began(self, target: str) -> None:
        """Notes a call that was sent."""
        self.standings[target].in_flight += 1

    def ended(self, target: str) -> None:
        """Notes that a call is over, however it ended."""
        self.standings[target].in_flight -= 1
        self._forget(target)

    def up(self, target: str) -> None:
        """Notes that a probe succeeded; what it owes for its failures stays until it answers a call."""
        one = self.standings.get(target)
        if one is not None and one.state is State.PROBING:
            one.state = State.UP

    def answered(self, target: str) -> None:
        """Notes an answer to a call."""
        self.standings[target].failures = 0

    def aside(self, target: str, now: float, retry_after: float, draw: float) -> None:
        """Sets a pool aside after a failure of a call or a probe.

        Calls in flight that fail together count once.

        Args:
            target: The pool.
            now: Time.
            retry_after: Seconds that it asked to be left alone.
            draw: A random number in [0, 1).
        """
        one = self.standings.get(target)
        if one is None or one.state in (State.ASIDE, State.LEFT):
            return
        one.state = State.ASIDE
        one.failures += 1
        one.due = now + max(retry_after, full_jitter(self._retry, one.failures, draw))

    def busy(self, target: str, now: float, retry_after: float) -> None:
        """Leaves a healthy pool alone for as long as it asked."""
        one = self.standings[target]
        one.due = max(one.due, now + retry_after)
