"""A text, or a window of one, on its way through the pool, and who waits for it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from worker.errors import WorkerError
from worker.models import Model
from worker.scheduling.gather import Gather, WindowGather
from worker.scheduling.scheduler import Item, Priority
from worker.windows import Windows


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


def works_for(
    text: Windows,
    gather: Gather,
    row: int,
    *,
    stream: int,
    priority: Priority,
    model: Model,
    exact: bool,
    on_pooled: Callable[[], None],
) -> list[Work]:
    """Returns the runs of one text, whose one outcome goes to `row` of `gather`.

    Args:
        text: Its windows; one, unless it is long.
        gather: Who waits for the text.
        row: The gather's number for it.
        stream: The scheduler's number for the caller.
        priority: The class.
        model: What computes it.
        exact: Whether no text may share a tensor with it.
        on_pooled: Called when several windows have become one outcome; never for a single one.
    """
    sink: Sink = gather
    rows = [row]
    if len(text.ids) > 1:
        sink = WindowGather(
            gather,
            row,
            text.weights,
            normalize=model.manifest.normalize,
            separate=text.spans is not None,
            on_complete=on_pooled,
        )
        rows = list(range(len(text.ids)))
    return [
        Work(
            stream=stream,
            priority=priority,
            tokens=len(ids),
            stackable=not exact and model.manifest.max_group_tokens > 0,
            ids=ids,
            model=model,
            sink=sink,
            row=place,
        )
        for place, ids in zip(rows, text.ids, strict=True)
    ]
