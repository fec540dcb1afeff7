"""Embeds units and commits them.

One thread reads inputs, one writes units; the asyncio loop between them moves batches and answers.
Guarantees: a unit is committed once all its rows have answers; whatever ends the run, a commit that began is
finished or leaves nothing that counts; memory is bounded by the bytes in flight and the open units.
"""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter

from rich.console import Console

from indexer.client import Access, Options, Pool, VectorType
from indexer.client.answers import Answer
from indexer.client.dispatch import Dispatcher
from indexer.client.flow import forever, race
from indexer.config import FlowConfig, RunConfig
from indexer.documents import Batch, BatchRule, Chunk, UnitRead, batches, count_reasons
from indexer.embedding.unit import UnitBuffer
from indexer.errors import GaveUpError, ModelMismatchError, PoolError, StoppedError
from indexer.inputs import parquet
from indexer.plan import Plan, Unit
from indexer.progress import Stage
from indexer.store.durable import make_folder
from indexer.store.layout import Layout
from indexer.store.ledger import Receipt, commit_unit, sha256
from indexer.store.unit_file import rejects_bytes, unit_bytes


@dataclass(frozen=True)
class Embedded:
    """What `embed_units` did.

    Attributes:
        receipts: Of the units that it committed, by number.
        reused: Documents whose vectors, or whose refusal, were copied from another with the same text.
    """

    receipts: dict[int, Receipt]
    reused: int


