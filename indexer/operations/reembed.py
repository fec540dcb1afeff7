"""Embeds a sample of an index's documents once more and compares: do the pool and the index agree?"""

import asyncio
from collections.abc import Mapping, Sequence

import numpy as np

from indexer.client import Access, Pool
from indexer.client.answers import Answer
from indexer.client.flow import race
from indexer.config import FlowConfig, VectorType
from indexer.documents import Batch
from indexer.embedding.pools import batch_rule, plan_dispatcher
from indexer.embedding.units import read_batches
from indexer.errors import ModelMismatchError, StoreError
from indexer.operations.verify import Standing
from indexer.plan import Plan, Unit
from indexer.store.unit_file import read_unit

_SEED = 7  # of the sample; arbitrary

# The cosine that two embeddings of one text must reach: only rounding on the way may part them.
LEAST_COSINE = {VectorType.FLOAT32: 0.9999, VectorType.FLOAT16: 0.999}


def check_sample(index: Standing, pools: Mapping[str, Pool], access: Access, size: int) -> str:
    """Compares `size` stored vectors with fresh ones; returns what was compared.

    Raises:
        ModelMismatchError: The pool serves another model.
        StoreError: A vector differs.
        InputError: An input changed or is gone.
    """
    model = next(iter(pools.values())).model
    if model.fingerprint != index.plan.model.fingerprint:
        raise ModelMismatchError(
            f"the index holds vectors of model {index.plan.model.label()}, the pool serves {model.label()}"
        )
    flow = FlowConfig()
    batches = [item for item in _sampled(index, size, pools, flow) if isinstance(item, Batch)]
    answers = asyncio.run(_embed(index.plan, list(pools), access, batches, flow))
    cosines = [_cosine(index, batch, answers[batch.number]) for batch in batches]
    least = LEAST_COSINE[index.plan.config.vector_type]
    for batch, cosine in zip(batches, cosines, strict=True):
        if not cosine >= least:
            raise StoreError(
                f"document '{batch.doc_ids[0]}': its vector and a fresh one have cosine {cosine:.5f}, "
                f"wanted {least}"
            )
    return f"{len(batches)} documents embedded again, least cosine {min(cosines, default=1.0):.6f}"


def _sampled(index: Standing, size: int, pools: Mapping[str, Pool], flow: FlowConfig) -> list[object]:
    """Returns batches of one document each, drawn evenly over all vectors."""
    count = sum(receipt.vectors for receipt in index.receipts)
    drawn = np.random.default_rng(_SEED).choice(count, min(size, count), replace=False, shuffle=False)
    drawn.sort()
    rows: list[Unit] = []
    passed = 0
    for receipt in index.receipts:
        inside = drawn[(drawn >= passed) & (drawn < passed + receipt.vectors)] - passed
        if inside.size:
            unit = receipt.unit
            stored = read_unit(index.layout.unit(unit.number)).rows
            rows += [
                Unit(unit.number, unit.file, int(row), 1, unit.base + int(row) - unit.start)
                for row in stored[inside]
            ]
        passed += receipt.vectors
    return list(read_batches(index.plan, rows, batch_rule(flow, pools)))


async def _embed(
    plan: Plan, targets: Sequence[str], access: Access, batches: Sequence[Batch], flow: FlowConfig
) -> dict[int, Answer]:
    answers: dict[int, Answer] = {}
    done = asyncio.Event()

    def take(batch: Batch, answer: Answer) -> None:
        answers[batch.number] = answer
        if len(answers) == len(batches):
            done.set()

    dispatcher = plan_dispatcher(plan, targets, access, flow, take, lambda _: None)

    async def feed() -> None:
        for batch in batches:
            await dispatcher.put(batch)
        await done.wait()

    if batches:
        await race(dispatcher.run(), feed())
    return answers


def _cosine(index: Standing, batch: Batch, answer: Answer) -> float:
    """Returns the cosine of old and fresh vector of a batch's only text; NaN without a fresh one."""
    if not answer.good.size:
        return float("nan")
    stored = read_unit(index.layout.unit(batch.unit.number), vectors=True)
    position = int(np.searchsorted(stored.rows, batch.rows[0]))
    old, new = stored.vectors[position].astype(np.float64), answer.vectors[0].astype(np.float64)
    return float(old @ new / np.sqrt((old @ old) * (new @ new)))
