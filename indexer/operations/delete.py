"""Takes documents out of an index by their ids.

The ids are written first, then a generation that leaves the rows out, then `CURRENT`. A delete that was
killed in between is ended by the same command, or by the next `run`: whoever builds leaves out what is dead.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from indexer.errors import StoreError
from indexer.index import generations
from indexer.index.generations import Generation
from indexer.operations.standing import Standing, check_none_lost, open_complete, renew
from indexer.store.deletions import write_deletion
from indexer.store.layout import Layout
from indexer.store.liveness import dead_rows, documents
from indexer.store.lock import exclusive


@dataclass(frozen=True)
class Deleted:
    """What a delete did.

    Attributes:
        deleted: Documents that were there and are not now.
        gone: Ids of documents that were deleted or replaced before.
        unknown: Ids that the index never held, in the order given.
        generation: The FAISS index in use.
    """

    deleted: int
    gone: int
    unknown: tuple[str, ...]
    generation: Generation


def delete_documents(root: Path, doc_ids: Iterable[str], console: Console) -> Deleted:
    """Deletes documents; ids that are not there are told and do no harm. Repeating it changes nothing.

    Args:
        root: Folder of the index.
        doc_ids: What to delete.
        console: Where to show how far it is.

    Raises:
        StoreError: The index is in use, damaged or not complete, or the file system refused.
    """
    with exclusive(Layout(root.absolute()), "delete"):
        # Not before: a run that built another edition may have put it in use while this waited.
        layout = Layout.in_use(root.absolute())
        index = open_complete(layout, "delete")
        dead = dead_rows(layout, index.plan, index.receipts)
        check_none_lost(index, dead)
        standing = _standing(layout)
        asked = dict.fromkeys(doc_ids)
        found, gone = _look(index, dead, asked)
        if found:
            write_deletion(layout, found, index.plan.end)
            dead = np.union1d(dead, np.array(list(found.values()), dtype=np.int64))
        if not generations.holds(standing, index.receipts, dead):
            standing = renew(index, dead, standing.meta.key, console)
    unknown = tuple(doc_id for doc_id in asked if doc_id not in found and doc_id not in gone)
    return Deleted(len(found), len(gone.keys() - found.keys()), unknown, standing)


def _look(
    index: Standing, dead: NDArray[np.int64], asked: dict[str, None]
) -> tuple[dict[str, int], dict[str, int]]:
    """Returns the living and the dead rows that have one of the ids asked for, by id."""
    living: dict[str, int] = {}
    gone: dict[str, int] = {}
    for receipt in index.receipts if asked else ():
        events = documents(index.layout, receipt, doc_ids=True)
        for at in [at for at, doc_id in enumerate(events.doc_ids) if doc_id in asked]:
            row = int(events.rows[at])
            (gone if _holds(dead, row) else living)[events.doc_ids[at]] = row
    return living, gone


def _holds(rows: NDArray[np.int64], row: int) -> bool:
    at = int(np.searchsorted(rows, row))
    return at < len(rows) and int(rows[at]) == row


def _standing(layout: Layout) -> Generation:
    generation = generations.current(layout)
    if generation is None:
        raise StoreError(
            f"{layout.root} has no FAISS index yet: run its 'python -m indexer run' command again, "
            "then 'delete'"
        )
    return generation


def first_few(doc_ids: Sequence[str], most: int = 3) -> str:
    """Returns ids for people: the first of them, quoted."""
    return ", ".join(repr(doc_id) for doc_id in doc_ids[:most]) + (", …" if len(doc_ids) > most else "")