def embed_units(
    config: RunConfig,
    layout: Layout,
    plan: Plan,
    pools: Mapping[str, Pool],
    access: Access,
    units: Iterator[Unit],
    committed: Mapping[int, Receipt],
    console: Console,
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

    Raises:
        IndexerError: An input, a pool or the file system failed; units committed before stay.
        StoppedError: SIGINT or SIGTERM came.
    """
    for folder in (layout.units, layout.rejects):
        make_folder(folder)
    done = sum(receipt.unit.rows for receipt in committed.values())
    with Stage(console, "embedding", plan.rows, done=done) as stage:
        if done:
            stage.log(f"going on: {done:,} of {plan.rows:,} rows are committed already")
        work = _Embedding(config.flow, layout, plan, stage)
        try:
            asyncio.run(work.run(pools, access, units))
        except GaveUpError as error:
            raise PoolError(
                f"gave up after {error.seconds:g} s without an answer (--retry-seconds): {error.reasons}. "
                "What is committed is kept: start the worker again and run the same command to go on"
            ) from error
        return Embedded(work.receipts, 0)


def plan_dispatcher(
    plan: Plan,
    targets: Sequence[str],
    access: Access,
    flow: FlowConfig,
    on_answer: Callable[[Batch, Answer], None],
    log: Callable[[str], None],
) -> Dispatcher[Batch]:
    """Returns a dispatcher whose answers are vectors of a plan's model, in its type."""

    def check(target: str, fingerprint: str) -> None:
        if fingerprint != plan.model.fingerprint:
            raise ModelMismatchError(
                f"worker {target} serves model {fingerprint[:12]}, the index holds {plan.model.label()}: "
                "start the right worker, or build a new index"
            )

    options = Options(vector_type=VectorType(plan.config.vector_type.value))
    return Dispatcher(targets, access, check, plan.model.dim, options, flow, on_answer, log)


def batch_rule(flow: FlowConfig, pools: Mapping[str, Pool]) -> BatchRule:
    """Returns what every one of the pools takes as a batch."""
    return BatchRule(
        items=min(flow.batch_items, *(pool.max_batch_items for pool in pools.values())),
        bytes=min(flow.batch_bytes, *(pool.max_batch_bytes for pool in pools.values())),
        text_bytes=min(min(pool.max_text_bytes, pool.max_batch_bytes) for pool in pools.values()),
    )


def read_batches(plan: Plan, units: Iterable[Unit], rule: BatchRule) -> Iterator[Batch | UnitRead]:
    """Yields the batches of units, which are in order; raises InputError."""
    return batches(_chunks(plan, units), rule)


def _chunks(plan: Plan, units: Iterable[Unit]) -> Iterator[Chunk]:
    for number, of_file in groupby(units, key=attrgetter("file")):
        yield from parquet.read_chunks(
            plan.inputs[number], plan.config.id_column, plan.config.text_columns, of_file
        )


class _Embedding:
    def __init__(self, flow: FlowConfig, layout: Layout, plan: Plan, stage: Stage) -> None:
        self.receipts: dict[int, Receipt] = {}
        self._flow, self._layout, self._plan, self._stage = flow, layout, plan, stage
        self._buffers: dict[int, UnitBuffer] = {}
        self._complete: asyncio.Queue[UnitBuffer | None] = asyncio.Queue()
        self._all_read = False
        self._room = asyncio.Semaphore(flow.open_units)

    async def run(self, pools: Mapping[str, Pool], access: Access, units: Iterator[Unit]) -> None:
        dispatcher = plan_dispatcher(self._plan, list(pools), access, self._flow, self._take, self._stage.log)
        source = read_batches(self._plan, units, batch_rule(self._flow, pools))
        # Leaving the block waits for both threads: a commit that began is finished.
        with ThreadPoolExecutor(1, "read") as reader, ThreadPoolExecutor(1, "write") as writer:
            try:
                async with _stoppable():
                    await race(
                        dispatcher.run(),
                        self._feed(dispatcher, source, reader),
                        self._commit(writer),
                    )
            finally:
                reader.submit(source.close)  # type: ignore[attr-defined]  # it is a generator

    async def _feed(
        self, dispatcher: Dispatcher[Batch], source: Iterator[Batch | UnitRead], reader: Executor
    ) -> None:
        loop = asyncio.get_running_loop()
        while (item := await loop.run_in_executor(reader, next, source, None)) is not None:
            buffer = await self._buffer(item.unit)
            if isinstance(item, Batch):
                buffer.expect()
                await dispatcher.put(item)
            else:
                buffer.finish_reading(item.rejects)
                self._stage.advance(len(item.rejects))
                self._check_complete(buffer)
        self._all_read = True
        self._check_done()
        await forever()

    async def _buffer(self, unit: Unit) -> UnitBuffer:
        """Returns the buffer of a unit; for a new one waits until few enough are open."""
        if unit.number not in self._buffers:
            await self._room.acquire()
            self._buffers[unit.number] = UnitBuffer(unit, self._plan.model.dim, self._plan.config.vector_type)
        return self._buffers[unit.number]

    def _take(self, batch: Batch, answer: Answer) -> None:
        buffer = self._buffers[batch.unit.number]
        buffer.add(batch, answer)
        self._stage.advance(len(batch.rows))
        self._check_complete(buffer)

    def _check_complete(self, buffer: UnitBuffer) -> None:
        if buffer.complete:
            self._complete.put_nowait(self._buffers.pop(buffer.unit.number))
            self._check_done()

    def _check_done(self) -> None:
        if self._all_read and not self._buffers:
            self._complete.put_nowait(None)

    async def _commit(self, writer: Executor) -> None:
        """Commits units as they become complete; returns when all that were drawn are."""
        loop = asyncio.get_running_loop()
        while (buffer := await self._complete.get()) is not None:
            receipt = await loop.run_in_executor(writer, write_unit, self._layout, self._plan, buffer)
            self.receipts[buffer.unit.number] = receipt
            self._room.release()


def write_unit(layout: Layout, plan: Plan, buffer: UnitBuffer) -> Receipt:
    """Commits a complete unit; raises StorageError."""
    table, rejects = buffer.table(), buffer.rejects()
    unit_file = unit_bytes(table, plan.model)
    rejects_file = rejects_bytes(rejects) if rejects else b""
    receipt = Receipt(
        unit=buffer.unit,
        fingerprint=plan.model.fingerprint,
        vectors=len(table.rows),
        rejects=count_reasons(rejects),
        tokens=int(table.token_counts.sum()),
        truncated=int(table.truncated.sum()),
        unit_sha256=sha256(unit_file),
        unit_bytes=len(unit_file),
        rejects_sha256=sha256(rejects_file) if rejects else "",
        rejects_bytes=len(rejects_file),
    )
    commit_unit(layout, receipt, unit_file, rejects_file)
    return receipt


@asynccontextmanager
async def _stoppable() -> AsyncIterator[None]:
    """Turns SIGINT and SIGTERM into StoppedError, raised where the block waits."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    came: list[int] = []

    def stop(number: int) -> None:
        came.append(number)
        if task is not None:
            task.cancel()

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        loop.add_signal_handler(number, stop, number)
    try:
        yield
    except asyncio.CancelledError as error:
        if came:
            raise StoppedError(came[0]) from error
        raise
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)
