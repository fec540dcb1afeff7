"""What a pool counts, as callers see it; the meaning of each count is the server's."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Distribution:
    """A histogram of seconds.

    Attributes:
        count: Values.
        sum: Their sum.
        bounds: Upper bounds, ascending; the last bucket has none.
        counts: Values at or below each bound and above the one before; one more entry than bounds.
    """

    count: int
    sum: float
    bounds: tuple[float, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True)
class ClassStatistics:
    """Counts of queries or of documents since the server's start.

    Attributes:
        texts: By outcome: "ok", "refused", "failed", "cancelled", "overloaded", "unavailable".
        tokens: Of texts that are ok.
        padded_tokens: Computed and thrown away.
        runs: Runs of the model.
        truncated: Texts that were cut.
        waiting: Texts that wait for a process at this moment.
        queue_seconds: Waits for a process.
        run_seconds: Times of runs.
    """

    texts: Mapping[str, int]
    tokens: int
    padded_tokens: int
    runs: int
    truncated: int
    waiting: int
    queue_seconds: Distribution
    run_seconds: Distribution


@dataclass(frozen=True)
class ProcessStatistics:
    """One compute process: its slot, id (0 for none), state, memory in bytes, runs and restarts."""

    slot: int
    pid: int
    state: str
    resident_bytes: int
    proportional_bytes: int
    runs: int
    restarts: int


@dataclass(frozen=True)
class Statistics:
    """Counts of a pool since its start, and its state at this moment.

    Attributes:
        uptime_seconds: Since the start.
        fingerprint: Of the model it serves now.
        generation: Counts the models it has taken over; 1 is the first.
        queries: Of the query class.
        documents: Of the bulk class.
        processes: The compute processes.
        process_ends: Processes that ended, by why.
        reloads: Models taken over after the first.
        open_streams: Bulk streams.
        query_bytes_in_flight: Held for queries.
        document_bytes_in_flight: Held for documents.
    """

    uptime_seconds: float
    fingerprint: str
    generation: int
    queries: ClassStatistics
    documents: ClassStatistics
    processes: tuple[ProcessStatistics, ...]
    process_ends: Mapping[str, int]
    reloads: int
    open_streams: int
    query_bytes_in_flight: int
    document_bytes_in_flight: int
