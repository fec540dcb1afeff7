"""The end of a unit's road: what is copied is filled in, then its files and its receipt are written."""

from collections.abc import MutableMapping
from operator import attrgetter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from indexer.config import FlowConfig
from indexer.documents import count_reasons
from indexer.embedding.memory import check_growth
from indexer.embedding.reuse import SeenTexts
from indexer.embedding.unit import Piece, UnitBuffer
from indexer.errors import StoreError
from indexer.plan import Plan, Unit
from indexer.store.layout import Layout
from indexer.store.ledger import Receipt, commit_unit, sha256
from indexer.store.unit_documents import read_documents
from indexer.store.unit_file import read_rejects, read_unit, rejects_bytes, unit_bytes


class Originals:
    """Rows whose vectors, or whose refusals, other rows with the same text get.

    Args:
        layout: Where units lie.
        plan: Their plan.
        receipts: Of the units that are committed, by number; grows while this is used.
        flow: How much a unit may hold.
    """

    def __init__(
        self, layout: Layout, plan: Plan, receipts: MutableMapping[int, Receipt], flow: FlowConfig
    ) -> None:
        self._layout, self._receipts, self._flow = layout, receipts, flow
        self._units = sorted(plan.units, key=attrgetter("base"))
        self._bases = np.array([unit.base for unit in self._units], dtype=np.int64)

    def load(self, seen: SeenTexts) -> None:
        """Tells which texts the committed units hold; raises StoreError for a damaged one."""
        for receipt in self._receipts.values():
            if receipt.vectors:
                stored = read_unit(self._path(receipt), hashes=True)
                first = np.flatnonzero(np.diff(stored.rows, prepend=-1))  # a row is there once for each chunk
                shift = receipt.unit.base - receipt.unit.start
                seen.load(stored.hashes[first], stored.rows[first] + shift)
        seen.loaded()

    def needed(self, buffer: UnitBuffer) -> set[int]:
        """Returns the numbers of other units that a unit copies from."""
        units = self._units_of(buffer.copies()[0])
        return {self._units[place].number for place in np.unique(units).tolist()} - {buffer.unit.number}

    def fill(self, buffer: UnitBuffer) -> int:
        """Gives a unit what it copies; returns how many documents those are.

        Raises:
            StoreError: A unit that it copies from is damaged or gone.
            ConfigError: It would become too large.
        """
        sources, rows = buffer.copies()
        units = self._units_of(sources)
        for place in np.unique(units).tolist():
            unit, chosen = self._units[place], units == place
            of_file = sources[chosen] - unit.base + unit.start
            piece, reasons = self._documents(buffer, unit, np.unique(of_file))
            index, counts = piece.places(of_file)
            check_growth(self._flow, buffer.unit.number, buffer.size_with(len(index)))
            buffer.add_piece(piece.taken(index, np.repeat(rows[chosen], counts)))
            absent = counts == 0
            for row, source in zip(rows[chosen][absent].tolist(), of_file[absent].tolist(), strict=True):
                if source not in reasons:
                    raise StoreError(
                        f"unit {unit.number} does not hold row {source} any more; delete its receipt, and "
                        "'run' makes it again"
                    )
                buffer.reject(row, reasons[source])
        return len(rows)

    def _units_of(self, row_ids: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.searchsorted(self._bases, row_ids, side="right") - 1

    def _documents(
        self, buffer: UnitBuffer, unit: Unit, rows: NDArray[np.int64]
    ) -> tuple[Piece, dict[int, str]]:
        """Returns the vectors of rows of a unit, and why others have none."""
        if unit == buffer.unit:
            return buffer.documents(rows)
        stored = read_documents(self._path(self._receipts[unit.number]), rows)
        reasons: dict[int, str] = {}
        if self._receipts[unit.number].rejects_sha256:
            rejects = read_rejects(self._layout.unit_rejects(unit.number))
            reasons = {reject.row: reject.reason for reject in rejects}
        return Piece.of_stored(stored), reasons

    def _path(self, receipt: Receipt) -> Path:
        return self._layout.unit(receipt.unit.number, receipt.revision)


def write_unit(layout: Layout, plan: Plan, buffer: UnitBuffer) -> Receipt:
    """Commits a complete unit; raises StorageError."""
    table, rejects = buffer.table(), buffer.rejects()
    unit_file = unit_bytes(table, plan.model)
    rejects_file = rejects_bytes(rejects) if rejects else b""
    receipt = Receipt(
        unit=buffer.unit,
        fingerprint=plan.model.fingerprint,
        vectors=len(table.rows),
        documents=len(np.unique(table.rows)),
        rejects=count_reasons(rejects),
        tokens=int(table.token_counts.sum()),
        truncated=len(np.unique(table.rows[table.truncated])),
        unit_sha256=sha256(unit_file),
        unit_bytes=len(unit_file),
        rejects_sha256=sha256(rejects_file) if rejects else "",
        rejects_bytes=len(rejects_file),
    )
    commit_unit(layout, receipt, unit_file, rejects_file)
    return receipt
