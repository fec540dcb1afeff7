"""What is known of one server that is watched, and of all together. Pure: no clock, no I/O."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from worker.operation.top.interval import Interval, between, total
from worker.operation.top.snapshot import Snapshot

KEPT = 512  # rates of the past; more than a wide terminal has columns


@dataclass
class History:
    """Rates of the past intervals, the newest last; None where the server was away.

    Attributes:
        queries: Per second.
        documents: Per second.
    """

    queries: "deque[float | None]" = field(default_factory=lambda: deque(maxlen=KEPT))
    documents: "deque[float | None]" = field(default_factory=lambda: deque(maxlen=KEPT))

    def add(self, interval: Interval | None) -> None:
        """Notes what happened; None for nothing known."""
        self.queries.append(None if interval is None else interval.queries.texts)
        self.documents.append(None if interval is None else interval.documents.texts)


@dataclass
class Watched:
    """One server.

    Attributes:
        target: Its address.
        snapshot: What it said last; None before its first word.
        interval: What happened before that; None where two snapshots are not there yet.
        away: Why it does not answer; "" while it does.
        history: Rates of the past.
    """

    target: str
    snapshot: Snapshot | None = None
    interval: Interval | None = None
    away: str = ""
    history: History = field(default_factory=History)

    def took(self, snapshot: Snapshot) -> None:
        """Takes over what the server says now."""
        if self.snapshot is not None:
            self.interval = between(self.snapshot, snapshot)
            self.history.add(self.interval)
        self.snapshot, self.away = snapshot, ""

    def lost(self, reason: str) -> None:
        """Notes that it does not answer; what it said before stands."""
        if self.snapshot is not None:
            self.history.add(None)
        self.interval, self.away = None, reason


@dataclass
class Fleet:
    """All servers that are watched.

    Attributes:
        servers: Each of them, in the order in which they were named.
        history: Rates of all together.
    """

    servers: Sequence[Watched]
    history: History = field(default_factory=History)

    @property
    def interval(self) -> Interval | None:
        """What happened on those that answer; None where nothing is known of any."""
        known = [one.interval for one in self.servers if one.interval is not None]
        return total(known) if known else None

    @property
    def present(self) -> Sequence[Snapshot]:
        """What those that answer said last."""
        return [one.snapshot for one in self.servers if one.snapshot is not None and not one.away]

    def tick(self) -> None:
        """Notes the rates of all together."""
        self.history.add(self.interval)
