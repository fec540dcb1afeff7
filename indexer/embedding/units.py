"""Embeds units and commits them.

One thread reads inputs, one writes units; the asyncio loop between them moves batches and answers.
Guarantees: a unit is committed once all its rows have answers; whatever ends the run, a commit that began is
finished or leaves nothing that counts; memory is bounded by the bytes in flight and those of open units; a
text is embedded once. A unit that copies from another waits until that is committed: it was read before, so
the oldest open unit never waits, and work goes on.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from itertools import groupby

from indexer.client import Access, Pool
from indexer.client.answers import Answer
from indexer.client.dispatch import Dispatcher
from indexer.client.flow import forever, race
from indexer.config import OnError
from indexer.documents import Batch, Chunk, Copies
from indexer.embedding.batches import BatchRule, Item, batches
from indexer.embedding.commit import Originals, write_unit
from indexer.embedding.memory import check_growth, check_unit_memory, open_limit
from indexer.embedding.pools import batch_rule, check_chunking, plan_dispatcher
from indexer.embedding.reuse import SeenTexts
from indexer.embedding.room import Room
from indexer.embedding.stopping import Stopping, stoppable
from indexer.embedding.unit import UnitBuffer
from indexer.embedding.work import Commit, Embedded, Work
from indexer.errors import GaveUpError, PoolError
from indexer.inputs import parquet
from indexer.plan import Plan, Unit
from indexer.progress import Progress
from indexer.store.durable import make_folder


def embed_units(
    work: Work,
    pools: Mapping[str, Pool],
    access: Access,
    units: Iterator[Unit],
    progress: Progress,
    on_commit: Callable[[Commit], None] = lambda _: None,
    stopping: Stopping = stoppable,
) -> Embedded:
    """Embeds units with the pools, by address, and commits them.

    Args:
        work: What the units are of.
        pools: What embeds, by address.
        access: What opens the pools.
        units: Units to embed, best in the order of the plan. Each is drawn, in a thread, when the one before
            was read, and all that were drawn are committed before this returns; so it may claim units as they
            are drawn. It may wait for one if `stopping` ends that, too.
        progress: Told how far it is.
        on_commit: Told each unit behind its receipt, in the thread that writes.
        stopping: What ends it early.

    Raises:
        IndexerError: An input, a pool or the file system failed; units committed before stay.
        StoppedError: It was asked to stop.
    """
    config, plan = work.config, work.plan
    largest = max((unit.rows for unit in plan.units), default=0)
    check_unit_memory(config.flow, plan.config, largest, plan.model.dim)
    check_chunking(plan.config, pools)
    for folder in (work.layout.units, work.layout.rejects):
        make_folder(folder)
    embedding = _Embedding(work, progress, on_commit)
    try:
        asyncio.run(embedding.run(pools, access, units, stopping))
    except GaveUpError as error:
        raise PoolError(
            f"gave up after {error.seconds:g} s without an answer (--retry-seconds): {error.reasons}. "
            "What is committed is kept: start the worker again and run the same command to go on"
        ) from error
    return Embedded(tuple(embedding.commits))


def read_batches(plan: Plan, units: Iterable[Unit], rule: BatchRule) -> Iterator[Item]:
    """Yields the batches of units, which are in order; raises InputError."""
    return batches(_chunks(plan, units, OnError.STOP), rule)


def _chunks(plan: Plan, units: Iterable[Unit], on_error: OnError) -> Iterator[Chunk]:
    config = plan.config
    for (number, _), of_file in groupby(units, key=_Runs()):
        yield from parquet.read_chunks(
            plan.inputs[number], config.id_column, config.text_columns, of_file, on_error
        )


class _Runs:
    """Names for each unit its file, and its run: units of one that is read in one go are in order."""

    def __init__(self) -> None:
        self._last = self._run = -1

    def __call__(self, unit: Unit) -> tuple[int, int]:
        if unit.number < self._last:
            self._run += 1
        self._last = unit.number
        return unit.file, self._run


class _Embedding:
    """One call of `embed_units`.

    Attributes:
        commits: What was committed here.
    """

    def __init__(self, work: Work, progress: Progress, on_commit: Callable[[Commit], None]) -> None:
        self.commits: list[Commit] = []
        self._work, self._flow, self._plan = work, work.config.flow, work.plan
        self._progress, self._on_commit = progress, on_commit
        self._receipts = dict(work.committed)
        self._originals = Originals(work.layout, work.plan, self._receipts, self._flow)
        self._room = Room(self._flow.open_units, open_limit(self._flow))
        self._open: dict[int, UnitBuffer] = {}
        self._text_bytes: Counter[int] = Counter()  # of units that are open
        self._complete: dict[int, set[int]] = {}  # units that wait for their commit: what they copy from
        self._changed = asyncio.Event()
        self._all_read = False

    async def run(
        self, pools: Mapping[str, Pool], access: Access, units: Iterator[Unit], stopping: Stopping
    ) -> None:
        dispatcher = plan_dispatcher(self._plan, pools, access, self._flow, self._take, self._progress.log)
        source = self._items(units, batch_rule(self._flow, pools))
        # Leaving the block waits for both threads: a commit that began is finished.
        with ThreadPoolExecutor(1, "read") as reader, ThreadPoolExecutor(1, "write") as writer:
            try:
                async with stopping():
                    await race(dispatcher.run(), self._feed(dispatcher, source, reader), self._commit(writer))
            finally:
                reader.submit(source.close)  # type: ignore[attr-defined]  # it is a generator

    def _items(self, units: Iterator[Unit], rule: BatchRule) -> Iterator[Item]:
        seen = SeenTexts()
        self._originals.load(seen)
        chunks = _chunks(self._plan, units, self._work.config.on_error)
        yield from batches(chunks, rule, seen.first, self._work.refused)

    async def _feed(self, dispatcher: Dispatcher[Batch], source: Iterator[Item], reader: Executor) -> None:
        loop = asyncio.get_running_loop()
        while (item := await loop.run_in_executor(reader, next, source, None)) is not None:
            buffer = await self._buffer(item.unit)
            if isinstance(item, Batch):
                buffer.expect()
                await self._room.ease()
                await dispatcher.put(item)
                self._text_bytes[item.unit.number] += item.bytes
            elif isinstance(item, Copies):
                buffer.add_copies(item)
                self._progress.advance(len(item.rows))
            else:
                buffer.finish_reading(item.rejects)
                self._progress.advance(len(item.rejects))
                self._check_complete(buffer)
        self._all_read = True
        self._changed.set()
        await forever()

    async def _buffer(self, unit: Unit) -> UnitBuffer:
        """Returns the buffer of a unit; for a new one waits until there is room."""
        if unit.number not in self._open:
            config = self._plan.config
            chunked = config.chunk_tokens > 0
            buffer = UnitBuffer(unit, self._plan.model.dim, config.vector_type, chunked=chunked)
            await self._room.open(unit.number, buffer.size)
            self._open[unit.number] = buffer
        return self._open[unit.number]

    def _take(self, batch: Batch, answer: Answer) -> None:
        buffer = self._open[batch.unit.number]
        buffer.add(batch, answer)
        check_growth(self._flow, batch.unit.number, buffer.size)
        self._room.hold(batch.unit.number, buffer.size)
        self._progress.advance(len(batch.rows))
        self._check_complete(buffer)

    def _check_complete(self, buffer: UnitBuffer) -> None:
        if buffer.complete:
            self._complete[buffer.unit.number] = self._originals.needed(buffer)
            self._changed.set()

    async def _commit(self, writer: Executor) -> None:
        """Commits units as they become complete; returns when all that were drawn are."""
        loop = asyncio.get_running_loop()
        while self._open or not self._all_read:
            ready = next(
                (one for one, needed in self._complete.items() if not needed & self._open.keys()), None
            )
            if ready is None:
                self._changed.clear()
                await self._changed.wait()
                continue
            del self._complete[ready]
            await loop.run_in_executor(writer, partial(self._finish, self._open[ready]))
            del self._open[ready]
            await self._room.close(ready)

    def _finish(self, buffer: UnitBuffer) -> None:
        """Commits a unit; runs in the writer's thread."""
        number = buffer.unit.number
        reused = self._originals.fill(buffer)
        receipt = write_unit(self._work.layout, self._plan, buffer)
        self._receipts[number] = receipt
        self.commits.append(Commit(receipt, reused, self._text_bytes.pop(number, 0)))
        self._on_commit(self.commits[-1])
