"""The road of a run: plan, embed every unit that is not committed, build the FAISS index.

Guarantees: several runs may work on one index at once; each unit is embedded by one of them, and all end when
the index is complete. Planning and building are done by one at a time.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console

from indexer.client import Pool
from indexer.config import RunConfig
from indexer.embedding.memory import check_unit_memory
from indexer.embedding.pools import check_chunking
from indexer.embedding.work import Embedded, Work
from indexer.engines.engine import Engine
from indexer.index import generations, index_rule, measure
from indexer.index.generations import Generation
from indexer.index.measure import Built
from indexer.index.unit_vectors import living
from indexer.inputs import files as inputs
from indexer.inputs.files import SkippedFile
from indexer.operations import planning
from indexer.operations.planning import Asked, Planned
from indexer.operations.standing import Standing, check_none_lost
from indexer.plan import Plan
from indexer.progress import Observer, Stage, say
from indexer.store.layout import Layout
from indexer.store.ledger import Receipt, claim_folder, committed
from indexer.store.liveness import dead_rows
from indexer.store.lock import RUN, Holder, exclusive, shared


@dataclass(frozen=True)
class Summary:
    """What a run did and what stands now.

    Attributes:
        layout: Where the index lies.
        plan: The plan of the index.
        receipts: Of every unit, in order.
        generation: The FAISS index in use.
        embedded: Documents that this run embedded; the others were there.
        reused: Documents whose vectors were copied from another with the same text.
        text_bytes: Bytes of text that were sent to the pools.
        skipped: Inputs that could not be read and were left out.
        vanished: Inputs that are no longer named; their rows stay.
        seconds: Wall time of each stage, by name.
    """

    layout: Layout
    plan: Plan
    receipts: tuple[Receipt, ...]
    generation: Generation
    embedded: int
    reused: int
    text_bytes: int
    skipped: tuple[SkippedFile, ...]
    vanished: tuple[str, ...]
    seconds: dict[str, float]

    @property
    def documents(self) -> int:
        """Documents that can be found."""
        return sum(receipt.documents for receipt in self.receipts) - self.generation.meta.dead


def run_index(
    config: RunConfig, engine: Engine, console: Console, observer: Observer | None = None
) -> Summary:
    """Makes, completes or updates an index; `observer` is told how far it is.

    Raises:
        IndexerError: Any of the tree in `errors`; what was committed stays, and the same call goes on.
    """
    seconds = {"plan": 0.0, "embed": 0.0, "index": 0.0}
    layout = Layout(config.output.absolute())
    with _timed(seconds, "plan"):
        paths = inputs.resolve(config.inputs)
        claim_folder(layout.root)
        files, skipped = inputs.describe(paths, config.plan, config.on_error)
        for file in skipped:
            say(console, f"warning: left out: {file.reason}")
        pools = engine.reach(layout, config.flow, console)
        asked = Asked(config, tuple(files), tuple(skipped), next(iter(pools.values())).model)
    return _Run(asked, layout, engine, pools, console, observer, seconds).to_the_end()


class _Run:
    def __init__(
        self,
        asked: Asked,
        layout: Layout,
        engine: Engine,
        pools: dict[str, Pool],
        console: Console,
        observer: Observer | None,
        seconds: dict[str, float],
    ) -> None:
        self._asked, self._config, self._root = asked, asked.config, layout
        self._engine, self._pools, self._console = engine, pools, console
        self._observer, self._seconds = observer, seconds
        self._done = Embedded()

    def to_the_end(self) -> Summary:
        """Goes round until nothing is missing: others may add to the plan, or leave units undone."""
        while True:
            with _timed(self._seconds, "plan"):
                planned = self._plan()
            with shared(planned.layout, RUN, self._wait), _timed(self._seconds, "embed"):
                self._embed(planned)
            with exclusive(planned.layout, RUN, self._wait), _timed(self._seconds, "index"):
                found = planning.standing(planned.layout, self._asked)
                if found is None:
                    continue
                receipts = committed(found.layout, found.plan)
                if len(receipts) == len(found.plan.units):
                    return self._summary(found, tuple(receipts[unit.number] for unit in found.plan.units))

    def _wait(self, holders: list[Holder]) -> None:
        say(self._console, f"waiting for {', '.join(map(str, holders)) or 'another process'}")

    def _plan(self) -> Planned:
        """Returns the plan that holds all that is asked for; writes it where it does not yet."""
        with shared(self._root, RUN, self._wait):
            layout = planning.edition_of(self._root, self._asked)
            found = planning.standing(layout, self._asked)
        if found is None:
            with exclusive(self._root, RUN, self._wait):
                layout = planning.edition_of(self._root, self._asked)
                found = planning.standing(layout, self._asked)
                if found is None:
                    self._check_feasible(layout)
                    found = planning.write(layout, self._asked)
        for path in found.vanished:
            say(self._console, f"{path} is no longer among the inputs; its documents stay")
        return found

    def _check_feasible(self, layout: Layout) -> None:
        """Now, and not after hours of embedding: does all that fit into memory, and do the pools do it?"""
        rows = sum(file.rows for file in self._asked.files)
        limit = self._config.plan.limit
        rows = rows if limit is None else min(rows, limit)
        dim = self._asked.model.dim
        index_rule.choose_key(self._config.index_key, rows, dim, self._config.wishes)
        largest = min(self._config.plan.unit_rows, max((file.rows for file in self._asked.files), default=0))
        check_unit_memory(self._config.flow, self._config.plan, largest, dim)
        check_chunking(self._config.plan, self._pools)

    def _embed(self, planned: Planned) -> None:
        """Embeds units until all of the plan are committed, by this run or by others."""
        layout, plan = planned.layout, planned.plan
        receipts = committed(layout, plan)
        missing = [unit for unit in plan.units if unit.number not in receipts]
        if not missing:
            return
        refused = planning.refused(plan, missing, self._asked)
        work = Work(self._config, layout, plan, receipts, refused)
        done = sum(receipt.unit.rows for receipt in receipts.values())
        with Stage(self._console, "embedding", plan.rows, done=done, observer=self._observer) as stage:
            if done:
                stage.log(f"going on: {done:,} of {plan.rows:,} rows are committed already")
            self._done += self._engine.embed(work, missing, stage)

    def _summary(self, planned: Planned, receipts: tuple[Receipt, ...]) -> Summary:
        generation = _generation(
            planned.layout, planned.plan, receipts, self._config, self._console, self._observer
        )
        return Summary(
            planned.layout,
            planned.plan,
            receipts,
            generation,
            self._done.documents,
            self._done.reused,
            self._done.text_bytes,
            self._asked.skipped,
            planned.vanished,
            self._seconds,
        )


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    start = time.monotonic()
    try:
        yield
    finally:
        seconds[name] = seconds.get(name, 0.0) + time.monotonic() - start


def _generation(
    layout: Layout,
    plan: Plan,
    receipts: tuple[Receipt, ...],
    config: RunConfig,
    console: Console,
    observer: Observer | None,
) -> Generation:
    """Returns the FAISS index of what is alive in these units, built and tuned unless it stands.

    Raises:
        BuildError: It stands, but does not meet the wishes.
        StoreError: A deletion or an addition is lost: what was deleted would come back.
    """
    standing = generations.current(layout)
    dead = dead_rows(layout, plan, receipts)
    check_none_lost(Standing(layout, plan, receipts), dead)
    if standing is None or not generations.is_fresh(
        standing, receipts, config.index_key, config.wishes, dead
    ):
        count = sum(receipt.vectors for receipt in receipts)
        alive = living(layout, receipts, dead)
        choice = generations.choose(standing, alive, plan.model.dim, config.index_key, config.wishes)
        say(console, choice.reason)
        with Stage(console, "indexing", count, noun="vectors", observer=observer) as stage:
            standing = generations.update(
                layout, plan, receipts, dead, choice.key, stage.advance,
                build_memory=config.wishes.build_memory_bytes,
            )  # fmt: skip
    if config.wishes.tuned and standing.meta.count:
        standing = measure.tune(Built(layout, plan, receipts, standing), config.wishes, console)
        measure.check_met(standing)
    return standing
