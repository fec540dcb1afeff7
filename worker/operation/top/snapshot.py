"""What a server said of itself at one moment. No wire type, no I/O."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Distribution:
    """A histogram of seconds.

    Attributes:
        bounds: Upper bounds, ascending; the last bucket has none.
        counts: Values at or below each bound and above the one before; one more entry than bounds.
    """

    bounds: tuple[float, ...] = ()
    counts: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class ClassSnapshot:
    """Counts of queries or of documents since the server's start.

    Attributes:
        texts: By outcome: "ok", "refused", "failed", "cancelled", "overloaded", "unavailable".
        tokens: Of texts that are ok.
        waiting: Texts that wait for a process at this moment.
        bytes_in_flight: Held for texts that are not answered.
        queue: Seconds that texts waited.
        run: Seconds of runs.
    """

    texts: Mapping[str, int]
    tokens: int
    waiting: int
    bytes_in_flight: int
    queue: Distribution
    run: Distribution


@dataclass(frozen=True)
class ProcessSnapshot:
    """One compute process; `memory` is its proportional share, in bytes; `pid` 0 for none."""

    slot: int
    pid: int
    state: str
    runs: int
    restarts: int
    memory: int


@dataclass(frozen=True)
class ModelFacts:
    """The model that a server serves: what people call it, its vectors' width, and how it is stored."""

    name: str
    dim: int
    recipe: str


@dataclass(frozen=True)
class Snapshot:
    """A server at one moment.

    Attributes:
        health: Name of its health, for example "SERVING".
        model: What it serves.
        uptime: Seconds since its start.
        fingerprint: Of the model.
        generation: Counts the models that it has taken over.
        open_streams: Bulk streams.
        queries: Of the query class.
        documents: Of the bulk class.
        processes: The compute processes.
        ends: Processes that ended, by why.
    """

    health: str
    model: ModelFacts
    uptime: float
    fingerprint: str
    generation: int
    open_streams: int
    queries: ClassSnapshot
    documents: ClassSnapshot
    processes: tuple[ProcessSnapshot, ...]
    ends: Mapping[str, int]
