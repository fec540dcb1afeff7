"""The road of a run: plan, embed every unit that is not committed, build the FAISS index.

Threads: one reads inputs, one writes units; the asyncio loop between them moves batches and answers.
Guarantees: a unit is committed once all its rows have answers; whatever ends the run, a commit that began
is finished or leaves nothing that counts; memory is bounded by bytes in flight and open units.
"""

import asyncio
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby

from rich.console import Console

from indexer import generations, index_rule, inputs, parquet
from indexer.client import describe
from indexer.config import RunConfig
from indexer.dispatch import Dispatcher
from indexer.documents import Batch, BatchRule, Chunk, UnitRead, batches, count_reasons
from indexer.durable import exclusive
from indexer.errors import ModelMismatchError, PoolError, StoppedError
from indexer.flow import race
from indexer.generations import Generation
from indexer.layout import Layout
from indexer.ledger import (
    Receipt,
    check_same,
    claim_folder,
    commit_unit,
    committed,
    freeze_plan,
    load_plan,
    sha256,
)
from indexer.plan import Plan, Unit, make_plan
from indexer.progress import Stage
from indexer.unit import Answer, UnitBuffer
from indexer.unit_file import rejects_bytes, unit_bytes
from indexer.wire import Pool


@dataclass(frozen=True)
class Summary:
    """What a run did and what stands now.

    Attributes:
        plan: The plan of the index.
        receipts: Of every unit, in order.
        generation: The FAISS index in use.
        embedded: Documents that this run embedded; the others were there.
        seconds: Wall time of each stage, by name.
    """

    plan: Plan
    receipts: tuple[Receipt, ...]
    generation: Generation
    embedded: int
    seconds: dict[str, float]


def run_index(config: RunConfig, targets: Sequence[str], console: Console) -> Summary:
    """Makes or completes an index with the pools at `targets`.

    Raises:
        IndexerError: Any of the tree in `errors`; what was committed stays, and the same call goes on.
    """
    seconds: dict[str, float] = {}
    layout = Layout(config.output.absolute())
    paths = inputs.resolve(config.inputs)
    claim_folder(layout.root)
    with exclusive(layout.lock):
        with _timed(seconds, "plan"):
            files = inputs.describe(paths, config.plan)
            pools = reach(targets, config.flow.connect_seconds, console)
            plan = make_plan(files, config.plan, next(iter(pools.values())).model)
            _freeze(layout, plan)
            receipts = committed(layout, plan)
        missing = [unit for unit in plan.units if unit.number not in receipts]
        before = sum(receipt.vectors for receipt in receipts.values())
        if missing:
            with _timed(seconds, "embed"):
                _Embedding(config, layout, plan, receipts, console).run(pools, missing)
        ordered = tuple(receipts[unit.number] for unit in plan.units)
        with _timed(seconds, "index"):
            generation = _generation(layout, plan, ordered, config.index_key, console)
        embedded = sum(receipt.vectors for receipt in ordered) - before
        return Summary(plan, ordered, generation, embedded, seconds)


class _timed:  # noqa: N801 - reads as a word of the language
    """Notes how long a block took."""

    def __init__(self, seconds: dict[str, float], name: str) -> None:
        self._seconds, self._name = seconds, name

    def __enter__(self) -> None:
        self._start = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._seconds[self._name] = time.monotonic() - self._start


def reach(targets: Sequence[str], wait_seconds: float, console: Console) -> dict[str, Pool]:
    """Returns the pools that answer, by address; all serve one model.

    Raises:
        PoolError: None answers.
        ModelMismatchError: Two serve different models.
    """
    pools: dict[str, Pool] = {}
    errors = []
    for target in targets:
        try:
            pools[target] = describe(target, wait_seconds)
        except PoolError as error:
            errors.append(error)
            console.print(f"warning: {error}", markup=False, highlight=False, soft_wrap=True)
    if not pools:
        raise errors[0]
    (first, pool), *others = pools.items()
    for target, other in others:
        if other.model.fingerprint != pool.model.fingerprint:
            raise ModelMismatchError(
                f"worker {first} serves model {pool.model.label()} and worker {target} serves "
                f"{other.model.label()}; all must serve one model"
            )
    return pools


def _freeze(layout: Layout, plan: Plan) -> None:
    """Writes the plan the first time, after a look at all ids; later compares it."""
    if layout.plan.exists():
        check_same(layout, load_plan(layout), plan)
    else:
        inputs.check_ids(plan)
        freeze_plan(layout, plan)


def _generation(
    layout: Layout, plan: Plan, receipts: Sequence[Receipt], key: str, console: Console
) -> Generation:
    """Returns the FAISS index of these units, building it unless it stands."""
    standing = generations.current(layout)
    if standing is not None and generations.is_fresh(standing, receipts, key):
        return standing
    count = sum(receipt.vectors for receipt in receipts)
    choice = index_rule.choose_key(key, count)
    console.print(choice.reason, markup=False, highlight=False, soft_wrap=True)
    with Stage(console, "indexing", count, noun="vectors") as stage:
        return generations.build(layout, plan, receipts, choice.key, stage.advance)


class _Embedding:
    """Embeds and commits units; adds to `receipts` what it committed."""

    def __init__(
        self, config: RunConfig, layout: Layout, plan: Plan, receipts: dict[int, Receipt], console: Console
    ) -> None:
        self._config, self._layout, self._plan, self._receipts = config, layout, plan, receipts
        self._console = console
        self._buffers: dict[int, UnitBuffer] = {}
        self._commits: set[asyncio.Task[None]] = set()
        self._stage = Stage(console, "", 0)

    def run(self, pools: dict[str, Pool], missing: Sequence[Unit]) -> None:
        """Embeds units; raises IndexerError, StoppedError on SIGINT or SIGTERM."""
        done = sum(receipt.unit.rows for receipt in self._receipts.values())
        with Stage(self._console, "embedding", self._plan.rows, done=done) as self._stage:
            if done:
                self._stage.log(f"going on: {done:,} of {self._plan.rows:,} rows are committed already")
            asyncio.run(self._run(pools, missing))

    async def _run(self, pools: dict[str, Pool], missing: Sequence[Unit]) -> None:
        for folder in (self._layout.units, self._layout.rejects):
            make_folder(folder)
        dispatcher = Dispatcher(
            list(pools), self._plan.model, self._plan.config.vector_type, self._config.flow,
            self._take, self._stage.log,
        )  # fmt: skip
        self._open = asyncio.Semaphore(self._config.flow.open_units)
        with ThreadPoolExecutor(1, "read") as reader, ThreadPoolExecutor(1, "write") as self._writer:
            async with _stoppable():
                await race(dispatcher.run(), self._feed(dispatcher, pools, missing, reader))
