"""The road of a run: plan, embed every unit that is not committed, build the FAISS index."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console

from indexer.client import Access, Pool, describe
from indexer.config import RunConfig
from indexer.embedding.memory import check_unit_memory
from indexer.embedding.pools import check_chunking
from indexer.embedding.units import embed_units
from indexer.errors import ModelMismatchError, PoolError
from indexer.index import generations, index_rule, measure
from indexer.index.generations import Generation
from indexer.index.measure import Built
from indexer.inputs import files as inputs
from indexer.plan import Plan, make_plan
from indexer.progress import Stage, say
from indexer.store.durable import exclusive
from indexer.store.layout import Layout
from indexer.store.ledger import Receipt, check_same, claim_folder, committed, freeze_plan, load_plan


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


def run_index(config: RunConfig, targets: Sequence[str], access: Access, console: Console) -> Summary:
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
            files, _ = inputs.describe(paths, config.plan)
            wait_seconds = min(config.flow.connect_seconds, config.flow.retry_seconds)
            pools = reach(targets, access, wait_seconds, console)
            plan = make_plan(files, config.plan, next(iter(pools.values())).model)
            # Now, and not after hours of embedding: is there an index for so many rows that fits?
            index_rule.choose_key(config.index_key, plan.rows, plan.model.dim, config.wishes)
            largest = max((unit.rows for unit in plan.units), default=0)
            check_unit_memory(config.flow, config.plan, largest, plan.model.dim)
            check_chunking(config.plan, pools)
            _freeze(layout, plan)
            receipts = committed(layout, plan)
        missing = [unit for unit in plan.units if unit.number not in receipts]
        before = sum(receipt.vectors for receipt in receipts.values())
        if missing:
            with _timed(seconds, "embed"):
                done = embed_units(config, layout, plan, pools, access, iter(missing), receipts, console)
                receipts.update(done.receipts)
        ordered = tuple(receipts[unit.number] for unit in plan.units)
        with _timed(seconds, "index"):
            generation = _generation(layout, plan, ordered, config, console)
        embedded = sum(receipt.vectors for receipt in ordered) - before
        return Summary(plan, ordered, generation, embedded, seconds)


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    start = time.monotonic()
    yield
    seconds[name] = time.monotonic() - start


def reach(targets: Sequence[str], access: Access, wait_seconds: float, console: Console) -> dict[str, Pool]:
    """Returns the pools that answer, by address; all serve one model.

    Raises:
        PoolError: None answers.
        ModelMismatchError: Two serve different models.
    """
    pools: dict[str, Pool] = {}
    errors = []
    for target in targets:
        try:
            pools[target] = describe(target, access, wait_seconds)
        except PoolError as error:
            errors.append(error)
    if not pools:
        raise errors[0]
    for unreached in errors:
        say(console, f"warning: {unreached}")
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
    layout: Layout, plan: Plan, receipts: tuple[Receipt, ...], config: RunConfig, console: Console
) -> Generation:
    """Returns the FAISS index of these units, built and tuned unless it stands.

    Raises:
        BuildError: It stands, but does not meet the wishes.
    """
    standing = generations.current(layout)
    if standing is None or not generations.is_fresh(standing, receipts, config.index_key, config.wishes):
        count = sum(receipt.vectors for receipt in receipts)
        choice = generations.choose(standing, count, plan.model.dim, config.index_key, config.wishes)
        say(console, choice.reason)
        with Stage(console, "indexing", count, noun="vectors") as stage:
            standing = generations.update(
                layout, plan, receipts, generations.NO_DEAD, choice.key, stage.advance,
                build_memory=config.wishes.build_memory_bytes,
            )  # fmt: skip
    if config.wishes.tuned and standing.meta.count:
        standing = measure.tune(Built(layout, plan, receipts, standing), config.wishes, console)
        measure.check_met(standing)
    return standing
