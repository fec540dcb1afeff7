"""Which rows of an index are alive: what searches may find, and what `compact` keeps.

A row dies when its input was planned again because it changed, when a later row with a vector has its
document id, or when a deletion that was written after it names its id. What is dead stays dead, whatever
comes later; that is why dead rows may be taken out at any time. The later row counts even if it is dead by
then, so rows must be taken out in rising order: whatever makes a row dead goes after it.

The core is pure: it sees events, which are rows and deletions in order. Memory: 8 bytes for each event, and
about 200 for each id that stands at several of them, but for at most `_IDS_AT_ONCE` ids in one pass.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from indexer.plan import Plan
from indexer.store.deletions import Deletion, deletion_pieces, list_deletions
from indexer.store.layout import Layout
from indexer.store.ledger import Receipt
from indexer.store.unit_file import read_unit_pieces

_NO_ROW = -1  # in the place of a row id: the event is a deletion
# Ids that are compared in one pass, 200 MB of them; more take further passes. Arbitrary.
_IDS_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class Events:
    """Some documents and deletions, in the order in which they happened.

    Attributes:
        rows: Row id of each, int64 `[n]`, rising; −1 for a deletion.
        doc_ids: Id of each.
    """

    rows: NDArray[np.int64]
    doc_ids: Sequence[str]


Read = Callable[[], Iterable[Events]]  # starts a pass over all events


def dead_rows(layout: Layout, plan: Plan, receipts: Sequence[Receipt]) -> NDArray[np.int64]:
    """Returns the ids of rows that have a vector and are not alive, int64, rising.

    Nothing is read while an index has one part and no deletion; else all document ids are, mostly twice.

    Args:
        layout: Where the index lies.
        plan: Its plan.
        receipts: Of the units that count, in the order of units.

    Raises:
        StoreError: A unit or a deletion is damaged or gone.
    """
    deletions = list_deletions(layout)
    if len(plan.parts) == 1 and not deletions:
        return np.empty(0, dtype=np.int64)
    count = sum(receipt.documents for receipt in receipts) + sum(deletion.count for deletion in deletions)
    found = overtaken(lambda: _events(layout, receipts, deletions), count)
    superseded = plan.superseded()
    gone = [
        documents(layout, receipt).rows
        for receipt in receipts
        if receipt.unit.file in superseded and receipt.documents
    ]
    return np.unique(np.concatenate([found, *gone]))


def documents(layout: Layout, receipt: Receipt, *, doc_ids: bool = False) -> Events:
    """Returns the documents of a unit that have a vector: each once, however many chunks it has.

    Args:
        layout: Where the index lies.
        receipt: Of the unit.
        doc_ids: Whether to read their ids, too; else they are empty.

    Raises:
        StoreError: The unit is damaged or gone.
    """
    pieces = list(_documents(layout, receipt, doc_ids=doc_ids))
    rows = [piece.rows for piece in pieces]
    return Events(
        np.concatenate(rows) if rows else np.empty(0, dtype=np.int64),
        [doc_id for piece in pieces for doc_id in piece.doc_ids],
    )


def overtaken(read: Read, count: int, at_once: int = _IDS_AT_ONCE) -> NDArray[np.int64]:
    """Returns the row ids, rising, whose document id stands again at a later event.

    Args:
        read: Starts a pass over all events.
        count: Number of events, at most.
        at_once: Ids to compare in one pass, about.
    """
    repeated, times = _repeated_hashes(read(), count)
    found = [np.empty(0, dtype=np.int64)]
    # Ids of one hash are always in the same pass.
    for start, stop in _slices(times, at_once):
        found.append(_overtaken(read(), repeated[start:stop]))
    return np.sort(np.concatenate(found))


def _overtaken(events: Iterable[Events], hashes: NDArray[np.int64]) -> NDArray[np.int64]:
    """The same, only for ids of these hashes, which are sorted."""
    latest: dict[str, int] = {}
    found: list[int] = []
    for piece in events:
        mine = _hashes(piece.doc_ids)
        place = np.searchsorted(hashes, mine)
        place[place == len(hashes)] = 0
        for at in np.flatnonzero(hashes[place] == mine).tolist():
            doc_id = piece.doc_ids[at]
            before = latest.get(doc_id, _NO_ROW)
            if before != _NO_ROW:
                found.append(before)
            latest[doc_id] = int(piece.rows[at])
    return np.array(found, dtype=np.int64)


def _repeated_hashes(events: Iterable[Events], count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns the hashes that several events have, sorted, and how many have each."""
    hashes = np.empty(count, dtype=np.int64)
    done = 0
    for piece in events:
        hashes[done : done + len(piece.doc_ids)] = _hashes(piece.doc_ids)
        done += len(piece.doc_ids)
    hashes = hashes[:done]
    hashes.sort()
    first = np.flatnonzero(np.diff(hashes, prepend=hashes[:1] - 1)) if done else np.empty(0, dtype=np.int64)
    times = np.diff(first, append=done)
    return hashes[first[times > 1]], times[times > 1]


def _hashes(doc_ids: Sequence[str]) -> NDArray[np.int64]:
    return np.fromiter(map(hash, doc_ids), dtype=np.int64, count=len(doc_ids))


def _slices(times: NDArray[np.int64], at_once: int) -> Iterator[tuple[int, int]]:
    """Yields ranges of hashes that together stand for at most `at_once` events, unless one alone does."""
    ends = np.cumsum(times)
    start = 0
    while start < len(times):
        passed = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, passed + at_once, side="right")))
        yield start, stop
        start = stop


def _events(layout: Layout, receipts: Sequence[Receipt], deletions: Sequence[Deletion]) -> Iterator[Events]:
    """Yields the rows of units, and each deletion behind the rows that were planned before it."""
    left = list(deletions)
    for receipt in receipts:
        while left and left[0].before <= receipt.unit.base:
            yield from _deleted(layout, left.pop(0))
        yield from _documents(layout, receipt, doc_ids=True)
    for deletion in left:
        yield from _deleted(layout, deletion)


def _deleted(layout: Layout, deletion: Deletion) -> Iterator[Events]:
    for doc_ids in deletion_pieces(layout, deletion):
        yield Events(np.full(len(doc_ids), _NO_ROW, dtype=np.int64), doc_ids)


def _documents(layout: Layout, receipt: Receipt, *, doc_ids: bool) -> Iterator[Events]:
    if not receipt.documents:
        return
    unit, last = receipt.unit, -1
    for stored in read_unit_pieces(layout.unit(unit.number, receipt.revision), doc_ids=doc_ids):
        # Chunks of a document follow each other, at times across pieces.
        new = np.flatnonzero(np.diff(stored.rows, prepend=last))
        last = int(stored.rows[-1]) if len(stored.rows) else last
        ids = [stored.doc_ids[at] for at in new.tolist()] if doc_ids else []
        yield Events(stored.rows[new] - unit.start + unit.base, ids)
