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
from indexer.operations.check_inputs import why_not_compared
from indexer.operations.standing import Standing
from indexer.plan import Plan, Unit
from indexer.store.liveness import documents
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
    answers = asyncio.run(_embed(index.plan, pools, access, batches, flow))
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
    """Returns batches of one document each, drawn evenly over all whose inputs are as they were."""
    superseded = index.plan.superseded()
    there = {
        number
        for number, file in enumerate(index.plan.inputs)
        if number not in superseded and not why_not_compared(file)
    }
    receipts = [receipt for receipt in index.receipts if receipt.unit.file in there]
    count = sum(receipt.documents for receipt in receipts)
    drawn = np.random.default_rng(_SEED).choice(count, min(size, count), replace=False, shuffle=False)
    drawn.sort()
    rows: list[Unit] = []
    passed = 0
    for receipt in receipts:
        inside = drawn[(drawn >= passed) & (drawn < passed + receipt.documents)] - passed
        if inside.size:
            unit = receipt.unit
            ids = documents(index.layout, receipt).rows[inside]
            rows += [
                Unit(unit.number, unit.file, row - unit.base + unit.start, 1, row) for row in ids.tolist()
            ]
        passed += receipt.documents
    return list(read_batches(index.plan, rows, batch_rule(flow, pools)))


async def _embed(
    plan: Plan, pools: Mapping[str, Pool], access: Access, batches: Sequence[Batch], flow: FlowConfig
) -> dict[int, Answer]:
    answers: dict[int, Answer] = {}
    done = asyncio.Event()

    def take(batch: Batch, answer: Answer) -> None:
        answers[batch.number] = answer
        if len(answers) == len(batches):
            done.set()

    dispatcher = plan_dispatcher(plan, pools, access, flow, take, lambda _: None)

    async def feed() -> None:
        for batch in batches:
            await dispatcher.put(batch)
        await done.wait()

    if batches:
        await race(dispatcher.run(), feed())
    return answers


def _cosine(index: Standing, batch: Batch, answer: Answer) -> float:
    """Returns the least cosine of old and fresh vectors of a batch's document; NaN where one is missing."""
    revision = next(one.revision for one in index.receipts if one.unit.number == batch.unit.number)
    stored = read_unit(index.layout.unit(batch.unit.number, revision), vectors=True)
    old = stored.vectors[stored.rows == batch.rows[0]].astype(np.float64)
    new = answer.vectors.astype(np.float64)
    if not len(new) or old.shape != new.shape:
        return float("nan")
    products = np.einsum("ij,ij->i", old, new)
    return float(np.min(products / np.linalg.norm(old, axis=1) / np.linalg.norm(new, axis=1)))
