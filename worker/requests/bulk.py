"""One caller's stream of document batches: how much of it is here, what is done, what is still to come.

Guarantees: each accepted batch is finished exactly once; a text's bytes count from acceptance until its
answer is written, those of its windows until they are pooled, and of vectors that stay apart until they are
written; when the caller leaves, its waiting texts never reach the model; a batch is computed and answered by
the model that was current when it was accepted.
Assumes one event loop; one task calls `accept` and `wait_for_room`, another `finished` and `written`.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack
from functools import partial

from worker.errors import RequestError, WorkerError
from worker.models import Model
from worker.processes.pool import Pool
from worker.requests.batch import WINDOW_CHUNK_BYTES, Batch, Embedded, chunks_for
from worker.requests.calls import note_batch, stages_of
from worker.requests.intake import Intake, Options, check_batch
from worker.requests.outcomes import outcome_of
from worker.scheduling.gather import Gather
from worker.scheduling.scheduler import Priority
from worker.scheduling.work import Work, works_for
from worker.settings.config import Limits
from worker.statistics import Outcome, Statistics
from worker.windows import Windows


class BulkStream:
    """The batches of one stream that are in flight.

    Args:
        next_number: Draws a number for the scheduler; the stream has one for each model.
        pool: Computes.
        intake: Tokenizes.
        limits: Bounds batches and bytes in flight.
        statistics: Counts how texts end.
        measured: Told the tokens and the seconds of runs.

    Attributes:
        bytes: What it holds here.
    """

    def __init__(
        self,
        next_number: Callable[[], int],
        pool: Pool,
        intake: Intake,
        limits: Limits,
        statistics: Statistics,
        measured: Callable[[int, float], None],
    ) -> None:
        self._next_number = next_number
        self._pool = pool
        self._intake = intake
        self._limits = limits
        self._statistics = statistics
        self._measured = measured
        self._numbers: dict[int, int] = {}  # generation to number
        self._in_flight: dict[int, Batch] = {}
        self._done: deque[Batch] = deque()
        self._window_bytes = 0
        self._pooled = asyncio.Event()
        self._ended = False
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self.bytes = 0

    @property
    def in_flight(self) -> int:
        """Count of batches accepted and not yet written."""
        return len(self._in_flight)

    async def wait_for_room(self) -> None:
        """Returns when the bytes in flight are below their limit."""
        await self._room.wait()

    async def accept(
        self, batch_id: int, texts: Sequence[bytes], read_options: Callable[[Model], Options]
    ) -> None:
        """Takes a batch in; returns when all its texts wait for a process.

        Args:
            batch_id: The caller's number for it.
            texts: The documents, UTF-8.
            read_options: Tells how the caller wants them embedded by a model.

        Raises:
            RequestError: The batch breaks a limit, its id is in flight, or the model lacks what is asked for.
        """
        check_batch(texts, self._limits)
        if batch_id in self._in_flight:
            raise RequestError(f"batch_id {batch_id} is in flight already; use each id once")
        batch = self._take(batch_id, texts, read_options)
        if not texts:
            self._complete(batch)
        for first, chunk in chunks_for(texts, batch):
            await self._room_for_windows()
            found = await self._intake.documents(batch.model.tokenizer, chunk, batch.options)
            self._queue(batch, first, found)

    def refuse(self, batch_id: int, error: WorkerError) -> None:
        """Takes in a text that cannot be embedded: it is answered in its turn, with the error.

        So what answers it holds counts as that of other texts, however many are bad.
        """
        batch = self._take(batch_id, [b""], lambda _: Options())
        batch.texts.append(None)
        batch.gather.fail(0, error)

    def refused(self, texts: int) -> None:
        """Notes the texts of a batch that was not accepted."""
        self._statistics.text(Priority.BULK, Outcome.REFUSED, texts)

    def end(self) -> None:
        """Notes that no batch will be accepted any more."""
        self._ended = True
        self._changed.set()

    async def finished(self) -> AsyncIterator[Batch]:
        """Yields each batch when it is done, until the stream has ended and nothing is in flight."""
        while True:
            while self._done:
                batch = self._done.popleft()
                self._count(batch)
                yield batch
            if self._ended and not self._in_flight:
                return
            self._changed.clear()
            await self._changed.wait()

    def written(self, batch: Batch) -> None:
        """Notes that a batch's answer left; makes room."""
        del self._in_flight[batch.batch_id]
        batch.lease.close()
        self._hold(-batch.cost)

    def close(self) -> None:
        """Drops what is still in flight."""
        for number in self._numbers.values():
            self._pool.cancel(number)
        for batch in self._in_flight.values():
            if not batch.counted:
                self._statistics.text(Priority.BULK, Outcome.CANCELLED, batch.size)
            batch.lease.close()
        self._in_flight.clear()
        self.bytes = 0

    def _count(self, batch: Batch) -> None:
        """Notes how the texts of a batch ended.

        Before its answer is written: a caller that leaves with the last answer in hand may cancel that write.
        """
        batch.counted = True
        tokens = 0
        for row, text in enumerate(batch.texts):
            if (error := batch.gather.errors.get(row)) is not None:
                self._statistics.text(Priority.BULK, outcome_of(error))
            elif text is not None:
                self._statistics.embedded(Priority.BULK, text.token_count, truncated=text.truncated)
                tokens += text.token_count
        self._measured(tokens, batch.gather.run_ns / 1e9)
        run = (batch.gather.run_began_ns, batch.gather.run_ended_ns)
        stages = stages_of(batch.began_ns, batch.tokenized_ns, batch.queued_ns, *run)
        note_batch(batch.size, tokens, batch.model.manifest.fingerprint, stages)

    def _take(self, batch_id: int, texts: Sequence[bytes], read_options: Callable[[Model], Options]) -> Batch:
        with ExitStack() as lease:
            model = lease.enter_context(self._pool.lease())
            batch = Batch(batch_id, model, read_options(model), texts)
            batch.lease = lease.pop_all()
        batch.gather = Gather(len(texts), model.manifest.dim, partial(self._complete, batch))
        self._in_flight[batch_id] = batch
        self._hold(batch.cost)
        return batch

    async def _room_for_windows(self) -> None:
        """Waits while windows fill what batches leave of the limit; computing them makes room, so it ends."""
        while self._window_bytes >= max(
            WINDOW_CHUNK_BYTES, self._limits.max_stream_bytes_in_flight - self.bytes + self._window_bytes
        ):
            self._pooled.clear()
            await self._pooled.wait()

    def _queue(self, batch: Batch, first: int, outcomes: Sequence[Windows | WorkerError]) -> None:
        batch.tokenized_ns = time.perf_counter_ns()
        batch.queued_ns = batch.queued_ns or batch.tokenized_ns
        works: list[Work] = []
        for row, outcome in enumerate(outcomes, first):
            if isinstance(outcome, WorkerError):
                batch.texts.append(None)
                batch.gather.fail(row, outcome)
                continue
            batch.texts.append(Embedded.of(outcome))
            self._hold_windows(outcome.extra_bytes)
            if outcome.spans is not None:
                self._hold_answer(batch, batch.bytes_of_windows(len(outcome.ids)))
            works += works_for(
                outcome,
                batch.gather,
                row,
                stream=self._number(batch.model),
                priority=Priority.BULK,
                model=batch.model,
                exact=batch.options.exact,
                on_pooled=partial(self._hold_windows, -outcome.extra_bytes),
            )
        self._pool.submit(works)

    def _number(self, model: Model) -> int:
        if model.generation not in self._numbers:
            self._numbers[model.generation] = self._next_number()
        return self._numbers[model.generation]

    def _hold_answer(self, batch: Batch, more: int) -> None:
        """Counts vectors that a batch holds, beyond one for each text, until it is answered."""
        batch.cost += more
        self._hold(more)

    def _hold_windows(self, more: int) -> None:
        self._window_bytes += more
        self._hold(more)
        self._pooled.set()

    def _hold(self, more: int) -> None:
        self.bytes += more
        if self.bytes < self._limits.max_stream_bytes_in_flight:
            self._room.set()
        else:
            self._room.clear()

    def _complete(self, batch: Batch) -> None:
        self._done.append(batch)
        self._changed.set()
