"""Is a process stuck? Pure: no clock, no processes here; times are arguments, in seconds.

A process that computes must use CPU time: one that does not is stopped, or waits for a page that never comes.
One that is idle must answer a ping. One that does use CPU time may still compute for ever: a limit ends it.
"""

import time
from dataclasses import dataclass

from worker.processes.lifecycle import State

_COMPUTING = frozenset({State.STARTING, State.RUNNING})


class Clock:
    """Seconds in which this program could watch.

    A machine that sleeps, a container that is frozen and a stalled event loop also stop what is watched, or
    what would hear of it: such gaps do not count.

    Args:
        step: Longest time between two calls of `tick` that counts whole.
    """

    def __init__(self, step: float) -> None:
        self._step = step
        self._gaps = 0.0
        self._last = time.monotonic()

    def now(self) -> float:
        """Returns the time."""
        return time.monotonic() - self._gaps

    def tick(self) -> float:
        """Notes that the program watches; returns the time."""
        now = time.monotonic()
        self._gaps += max(0.0, now - self._last - self._step)
        self._last = now
        return self.now()


@dataclass(frozen=True)
class Deadlines:
    """When a process is held to be stuck, in seconds.

    Attributes:
        start: Longest start.
        run: Longest run.
        hang: Longest time without CPU time while it computes, or without an answer while it is idle.
    """

    start: float
    run: float
    hang: float


class Vigil:
    """What is known of one process's progress.

    Args:
        deadlines: When it is stuck.
        now: When its watch began.
    """

    def __init__(self, deadlines: Deadlines, now: float) -> None:
        self._deadlines = deadlines
        self.begin(now)

    def begin(self, now: float) -> None:
        """Notes that the process entered a state."""
        self._since = self._progress = now
        self._ticks = -1
        self._pinged: float | None = None

    @property
    def pinged(self) -> bool:
        """Whether a ping has no answer yet."""
        return self._pinged is not None

    def ping(self, now: float) -> None:
        """Notes that a ping was sent."""
        self._pinged = now

    def pong(self) -> None:
        """Notes that it was answered."""
        self._pinged = None

    def stuck(self, state: State, ticks: int, now: float) -> str:
        """Returns why the process is held to be stuck, "" when it is not.

        Args:
            state: Where it is.
            ticks: CPU time that it has used, in any unit.
            now: The time.
        """
        if state in _COMPUTING:
            return self._computes_too_long(state, ticks, now)
        if self._pinged is not None and now - self._pinged > self._deadlines.hang:
            return f"idle, it answered no ping for {now - self._pinged:.1f} s"
        return ""

    def _computes_too_long(self, state: State, ticks: int, now: float) -> str:
        if ticks != self._ticks:
            self._ticks, self._progress = ticks, now
        if now - self._progress > self._deadlines.hang:
            return f"{state.value}, it used no CPU time for {now - self._progress:.1f} s"
        limit = self._deadlines.run if state is State.RUNNING else self._deadlines.start
        if now - self._since > limit:
            return f"{state.value} for {now - self._since:.1f} s"
        return ""
