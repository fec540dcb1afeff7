"""Collects the outcomes of several texts until all are there."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from worker.errors import WorkerError


class Gather:
    """A sink of `rows` texts.

    Attributes:
        vectors: float32 `[rows, dim]`; rows of failed texts hold zeros.
        errors: Row to the error that its text ended with.
        queue_ns: Longest wait of a text for a process, in nanoseconds.
        run_ns: Sum of the texts' shares of the model's runs, in nanoseconds.
    """

    def __init__(self, rows: int, dim: int, on_complete: Callable[[], None]) -> None:
        self.vectors = np.zeros((rows, dim), dtype=np.float32)
        self.errors: dict[int, WorkerError] = {}
        self.queue_ns = 0
        self.run_ns = 0
        self._missing = rows
        self._on_complete = on_complete

    def deliver(self, row: int, vector: NDArray[np.float32], queue_ns: int, run_ns: int) -> None:
        """Takes the vector `[dim]` of a text."""
        self.vectors[row] = vector
        self.queue_ns = max(self.queue_ns, queue_ns)
        self.run_ns += run_ns
        self._count()

    def fail(self, row: int, error: WorkerError) -> None:
        """Takes the error that a text ended with."""
        self.errors[row] = error
        self._count()

    def _count(self) -> None:
        self._missing -= 1
        if not self._missing:
            self._on_complete()
