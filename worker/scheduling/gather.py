"""Collects the outcomes of several texts until all are there, and of the windows of one text.

Guarantee: what comes out does not depend on the order in which outcomes come in. Assumes one event loop.
"""

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from worker.errors import WorkerError
from worker.windows import pool


class Gather:
    """A sink of `rows` texts.

    Attributes:
        vectors: float32 `[rows, dim]`; rows of failed texts hold zeros.
        errors: Row to the error that its text ended with.
        windows: Row to the vectors of its windows, float32 `[windows, dim]`, of texts of several windows that
            keep their own; their rows of `vectors` hold zeros.
        queue_ns: Longest wait of a text for a process, in nanoseconds.
        run_ns: Sum of the texts' shares of the model's runs, in nanoseconds.
        run_began_ns: About when the first of them began, by `time.perf_counter_ns`; 0 before.
        run_ended_ns: When the last of them was delivered.
    """

    def __init__(self, rows: int, dim: int, on_complete: Callable[[], None]) -> None:
        self.vectors = np.zeros((rows, dim), dtype=np.float32)
        self.errors: dict[int, WorkerError] = {}
        self.windows: dict[int, NDArray[np.float32]] = {}
        self.queue_ns = 0
        self.run_ns = 0
        self.run_began_ns = 0
        self.run_ended_ns = 0
        self._missing = rows
        self._on_complete = on_complete

    def deliver(self, row: int, vector: NDArray[np.float32], queue_ns: int, run_ns: int) -> None:
        """Takes the vector `[dim]` of a text."""
        self.vectors[row] = vector
        self._delivered(queue_ns, run_ns)

    def deliver_windows(self, row: int, vectors: NDArray[np.float32], queue_ns: int, run_ns: int) -> None:
        """Takes the vectors of a text's windows, float32 `[windows, dim]`."""
        self.windows[row] = vectors
        self._delivered(queue_ns, run_ns)

    def rows_of(self, row: int) -> NDArray[np.float32]:
        """Returns the vectors of a text that did not fail, float32 `[windows, dim]`."""
        return self.windows[row] if row in self.windows else self.vectors[row : row + 1]

    def _delivered(self, queue_ns: int, run_ns: int) -> None:
        self.queue_ns = max(self.queue_ns, queue_ns)
        self.run_ns += run_ns
        self.run_ended_ns = time.perf_counter_ns()
        self.run_began_ns = min(self.run_began_ns or self.run_ended_ns, self.run_ended_ns - run_ns)
        self._count()

    def fail(self, row: int, error: WorkerError) -> None:
        """Takes the error that a text ended with."""
        self.errors[row] = error
        self._count()

    def _count(self) -> None:
        self._missing -= 1
        if not self._missing:
            self._on_complete()


class WindowGather:
    """A sink of the windows of one text, which delivers one outcome to the text's own sink.

    It waits for all windows, also when one failed: none is under way any more when the text has its outcome.

    Args:
        text: The text's own sink.
        row: That sink's number for the text.
        weights: Tokens of each window.
        normalize: Whether the text's vector has unit length.
        separate: Whether the windows keep vectors of their own, instead of their mean.
        on_complete: Called before the text has its outcome.
    """

    def __init__(
        self,
        text: Gather,
        row: int,
        weights: tuple[int, ...],
        *,
        normalize: bool,
        separate: bool = False,
        on_complete: Callable[[], None],
    ) -> None:
        self._separate = separate
        self._text = text
        self._row = row
        self._weights = weights
        self._normalize = normalize
        # Made with the first window: of a stream's texts only a few are being computed at a time.
        self._vectors: NDArray[np.float32] | None = None
        self._first_error: tuple[int, WorkerError] | None = None
        self._queue_ns = 0
        self._run_ns = 0
        self._missing = len(weights)
        self._on_complete = on_complete

    def deliver(self, row: int, vector: NDArray[np.float32], queue_ns: int, run_ns: int) -> None:
        """Takes the vector `[dim]` of a window."""
        if self._vectors is None:
            self._vectors = np.zeros((len(self._weights), len(vector)), dtype=np.float32)
        self._vectors[row] = vector
        self._queue_ns = max(self._queue_ns, queue_ns)
        self._run_ns += run_ns
        self._count()

    def fail(self, row: int, error: WorkerError) -> None:
        """Takes the error that a window ended with; the text ends with that of its first such window."""
        if self._first_error is None or row < self._first_error[0]:
            self._first_error = (row, error)
        self._count()

    def _count(self) -> None:
        self._missing -= 1
        if self._missing:
            return
        self._on_complete()
        if self._first_error is not None:
            window, error = self._first_error
            self._text.fail(self._row, type(error)(f"window {window}: {error}"))
        elif self._vectors is not None and self._separate:
            self._text.deliver_windows(self._row, self._vectors, self._queue_ns, self._run_ns)
        elif self._vectors is not None:
            vector = pool(self._vectors, self._weights, normalize=self._normalize)
            self._text.deliver(self._row, vector, self._queue_ns, self._run_ns)
