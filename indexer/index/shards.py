"""The parts of a FAISS index and which of them an update makes anew. Pure.

A shard holds the vectors of units that follow each other. Each is at least `_RATIO` times as large as the one
after it, so that a search asks few of them and a vector is built again few times, however often an index is
updated: n updates leave at most log2(n) shards or so, and build each vector log(n) times.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from indexer.store.ledger import Receipt, source_digest

_RATIO = 2  # of the sizes of neighbours
# Vectors for each inverted list that a shard must have to be left alone: a search finds the lists of each
# shard anew, which costs about as much as comparing so many. Building them again takes a second or so.
_LEAST_PER_LIST = 16


@dataclass(frozen=True)
class Shard:
    """A part of a FAISS index, in a file of its own that never changes.

    Attributes:
        file: Below `faiss/`: `000001/000000.faiss`; later generations name files of earlier ones.
        first_unit: Number of the first unit whose vectors it holds.
        end_unit: Number after the last one.
        vectors: How many it holds.
        source: Names the contents of these units.
        sha256: Of the file, hex.
        bytes: Size of it.
        without: File below `faiss/` of the dead rows that were left out when it was built; "" for none.
        dead: How many of its vectors have died since.
    """

    file: str
    first_unit: int
    end_unit: int
    vectors: int
    source: str
    sha256: str
    bytes: int
    without: str = ""
    dead: int = 0


def still_true(
    shards: Sequence[Shard], receipts: Sequence[Receipt], left_out: Callable[[Shard], bool]
) -> Iterator[Shard]:
    """Yields the first shards, as far as they hold what the units hold now.

    Args:
        shards: In the order of units.
        receipts: Of all units, in order.
        left_out: Whether what a shard left out is all dead still.
    """
    for shard in shards:
        if source_digest(units_of(shard, receipts)) != shard.source or not left_out(shard):
            return
        yield shard


def units_of(shard: Shard, receipts: Sequence[Receipt]) -> list[Receipt]:
    """Returns the receipts of a shard's units."""
    return [receipt for receipt in receipts if shard.first_unit <= receipt.unit.number < shard.end_unit]


def absorb(shards: Sequence[Shard], vectors: int, most: int | None = None, lists: int = 0) -> int:
    """Returns how many shards stay as they are when one of so many vectors comes after them.

    Args:
        shards: In the order of units.
        vectors: Vectors that are new; with none, all stay.
        most: Vectors of a shard at most; None for any number.
        lists: Inverted lists of each.
    """
    kept = len(shards)
    while kept and vectors and shards[kept - 1].vectors < max(_RATIO * vectors, _LEAST_PER_LIST * lists):
        if most is not None and shards[kept - 1].vectors + vectors > most:
            break
        kept -= 1
        vectors += shards[kept].vectors
    return kept


def split(receipts: Sequence[Receipt], most: int | None) -> Iterator[list[Receipt]]:
    """Yields receipts in groups of at most `most` vectors, but of one unit at least; one group for None."""
    group: list[Receipt] = []
    held = 0
    for receipt in receipts:
        if group and most is not None and held + receipt.vectors > most:
            yield group
            group, held = [], 0
        group.append(receipt)
        held += receipt.vectors
    if group:
        yield group


def ids_between(rows: NDArray[np.int64], receipts: Sequence[Receipt]) -> NDArray[np.int64]:
    """Returns those of sorted row ids that lie in units which follow each other."""
    if not receipts:
        return rows[:0]
    first, last = receipts[0].unit, receipts[-1].unit
    start, stop = np.searchsorted(rows, [first.base, last.base + last.rows])
    return rows[start:stop]
