"""What happened since the start, as counts. Pure: no clock, no I/O; times are arguments, in seconds.

One `Statistics` is shared by the service, the pool and the metrics page; all of them on one event loop.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from worker.scheduling.scheduler import Priority

# Upper bounds of the histograms: from a short query's run to a queue that somebody must look at.
BOUNDS_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Outcome(StrEnum):
    """How a text ended."""

    OK = "ok"
    REFUSED = "refused"  # it breaks a limit or a rule
    FAILED = "failed"  # the model or the tokenizer failed, or it ended two processes
    CANCELLED = "cancelled"  # its caller went or its deadline passed
    OVERLOADED = "overloaded"
    UNAVAILABLE = "unavailable"


class End(StrEnum):
    """Why a compute process ended."""

    KILLED = "killed"  # by a signal from outside
    CRASHED = "crashed"  # by itself
    STUCK = "stuck"  # it answered no more and was ended
    FAILED_TO_LOAD = "failed to load"


class Histogram:
    """Counts of values by `BOUNDS_SECONDS`.

    Attributes:
        counts: Values at or below each bound and above the one before; one more entry for those above all.
        sum: Sum of the values.
    """

    def __init__(self, bounds: Sequence[float] = BOUNDS_SECONDS) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        """Counts a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    @property
    def count(self) -> int:
        """How many values were counted."""
        return sum(self.counts)


@dataclass
class ClassCounts:
    """Counts of one class of texts.

    Attributes:
        texts: Texts by how they ended.
        tokens: Tokens of the texts that are OK, special ones included.
        padded_tokens: Tokens that were computed and thrown away.
        runs: Runs of the model.
        truncated: Texts that were cut.
        queue: Seconds that texts waited for a process.
        run: Seconds of the runs.
    """

    texts: "Counter[Outcome]" = field(default_factory=Counter)
    tokens: int = 0
    padded_tokens: int = 0
    runs: int = 0
    truncated: int = 0
    queue: Histogram = field(default_factory=Histogram)
    run: Histogram = field(default_factory=Histogram)


class Statistics:
    """The counts of a server.

    Attributes:
        classes: Counts by class of texts.
        ends: Compute processes that ended, by why.
        reloads: Models taken over after the first.
        rpcs: RPCs that ended, by method and name of their status.
    """

    def __init__(self) -> None:
        self.classes = {priority: ClassCounts() for priority in Priority}
        self.ends: Counter[End] = Counter()
        self.reloads = 0
        self.rpcs: Counter[tuple[str, str]] = Counter()

    def text(self, priority: Priority, outcome: Outcome, count: int = 1) -> None:
        """Counts texts that ended otherwise than with a vector."""
        self.classes[priority].texts[outcome] += count

    def embedded(self, priority: Priority, tokens: int, *, truncated: bool) -> None:
        """Counts a text that got its vector."""
        counts = self.classes[priority]
        counts.texts[Outcome.OK] += 1
        counts.tokens += tokens
        counts.truncated += truncated

    def waited(self, priority: Priority, seconds: float) -> None:
        """Counts how long a text, or a window of it, waited for a process."""
        self.classes[priority].queue.add(seconds)

    def ran(self, priority: Priority, seconds: float, padded_tokens: int = 0) -> None:
        """Counts a run."""
        counts = self.classes[priority]
        counts.runs += 1
        counts.padded_tokens += padded_tokens
        counts.run.add(seconds)

    def process_ended(self, end: End) -> None:
        """Counts the end of a process."""
        self.ends[end] += 1

    def rpc_ended(self, method: str, status: str) -> None:
        """Counts an RPC."""
        self.rpcs[method, status] += 1
