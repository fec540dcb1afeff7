"""Embeds units and commits them.

One thread reads inputs, one writes units; the asyncio loop between them moves batches and answers.
Guarantees: a unit is committed once all its rows have answers; whatever ends the run, a commit that began is
finished or leaves nothing that counts; memory is bounded by the bytes in flight and those of open units; a
text is embedded once. A unit that copies from another waits until that is committed: it was read before, so
the oldest open unit never waits, and work goes on.
"""

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from operator import attrgetter
from types import MappingProxyType

from rich.console import Console

from indexer.client import Access, Pool
from indexer.client.answers import Answer
from indexer.client.dispatch import Dispatcher
from indexer.client.flow import forever, race
from indexer.config import OnError, RunConfig
from indexer.documents import Batch, Chunk, Copies
from indexer.embedding.batches import BatchRule, Item, batches
from indexer.embedding.commit import Originals, write_unit
from indexer.embedding.memory import check_growth, check_unit_memory, open_limit
from indexer.embedding.pools import batch_rule, check_chunking, plan_dispatcher
from indexer.embedding.reuse import SeenTexts
from indexer.embedding.room import Room
from indexer.embedding.stopping import stoppable
from indexer.embedding.unit import UnitBuffer
from indexer.errors import GaveUpError, PoolError
from indexer.inputs import parquet
from indexer.plan import Plan, Unit
from indexer.progress import Observer, Stage
from indexer.store.durable import make_folder
from indexer.store.layout import Layout
from indexer.store.ledger import Receipt


@dataclass(frozen=True)
class Embedded:
    """What `embed_units` did.

    Attributes:
        receipts: Of the units that it committed, by number.
        reused: Documents whose vectors, or whose refusal, were copied from another with the same text.
        text_bytes: Bytes of text that were sent to the pools.
    """

    receipts: dict[int, Receipt]
    reused: int
    text_bytes: int


def embed_units(
    config: RunConfig,
    layout: Layout,
    plan: Plan,
    pools: Mapping[str, Pool],
    access: Access,
    units: Iterator[Unit],
    committed: Mapping[int, Receipt],
    console: Console,
    refused: Mapping[int, str] = MappingProxyType({}),
    observer: Observer | None = None,
) -> Embedded:
    """Embeds units with the pools, by address, and commits them.

    Args:
        config: How documents flow.
        layout: Where the units lie.
        plan: The plan that they are of.
        pools: What embeds, by address.
        access: What opens the pools.
        units: Units to embed, in the order of the plan. Each is drawn, in a thread, when the one before was
            read, and all that were drawn are committed before this returns; so it may claim units as they
            are drawn. It ends when there is none to take now, and never blocks.
        committed: Receipts of the units that stand, by number.
        console: Where to show how far it is.
        refused: Row ids of rows that are rejects whatever they hold, and why.
        observer: Told how far it is.

    Raises:
        IndexerError: An input, a pool or the file system failed; units committed before stay.
        StoppedError: SIGINT or SIGTERM came.
    """
    largest = max((unit.rows for unit in plan.units), default=0)
    check_unit_memory(config.flow, plan.config, largest, plan.model.dim)
    check_chunking(plan.config, pools)
    for folder in (layout.units, layout.rejects):
        make_folder(folder)
    done = sum(receipt.unit.rows for receipt in committed.values())
    with Stage(console, "embedding", plan.rows, done=done, observer=observer) as stage:
        if done:
            stage.log(f"going on: {done:,} of {plan.rows:,} rows are committed already")
        work = _Embedding(config, layout, plan, committed, stage)
        try:
            asyncio.run(work.run(pools, access, units, refused))
        except GaveUpError as error:
            raise PoolError(
                f"gave up after {error.seconds:g} s without an answer (--retry-seconds): {error.reasons}. "
                "What is committed is kept: start the worker again and run the same command to go on"
            ) from error
        fresh = {number: work.receipts[number] for number in work.fresh}
        return Embedded(fresh, work.reused, work.text_bytes)


def read_batches(plan: Plan, units: Iterable[Unit], rule: BatchRule) -> Iterator[Item]:
    """Yields the batches of units, which are in order; raises InputError."""
    return batches(_chunks(plan, units, OnError.STOP), rule)


def _chunks(plan: Plan, units: Iterable[Unit], on_error: OnError) -> Iterator[Chunk]:
    config = plan.config
    for number, of_file in groupby(units, key=attrgetter("file")):
        yield from parquet.read_chunks(
            plan.inputs[number], config.id_column, config.text_columns, of_file, on_error
        )


class _Embedding:
    """One call of `embed_units`.

    Attributes:
        receipts: Of all units that are committed, by number.
        fresh: Numbers of those that were committed here.
        reused: Documents that were copied.
        text_bytes: Bytes of text that were sent.
    """

    def __init__(
        self, config: RunConfig, layout: Layout, plan: Plan, committed: Mapping[int, Receipt], stage: Stage
    ) -> None:
        self.receipts = dict(committed)
        self.fresh: list[int] = []
        self.reused = self.text_bytes = 0
        self._flow, self._layout, self._plan, self._stage = config.flow, layout, plan, stage
        self._on_error = config.on_error
        self._originals = Originals(layout, plan, self.receipts, config.flow)
        self._room = Room(config.flow.open_units, open_limit(config.flow))
        self._open: dict[int, UnitBuffer] = {}
        self._complete: dict[int, set[int]] = {}  # units that wait for their commit: what they copy from
        self._changed = asyncio.Event()
        self._all_read = False

    async def run(
        self, pools: Mapping[str, Pool], access: Access, units: Iterator[Unit], refused: Mapping[int, str]
    ) -> None:
        dispatcher = plan_dispatcher(self._plan, pools, access, self._flow, self._take, self._stage.log)
        source = self._items(units, batch_rule(self._flow, pools), refused)
        # Leaving the block waits for both threads: a commit that began is finished.
        with ThreadPoolExecutor(1, "read") as reader, ThreadPoolExecutor(1, "write") as writer:
            try:
                async with stoppable():
                    await race(dispatcher.run(), self._feed(dispatcher, source, reader), self._commit(writer))
            finally:
                reader.submit(source.close)  # type: ignore[attr-defined]  # it is a generator

    def _items(self, units: Iterator[Unit], rule: BatchRule, refused: Mapping[int, str]) -> Iterator[Item]:
        seen = SeenTexts()
        self._originals.load(seen)
        yield from batches(_chunks(self._plan, units, self._on_error), rule, seen.first, refused)

    async def _feed(self, dispatcher: Dispatcher[Batch], source: Iterator[Item], reader: Executor) -> None:
        loop = asyncio.get_running_loop()
        while (item := await loop.run_in_executor(reader, next, source, None)) is not None:
            buffer = await self._buffer(item.unit)
            if isinstance(item, Batch):
                buffer.expect()
                await self._room.ease()
                await dispatcher.put(item)
                self.text_bytes += item.bytes
            elif isinstance(item, Copies):
                buffer.add_copies(item)
                self._stage.advance(len(item.rows))
            else:
                buffer.finish_reading(item.rejects)
                self._stage.advance(len(item.rejects))
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
        self._stage.advance(len(batch.rows))
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
        self.receipts[number] = write_unit(self._layout, self._plan, buffer)
        self.fresh.append(number)
        self.reused += reused
