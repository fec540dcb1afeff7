"""A text on its way through the pool, and who waits for it."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from worker.errors import WorkerError
from worker.models import Model
from worker.scheduler import Item


class Sink(Protocol):
    """Who asked for a vector."""

    def deliver(self, row: int, vector: NDArray[np.float32], queue_ns: int, run_ns: int) -> None:
        """Takes the vector `[dim]` of a text; it is valid during the call only."""

    def fail(self, row: int, error: WorkerError) -> None:
        """Takes the error that a text ended with."""


@dataclass(eq=False, kw_only=True)
class Work(Item):
    """A text that a sink waits for.

    Attributes:
        ids: Token ids, int64 `[tokens]`.
        model: What computes it; the answer carries its fingerprint.
        sink: Who gets the outcome.
        row: The sink's number for it.
        queued_ns: When it was submitted, on the monotonic clock.
        sent_ns: When its run was sent to a process.
    """

    ids: NDArray[np.int64]
    model: Model
    sink: Sink
    row: int
    queued_ns: int = 0
    sent_ns: int = 0
