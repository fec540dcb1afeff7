"""Rewrites an index without its dead rows, and removes what nothing names.

Each step is durable and leaves an index that works: units are rewritten in rising order (see `liveness`),
each as a new file that its receipt names before the old one goes; then the FAISS index is built anew,
`CURRENT` swapped, and only then what nothing names is removed. Row ids stay. A compact that was killed at any
of these steps is ended by the same command, with the same bytes.
"""

from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from indexer.config import AUTO, Wishes
from indexer.index import generations, measure
from indexer.index.generations import Generation
from indexer.index.measure import Built
from indexer.index.shards import ids_between
from indexer.operations.leftovers import clear, clear_edition, left_editions, leftovers, size_of
from indexer.operations.standing import Standing, check_none_lost, open_complete, renew, vectors_of
from indexer.plan import Plan
from indexer.progress import Stage
from indexer.store.durable import remove, write_durable
from indexer.store.layout import Layout
from indexer.store.ledger import Receipt, sha256
from indexer.store.liveness import dead_rows
from indexer.store.lock import exclusive
from indexer.store.unit_file import Chunks, StoredUnit, UnitTable, read_unit, unit_bytes


@dataclass(frozen=True)
class Compacted:
    """What a compact did.

    Attributes:
        documents: Dead documents that were taken out.
        units: Units that were rewritten.
        rebuilt: Whether the FAISS index was built anew.
        freed: Bytes that the folder is smaller; negative where it grew.
        generation: The FAISS index in use.
    """

    documents: int
    units: int
    rebuilt: bool
    freed: int
    generation: Generation


def compact_index(root: Path, console: Console, asked_key: str, wishes: Wishes) -> Compacted:
    """Rewrites what holds dead rows, builds the FAISS index anew and removes what nothing names.

    Args:
        root: Folder of the index.
        console: Where to show how far it is.
        asked_key: A FAISS factory string or `auto`; "" keeps the key, unless there are wishes.
        wishes: What is asked of the FAISS index.

    Raises:
        ConfigError: No kind of index meets the wishes.
        BuildError: FAISS refused the key, or the index is whole but does not meet the wishes.
        StoreError: The index is in use, damaged or not complete, or the file system refused.
    """
    with exclusive(Layout(root.absolute()), "compact"):
        # Not before: a run that built another edition may have put it in use while this waited.
        layout = Layout.in_use(root.absolute())
        before = size_of(layout)
        index = open_complete(layout, "compact")
        dead = dead_rows(layout, index.plan, index.receipts)
        check_none_lost(index, dead)
        compacted = replace(index, receipts=_rewritten(index, dead, console))
        units = sum(old != new for old, new in zip(index.receipts, compacted.receipts, strict=True))
        generation, rebuilt = _generation(compacted, asked_key, wishes, console)
        if wishes.tuned and generation.meta.count:
            generation = measure.tune(
                Built(layout, index.plan, compacted.receipts, generation), wishes, console
            )
        clear(layout, leftovers(layout, compacted.receipts, generation))
        for edition in left_editions(layout):
            clear_edition(edition)
        measure.check_met(generation)
        return Compacted(len(dead), units, rebuilt, before - size_of(layout), generation)


def _rewritten(index: Standing, dead: NDArray[np.int64], console: Console) -> tuple[Receipt, ...]:
    """Returns the receipts of all units, none of which holds a dead row any more."""
    receipts = []
    with Stage(console, "rewriting", len(index.receipts), noun="units") as stage:
        for receipt in index.receipts:
            gone = ids_between(dead, [receipt])
            receipts.append(rewrite_unit(index.layout, index.plan, receipt, gone) if len(gone) else receipt)
            stage.advance(1)
    return tuple(receipts)


def rewrite_unit(layout: Layout, plan: Plan, receipt: Receipt, dead: NDArray[np.int64]) -> Receipt:
    """Writes a unit's next revision without some of its rows, then its receipt; then removes the old file.

    Args:
        layout: Where it lies.
        plan: Its plan.
        receipt: What it holds now.
        dead: Row ids to leave out.

    Returns:
        Its new receipt.

    Raises:
        StoreError: The unit is damaged, or the file system refused.
    """
    unit, old = receipt.unit, layout.unit(receipt.unit.number, receipt.revision)
    stored = read_unit(old, doc_ids=True, vectors=True, hashes=True, chunks=True, counts=True)
    keep = ~np.isin(stored.rows - unit.start + unit.base, dead)
    table = _table(receipt, stored, keep)
    data = unit_bytes(table, plan.model)
    documents = len(np.unique(table.rows))
    new = replace(
        receipt,
        vectors=len(table.rows),
        documents=documents,
        dropped=receipt.dropped + receipt.documents - documents,
        tokens=int(table.token_counts.sum()),
        truncated=int(table.truncated.sum()),
        unit_sha256=sha256(data),
        unit_bytes=len(data),
        revision=receipt.revision + 1,
    )
    write_durable(layout.unit(unit.number, new.revision), data)
    write_durable(layout.receipt(unit.number), new.to_json().encode())
    remove(old)
    return new


def _table(receipt: Receipt, stored: StoredUnit, keep: NDArray[np.bool_]) -> UnitTable:
    chunks = None
    if stored.chunks is not None:
        chunks = Chunks(*(getattr(stored.chunks, field.name)[keep] for field in fields(Chunks)))
    return UnitTable(
        unit=receipt.unit,
        rows=stored.rows[keep],
        doc_ids=[stored.doc_ids[at] for at in np.flatnonzero(keep).tolist()],
        vectors=stored.vectors[keep],
        token_counts=stored.token_counts[keep],
        truncated=stored.truncated[keep],
        hashes=stored.hashes[keep],
        chunks=chunks,
    )


def _generation(index: Standing, asked_key: str, wishes: Wishes, console: Console) -> tuple[Generation, bool]:
    """Returns a FAISS index of these units that rests on no earlier one, and whether it was built now."""
    standing, memory = generations.current(index.layout), wishes.build_memory_bytes
    count, dim = vectors_of(index.receipts), index.plan.model.dim
    if standing is not None and not asked_key and wishes == Wishes(build_memory_bytes=memory):
        key = standing.meta.key
    else:
        key = generations.choose(standing, count, dim, asked_key or AUTO, wishes).key
    if standing is not None and standing.meta.key == key and _is_compact(index, standing):
        return standing, False
    return renew(index, generations.NO_DEAD, key, console, full=True, build_memory=memory), True


def _is_compact(index: Standing, standing: Generation) -> bool:
    """Returns whether a generation holds these units, was built in one go and trained on what it holds."""
    meta = standing.meta
    return (
        generations.holds(standing, index.receipts, generations.NO_DEAD)
        and meta.planned == meta.count == meta.vectors
        and all(shard.file.startswith(f"{standing.name}/") for shard in meta.shards)
    )
