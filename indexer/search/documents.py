"""What the units say of found rows: the document's id, and which of its chunks was nearest.

Guarantees: any thread may ask; memory is bounded by bytes. Units may be rewritten meanwhile (`compact` leaves
out rows that are dead): the receipt then names another file, which is read, and a row that is gone is None.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from indexer.errors import StoreError
from indexer.plan import Plan, Unit
from indexer.search.byte_cache import ByteCache
from indexer.search.hits import Passage
from indexer.store.layout import Layout
from indexer.store.ledger import read_receipt
from indexer.store.unit_file import StoredUnit, read_unit

_ID_BYTES = 256 << 20  # of ids kept; 10 million of 12 bytes. Arbitrary
_CHUNK_BYTES = 128 << 20  # of chunks with their vectors kept; arbitrary

T = TypeVar("T")


@dataclass(frozen=True)
class _Ids:
    """Ids of a unit's documents: UTF-8 end to end, since a list of strings would take four times the memory.

    Attributes:
        rows: Rows of the file, int64 `[n]`, rising, each once.
        ends: Where the id of each ends in `text`, int64 `[n + 1]`; the first is 0.
        text: All ids.
    """

    rows: NDArray[np.int64]
    ends: NDArray[np.int64]
    text: bytes

    @property
    def bytes(self) -> int:
        return self.rows.nbytes + self.ends.nbytes + len(self.text)

    def of(self, row: int) -> str | None:
        at = int(np.searchsorted(self.rows, row))
        if at == len(self.rows) or self.rows[at] != row:
            return None
        return self.text[self.ends[at] : self.ends[at + 1]].decode()


@dataclass(frozen=True)
class _Chunks:
    """The chunks of a unit's documents: rows int64 `[n]`, not falling; starts and stops `[n]`; `[n, dim]`."""

    rows: NDArray[np.int64]
    starts: NDArray[np.int32]
    stops: NDArray[np.int32]
    vectors: NDArray[np.floating]

    @property
    def bytes(self) -> int:
        return sum(one.nbytes for one in (self.rows, self.starts, self.stops, self.vectors))


class Documents:
    """The documents of one edition of an index, by row id.

    Args:
        layout: Where it lies.
        plan: Its plan.
    """

    def __init__(self, layout: Layout, plan: Plan) -> None:
        self._layout, self._plan = layout, plan
        self._ids: ByteCache[int, _Ids] = ByteCache(_ID_BYTES, lambda ids: ids.bytes)
        self._chunks: ByteCache[int, _Chunks] = ByteCache(_CHUNK_BYTES, lambda chunks: chunks.bytes)

    def doc_id(self, row_id: int) -> str | None:
        """Returns the document's id, None where its unit does not hold the row any more.

        Raises:
            StoreError: The unit is damaged or gone.
        """
        unit = self._plan.unit_of(row_id)
        ids = self._ids.get(unit.number, lambda: self._read(unit, _read_ids))
        return ids.of(row_id - unit.base + unit.start)

    def passage(self, row_id: int, query: NDArray[np.float32]) -> Passage | None:
        """Returns the chunk of a document that is nearest to a query, float32 `[dim]`; None without chunks.

        Raises:
            StoreError: The unit is damaged or gone.
        """
        if not self._plan.config.chunk_tokens:
            return None
        unit = self._plan.unit_of(row_id)
        chunks = self._chunks.get(unit.number, lambda: self._read(unit, _read_chunks))
        row = row_id - unit.base + unit.start
        first, stop = np.searchsorted(chunks.rows, [row, row + 1])
        if first == stop:
            return None
        nearest = first + int(np.argmax(chunks.vectors[first:stop].astype(np.float32) @ query))
        return Passage(int(chunks.starts[nearest]), int(chunks.stops[nearest]))

    def passages(self, row_ids: Sequence[int], query: NDArray[np.float32]) -> list[Passage | None]:
        """Returns `passage` of each row id."""
        return [self.passage(row_id, query) for row_id in row_ids]

    def _read(self, unit: Unit, read: Callable[[Layout, Unit, int], T]) -> T:
        """Reads a unit's file as its receipt names it; once more where it was rewritten in between."""
        revision = self._revision(unit)
        try:
            return read(self._layout, unit, revision)
        except StoreError:
            again = self._revision(unit)
            if again == revision:
                raise
            return read(self._layout, unit, again)

    def _revision(self, unit: Unit) -> int:
        receipt = read_receipt(self._layout, unit)
        if receipt is None:
            raise StoreError(
                f"unit {unit.number} of {self._layout.root} has no receipt; "
                "'python -m indexer verify' tells more"
            )
        return receipt.revision


def _stored(layout: Layout, unit: Unit, revision: int, **columns: bool) -> StoredUnit:
    return read_unit(layout.unit(unit.number, revision), **columns)


def _read_ids(layout: Layout, unit: Unit, revision: int) -> _Ids:
    stored = _stored(layout, unit, revision, doc_ids=True)
    rows, first = np.unique(stored.rows, return_index=True)
    encoded = [stored.doc_ids[at].encode() for at in first]
    ends = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
    return _Ids(rows, ends, b"".join(encoded))


def _read_chunks(layout: Layout, unit: Unit, revision: int) -> _Chunks:
    stored = _stored(layout, unit, revision, vectors=True, chunks=True)
    if stored.chunks is None:
        raise StoreError(f"unit {unit.number} of {layout.root} tells no chunks; build the index again")
    return _Chunks(stored.rows, stored.chunks.starts, stored.chunks.stops, stored.vectors)
