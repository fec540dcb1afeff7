"""An index as it stands: what the commands that change or check a whole index begin with."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from indexer.errors import StoreError
from indexer.index import generations
from indexer.index.generations import Generation
from indexer.index.shards import ids_between
from indexer.plan import Plan
from indexer.progress import Stage
from indexer.store.layout import Layout
from indexer.store.ledger import Receipt, committed, load_plan
from indexer.store.liveness import documents

_BRING = "Bring it back from a copy, or build the index again in a new folder"


class LostError(StoreError):
    """A file is gone that says what is dead, and that nothing else can prove."""


@dataclass(frozen=True)
class Standing:
    """An index whose plan and receipts could be read; receipts in the order of units."""

    layout: Layout
    plan: Plan
    receipts: tuple[Receipt, ...]


def edition_of(root: Path) -> Layout:
    """Returns the edition in use; where `CURRENT` does not tell, the latest that has a generation."""
    try:
        return Layout.in_use(root)
    except StoreError:
        names = (path.name for path in (root / "editions").glob("*") if path.name.isdigit())
        found = [Layout(root, int(name)) for name in sorted(names, reverse=True)]
        return next((one for one in found if any(one.generations.glob("*/meta.json"))), Layout(root))


def open_complete(layout: Layout, command: str) -> Standing:
    """Opens an index that has every unit of its plan.

    Args:
        layout: Where it lies; the caller holds its lock.
        command: What is to be done to it, for the message.

    Raises:
        StoreError: It is no index, damaged, or units are missing.
    """
    plan = load_plan(layout)
    found = committed(layout, plan)
    missing = [unit.number for unit in plan.units if unit.number not in found]
    if missing:
        raise StoreError(
            f"{layout.root} is not complete: {len(missing):,} of {len(plan.units):,} units are missing, the "
            f"first is {missing[0]}; run its 'python -m indexer run' command again, then '{command}'"
        )
    return Standing(layout, plan, tuple(found[unit.number] for unit in plan.units))


def check_none_lost(index: Standing, dead: NDArray[np.int64]) -> None:
    """Looks for rows that are alive, though the generation in use knows them to be dead.

    What is dead stays dead, so a deletion or an addition to the plan is gone: to build now would bring back
    what was deleted or replaced. The last file of its kind that is missing is seen in no other way.

    Raises:
        LostError: There are such rows, or the generation has more rows than the plan.
        StoreError: The generation is damaged.
    """
    layout, generation = index.layout, generations.current(index.layout)
    if generation is None:
        return
    if generation.meta.end > index.plan.end:
        raise LostError(
            f"{layout.additions} lacks a file: the FAISS index knows {generation.meta.end:,} rows, the plan "
            f"{index.plan.end:,}. {_BRING}"
        )
    known = generations.dead_rows(layout, generation)
    risen = np.setdiff1d(known, dead, assume_unique=True)
    for receipt in index.receipts:
        if len(its := ids_between(risen, [receipt])):
            standing = its[np.isin(its, documents(layout, receipt).rows)]
            if len(standing):
                raise LostError(
                    f"{layout.deletions} or {layout.additions} lacks a file: row {standing[0]} was deleted "
                    f"or replaced, and nothing says so any more. {_BRING}"
                )


def renew(
    index: Standing,
    dead: NDArray[np.int64],
    key: str,
    console: Console,
    *,
    full: bool = False,
    build_memory: int | None = None,
) -> Generation:
    """Makes the FAISS index of units without dead rows, and puts it in use; see `generations.update`."""
    with Stage(console, "indexing", vectors_of(index.receipts), noun="vectors") as stage:
        return generations.update(
            index.layout, index.plan, index.receipts, dead, key, stage.advance,
            full=full, build_memory=build_memory,
        )  # fmt: skip


def vectors_of(receipts: Sequence[Receipt]) -> int:
    """Returns the number of vectors of units."""
    return sum(receipt.vectors for receipt in receipts)
