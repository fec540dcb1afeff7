"""Embeds a sample for a time as a run does: the same client, options, batches, and files of units.

Guarantees: no file of the sample outlives the call; what is under way when the time is over is dropped.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from indexer.client import Access, Pool
from indexer.client.answers import Answer
from indexer.client.flow import forever, race
from indexer.config import RunConfig
from indexer.documents import Batch, Copies, Reject
from indexer.embedding.batches import Item, batches
from indexer.embedding.commit import write_unit
from indexer.embedding.memory import open_limit
from indexer.embedding.pools import batch_rule, plan_dispatcher
from indexer.embedding.room import Room
from indexer.embedding.stopping import stoppable
from indexer.embedding.unit import UnitBuffer
from indexer.estimating.rates import Answered
from indexer.estimating.sample import Sample
from indexer.plan import InputFile, Plan, make_plan
from indexer.progress import Stage
from indexer.store.durable import make_folder
from indexer.store.layout import Layout
from indexer.store.ledger import Receipt

Put = Callable[[Batch], Awaitable[None]]  # takes a batch, waiting while too much is under way

_LOOK_SECONDS = 0.2  # between looks at the clock; the time is only about kept


@dataclass
class Observed:
    """What was seen while a pool embedded a sample.

    Attributes:
        answers: In the order of time.
        token_counts: Of each embedded document, with chunks of each vector.
        truncated: Of how many the end was cut.
        documents: Documents that have a vector.
        vectors: Their vectors.
        rejects: Rows that have none.
        text_bytes: Of what was sent and answered.
        receipts: Of units that were written.
        open_units: Buffers of units that were not complete.
        driver_seconds: CPU time of this process.
        commit_seconds: Wall time of writing one unit, for each.
        complete: Whether the sample ended before the time.
    """

    answers: list[Answered] = field(default_factory=list)
    token_counts: list[NDArray[np.int32]] = field(default_factory=list)
    truncated: int = 0
    documents: int = 0
    vectors: int = 0
    rejects: list[Reject] = field(default_factory=list)
    text_bytes: int = 0
    receipts: list[Receipt] = field(default_factory=list)
    open_units: list[UnitBuffer] = field(default_factory=list)
    driver_seconds: float = 0.0
    commit_seconds: list[float] = field(default_factory=list)
    complete: bool = False


def measure(
    config: RunConfig, sample: Sample, pools: Mapping[str, Pool], access: Access, seconds: float, stage: Stage
) -> Observed:
    """Embeds a sample, again and again unless it is all there is, and tells what was seen.

    Args:
        config: Of the run that is estimated.
        sample: What to embed.
        pools: With what, by address.
        access: What opens them.
        seconds: For how long.
        stage: Told how many documents were answered.

    Raises:
        IndexerError: A pool or the file system failed.
        StoppedError: SIGINT or SIGTERM came.
    """
    rows = InputFile("sample", 0, 0, (len(sample.rows),))
    plan = make_plan([rows], config.plan, next(iter(pools.values())).model)
    with TemporaryDirectory(prefix="embedpool-estimate-") as folder:
        layout = Layout(Path(folder))
        for one in (layout.units, layout.rejects):
            make_folder(one)
        work = _Measuring(config, plan, layout, sample, stage)
        started = time.process_time()
        asyncio.run(work.run(pools, access, seconds))
        work.seen.driver_seconds = time.process_time() - started
    return work.seen


class _Measuring:
    """One call of `measure`; all but `_commit` runs in the loop."""

    def __init__(self, config: RunConfig, plan: Plan, layout: Layout, sample: Sample, stage: Stage) -> None:
        self.seen = Observed()
        self._config, self._plan, self._layout = config, plan, layout
        self._sample, self._stage = sample, stage
        self._open: dict[int, UnitBuffer] = {}
        self._room = Room(config.flow.open_units, open_limit(config.flow))
        self._writes: set[asyncio.Future[None]] = set()
        self._writer = ThreadPoolExecutor(1, "write")
        self._all_read = False

    async def run(self, pools: Mapping[str, Pool], access: Access, seconds: float) -> None:
        """Works for so long, or until all is embedded."""
        dispatcher = plan_dispatcher(
            self._plan, pools, access, self._config.flow, self._take, self._stage.log
        )
        items = batches(
            self._sample.chunks(self._config.plan.unit_rows), batch_rule(self._config.flow, pools)
        )
        try:
            async with stoppable():
                await race(dispatcher.run(), self._feed(dispatcher.put, items), self._watch(seconds))
                await asyncio.gather(*self._writes)
        finally:
            self._writer.shutdown()
        self.seen.open_units = list(self._open.values())

    async def _feed(self, put: Put, items: Iterator[Item]) -> None:
        for item in items:
            buffer = self._open.get(item.unit.number)
            if buffer is None:
                config = self._config.plan
                buffer = UnitBuffer(
                    item.unit, self._plan.model.dim, config.vector_type, chunked=config.chunk_tokens > 0
                )
                await self._room.open(item.unit.number, buffer.size)
                self._open[item.unit.number] = buffer
            if isinstance(item, Batch):
                buffer.expect()
                await put(item)
            elif not isinstance(item, Copies):
                self.seen.rejects += item.rejects
                buffer.finish_reading(item.rejects)
                self._finish(buffer)
        self._all_read = True
        await forever()

    async def _watch(self, seconds: float) -> None:
        """Returns when the time is over, or all is answered."""
        clock = asyncio.get_running_loop().time
        end = clock() + seconds
        while clock() < end and not self.seen.complete:
            await asyncio.sleep(_LOOK_SECONDS)
            self.seen.complete = self._all_read and not self._open
            for write in [one for one in self._writes if one.done()]:
                self._writes.remove(write)
                write.result()

    def _take(self, batch: Batch, answer: Answer) -> None:
        seen, good = self.seen, answer.good.size
        tokens = int(answer.token_counts.sum())
        seen.answers.append(Answered(time.monotonic(), len(batch.texts), tokens))
        counts = answer.token_counts if answer.spans is None else answer.spans.token_counts
        seen.token_counts.append(counts)
        seen.truncated += int(answer.truncated.sum())
        seen.documents += good
        seen.vectors += len(answer.vectors)
        seen.text_bytes += batch.bytes
        seen.rejects += [
            Reject(batch.rows[failure.position], None, str(failure)) for failure in answer.failures
        ]
        buffer = self._open[batch.unit.number]
        buffer.add(batch, answer)
        self._stage.advance(len(batch.texts))
        self._finish(buffer)

    def _finish(self, buffer: UnitBuffer) -> None:
        if buffer.complete:
            del self._open[buffer.unit.number]
            self._writes.add(asyncio.ensure_future(self._write(buffer)))

    async def _write(self, buffer: UnitBuffer) -> None:
        await asyncio.get_running_loop().run_in_executor(self._writer, self._commit, buffer)
        await self._room.close(buffer.unit.number)

    def _commit(self, buffer: UnitBuffer) -> None:
        """Writes a unit as a run does; in the writer's thread."""
        started = time.monotonic()
        self.seen.receipts.append(write_unit(self._layout, self._plan, buffer))
        self.seen.commit_seconds.append(time.monotonic() - started)
