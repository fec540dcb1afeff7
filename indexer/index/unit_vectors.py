"""The vectors of units by row id, and the list of rows that are dead."""

import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from indexer.errors import StoreError
from indexer.index.shards import ids_between
from indexer.store.layout import Layout
from indexer.store.ledger import Receipt
from indexer.store.unit_file import read_unit, read_unit_pieces

Vectors = Iterator[tuple[NDArray[np.int64], NDArray[np.floating]]]


def vector_pieces(
    layout: Layout,
    receipts: Sequence[Receipt],
    dead: NDArray[np.int64],
    advance: Callable[[int], None] = lambda _: None,
) -> Vectors:
    """Yields row ids int64 `[n]` and vectors `[n, dim]` of units but those of dead rows, in order.

    Args:
        layout: Where they lie.
        receipts: Of the units.
        dead: Row ids to leave out, int64, sorted.
        advance: Told how many more vectors were passed, dead ones among them.

    Raises:
        StoreError: A unit is damaged.
    """
    for receipt in receipts:
        path, found = layout.unit(receipt.unit.number, receipt.revision), 0
        gone = ids_between(dead, [receipt])
        for piece in read_unit_pieces(path, vectors=True) if receipt.vectors else ():
            ids, vectors = piece.rows - receipt.unit.start + receipt.unit.base, piece.vectors
            found += len(ids)
            if len(gone):
                alive = ~np.isin(ids, gone)
                ids, vectors = ids[alive], vectors[alive]
            yield ids, vectors
            advance(len(piece.rows))
        if found != receipt.vectors:
            raise StoreError(
                f"unit {path} holds {found} vectors, its receipt says {receipt.vectors}; delete the receipt, "
                "and 'run' makes the unit again"
            )


def row_ids(layout: Layout, receipt: Receipt) -> NDArray[np.int64]:
    """Returns the row id of each vector of a unit, int64 `[vectors]`; raises StoreError."""
    if not receipt.vectors:
        return np.empty(0, dtype=np.int64)
    rows = read_unit(layout.unit(receipt.unit.number, receipt.revision)).rows
    return rows - receipt.unit.start + receipt.unit.base


def living(layout: Layout, receipts: Sequence[Receipt], dead: NDArray[np.int64]) -> int:
    """Returns how many vectors of units are of rows that are not dead; raises StoreError."""
    gone = 0
    for receipt in receipts:
        if len(its := ids_between(dead, [receipt])):
            gone += int(np.isin(row_ids(layout, receipt), its).sum())
    return sum(receipt.vectors for receipt in receipts) - gone


def dead_bytes(dead: NDArray[np.int64]) -> bytes:
    """Returns the file of dead rows: sorted row ids in numpy's format."""
    stream = io.BytesIO()
    np.save(stream, np.ascontiguousarray(dead, dtype="<i8"), allow_pickle=False)
    return stream.getvalue()


def read_dead(path: Path) -> NDArray[np.int64]:
    """Reads a file of dead rows; raises StoreError when it is damaged or gone."""
    try:
        raw = path.read_bytes()
        # Not `np.load`: of a damaged head it makes Python's parser say anything.
        found = np.frombuffer(raw, dtype="<i8", offset=len(dead_bytes(np.empty(0, dtype=np.int64))))
    except (OSError, ValueError) as error:
        raise _damaged(path, str(error)) from error
    if dead_bytes(found) != raw:
        raise _damaged(path, "it is no list of row ids")
    return found


def _damaged(path: Path, reason: str) -> StoreError:
    return StoreError(
        f"cannot read {path} ({reason}); delete CURRENT, and 'run' builds the FAISS index again"
    )
