"""Mends an index from what is whole of it, without a pool.

Units and the plan are the truth: a damaged unit loses its receipt, so that `run` makes just that one again;
the FAISS index and `CURRENT` are products, and are built anew. What nothing can give back (the plan, its
additions, deletions) is refused in one line, and nothing is touched then. Each step is durable, and may be
repeated.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from indexer.documents import HASH_BYTES
from indexer.errors import StoreError
from indexer.operations.check_units import check_contents, check_files, sound_receipt
from indexer.operations.leftovers import clear, leftovers
from indexer.operations.repair_faiss import in_use, mend_faiss
from indexer.operations.standing import LostError, Standing, check_none_lost, edition_of
from indexer.plan import Plan, Unit
from indexer.progress import Stage
from indexer.store.deletions import deletion_pieces, list_deletions
from indexer.store.durable import remove
from indexer.store.layout import Layout
from indexer.store.ledger import Receipt, commit_unit, load_plan, sha256
from indexer.store.liveness import dead_rows
from indexer.store.lock import exclusive
from indexer.store.unit_file import Chunks, UnitTable, unit_bytes


@dataclass(frozen=True)
class Repaired:
    """What a repair did.

    Attributes:
        damaged: Units that were damaged and have to be made again.
        emptied: Units that were damaged, but of a file that was planned again since: they hold nothing now.
        missing: Units in all that `run` has to make, those never made among them.
        removed: Files that nothing named.
        generation: What was done to the FAISS index: whole, found again, built again or left to run.
        reason: Why it was not whole; "" when it was.
    """

    damaged: tuple[int, ...]
    emptied: tuple[int, ...]
    missing: int
    removed: int
    generation: str
    reason: str


def repair_index(root: Path, console: Console, asked_key: str = "") -> Repaired:
    """Mends an index as far as its own files allow.

    Args:
        root: Folder of the index.
        console: Where to show how far it is.
        asked_key: Key of the FAISS index where no file tells the old one any more; "" for `auto`.

    Raises:
        StoreError: The index is in use, what is damaged cannot be mended, or the file system refused.
        BuildError: FAISS cannot build the index.
    """
    with exclusive(Layout(root.absolute()), "repair"):
        layout = edition_of(root.absolute())
        plan = _sound_plan(layout)
        sound, damaged = _look(layout, plan, console)
        if len(sound) == len(plan.units):
            _refuse_lost(Standing(layout, plan, tuple(sound.values())))
        superseded = plan.superseded()
        emptied = [unit for unit in damaged if unit.file in superseded]
        for unit in emptied:
            sound[unit.number] = _empty(layout, plan, unit)
        lost = [unit for unit in damaged if unit.file not in superseded]
        for unit in lost:
            remove(layout.receipt(unit.number))
        receipts = tuple(sound[unit.number] for unit in plan.units if unit.number in sound)
        missing = len(plan.units) - len(receipts)
        done, reason = mend_faiss(Standing(layout, plan, receipts), missing, asked_key, console)
        left = leftovers(layout, receipts, in_use(layout))
        clear(layout, left)
        return Repaired(_numbers(lost), _numbers(emptied), missing, len(left), done, reason)


def _numbers(units: Sequence[Unit]) -> tuple[int, ...]:
    return tuple(unit.number for unit in units)


def _sound_plan(layout: Layout) -> Plan:
    """Returns the plan, and reads all deletions; raises StoreError for what cannot be mended."""
    try:
        plan = load_plan(layout)
    except StoreError as error:
        raise StoreError(f"{error}. 'repair' cannot: nothing else holds what the plan says") from error
    for deletion in list_deletions(layout):
        for _ in deletion_pieces(layout, deletion):
            pass
    return plan


def _refuse_lost(index: Standing) -> None:
    """Raises LostError when a deletion or an addition is gone."""
    try:
        check_none_lost(index, dead_rows(index.layout, index.plan, index.receipts))
    except LostError:
        raise
    except StoreError:  # the generation in use is damaged: that is mended later
        return


def _look(layout: Layout, plan: Plan, console: Console) -> tuple[dict[int, Receipt], list[Unit]]:
    """Returns the receipts of sound units by number, and the units that differ from their receipts."""
    sound: dict[int, Receipt] = {}
    damaged = []
    with Stage(console, "checking", len(plan.units), noun="units") as stage:
        for unit in plan.units:
            try:
                receipt = sound_receipt(layout, plan, unit)
                check_files(layout, receipt)
                check_contents(layout, plan, receipt)
                sound[unit.number] = receipt
            except StoreError as error:
                if layout.receipt(unit.number).exists():
                    stage.log(f"damaged: {error}")
                    damaged.append(unit)
            stage.advance(1)
    return sound, damaged


def _empty(layout: Layout, plan: Plan, unit: Unit) -> Receipt:
    """Commits a unit all of whose rows are taken out: they were dead, and their file is another now."""
    none, chunked = np.empty(0, dtype=np.int32), bool(plan.config.chunk_tokens)
    table = UnitTable(
        unit=unit,
        rows=np.empty(0, dtype=np.int64),
        doc_ids=[],
        vectors=np.empty((0, plan.model.dim), dtype=plan.config.vector_type.value),
        token_counts=none,
        truncated=np.empty(0, dtype=np.bool_),
        hashes=np.empty((0, HASH_BYTES), dtype=np.uint8),
        chunks=Chunks(none, none, none) if chunked else None,
    )
    data = unit_bytes(table, plan.model)
    receipt = Receipt(
        unit=unit, fingerprint=plan.model.fingerprint, vectors=0, documents=0, rejects={}, tokens=0,
        truncated=0, unit_sha256=sha256(data), unit_bytes=len(data), dropped=unit.rows,
    )  # fmt: skip
    commit_unit(layout, receipt, data, b"")
    return receipt
