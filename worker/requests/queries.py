"""The road of a query: bytes, wait, tokens, pool.

Guarantees: a query whose caller has gone, or whose deadline has passed, never reaches the model if it still
waits, wherever it waits; it is computed and answered by the model that was current when it was let in.
Assumes one event loop.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from worker.models import Model
from worker.processes.pool import Pool
from worker.requests.calls import note_query, stages_of
from worker.requests.intake import Intake, Options, check_query
from worker.scheduling.admission import Admission, Admitted, Waiting
from worker.scheduling.gather import Gather
from worker.scheduling.scheduler import Priority
from worker.scheduling.work import works_for
from worker.settings.config import ServeConfig
from worker.windows import Windows

# What a query's text costs beside its bytes and its vector: token ids, bookkeeping, the RPC; an estimate.
_QUERY_ITEM_BYTES = 4096


@dataclass(frozen=True)
class Embeddings:
    """The outcome of a query.

    Attributes:
        texts: Runs of each text.
        gather: Their vectors, none failed.
        tokenize_ns: Time that tokenizing took, waiting for its thread included, in nanoseconds.
    """

    texts: Sequence[Windows]
    gather: Gather
    tokenize_ns: int


def query_cost(text_bytes: int, texts: int, dim: int) -> int:
    """Returns the bytes that a query holds here, windows aside; its vectors have `dim` values."""
    return text_bytes + texts * (_QUERY_ITEM_BYTES + 4 * dim)


class Queries:
    """Embeds queries.

    Args:
        next_number: Draws a number for the scheduler; each query has one.
        config: Limits.
        pool: Computes.
        intake: Tokenizes.
        admission: Lets them in.
    """

    def __init__(
        self,
        next_number: Callable[[], int],
        config: ServeConfig,
        pool: Pool,
        intake: Intake,
        admission: Admission,
    ) -> None:
        self._next_number = next_number
        self._limits = config.limits
        self._pool = pool
        self._intake = intake
        self._admission = admission

    async def embed(self, texts: Sequence[str], options: Options, model: Model) -> Embeddings:
        """Returns the vectors of a query's texts.

        Args:
            texts: One text or a few.
            options: How the caller wants them.
            model: What computes them; leased by the caller.

        Raises:
            RequestError: The texts break a limit.
            OverloadError: Too many bytes are in flight, or it would wait too long.
            WorkerError: A text could not be tokenized or computed; the message names its index.
        """
        size = sum(check_query(texts, self._limits))
        cost = query_cost(size, len(texts), model.manifest.dim)
        waiting = Waiting(
            self._pool.waiting_tokens(Priority.QUERY), bulk=self._pool.waiting(Priority.BULK) > 0
        )
        with self._admission.admitted(size, cost, waiting, model.manifest.max_tokens) as admitted:
            began = time.perf_counter_ns()
            tokenized = await self._intake.query(model.tokenizer, texts, options)
            queued = time.perf_counter_ns()
            if extra := sum(text.extra_bytes for text in tokenized):
                admitted.hold(extra)
            gather = await self._compute(tokenized, model, admitted, exact=options.exact)
        note_query(
            len(texts),
            sum(text.token_count for text in tokenized),
            model.manifest.fingerprint,
            stages_of(began, queued, queued, gather.run_began_ns, gather.run_ended_ns),
        )
        return Embeddings(tokenized, gather, queued - began)

    async def _compute(
        self, texts: Sequence[Windows], model: Model, admitted: Admitted, *, exact: bool
    ) -> Gather:
        number = self._next_number()
        done = asyncio.Event()
        gather = Gather(len(texts), model.manifest.dim, done.set)
        works = []
        for row, text in enumerate(texts):
            works += works_for(
                text,
                gather,
                row,
                stream=number,
                priority=Priority.QUERY,
                model=model,
                exact=exact,
                on_pooled=_nothing,
            )
        self._pool.submit(works)
        admitted.queued()
        try:
            await done.wait()
        except asyncio.CancelledError:
            self._pool.cancel(number)
            raise
        for row, error in sorted(gather.errors.items()):
            raise type(error)(f"texts[{row}]: {error}")
        self._admission.measured(sum(work.tokens for work in works), gather.run_ns / 1e9)
        return gather


def _nothing() -> None:
    """The bytes of a query's windows are held until it is answered."""
