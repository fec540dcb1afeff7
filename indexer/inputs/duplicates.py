"""Finds an id that occurs twice among any number of rows, with 8 bytes of memory for each row.

A pass over the ids keeps a 64-bit hash of each; only if two are equal does a second pass compare the ids.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Pieces = Iterable[tuple[int, Sequence[bytes | None]]]  # (position of the first id, ids); positions rise


@dataclass(frozen=True)
class Duplicate:
    """An id, the first position where it stands, and a later one."""

    doc_id: bytes
    first: int
    second: int


def find_duplicate(read: Callable[[], Pieces], count: int) -> Duplicate | None:
    """Returns the first id that repeats an earlier one, or None; arguments as `find_duplicates`."""
    return next(find_duplicates(read, count), None)


def find_duplicates(read: Callable[[], Pieces], count: int) -> Iterator[Duplicate]:
    """Yields each id that repeats an earlier one, with the first place of that, in the order of positions.

    Args:
        read: Starts a pass over all ids; null and empty ids are skipped, since they name no document.
        count: Number of ids at most.
    """
    suspects = _repeated_hashes(read(), count)
    if not suspects.size:
        return
    wanted = set(suspects.tolist())
    seen: dict[bytes, int] = {}
    for position, doc_id in _named(read()):
        if hash(doc_id) in wanted:
            first = seen.setdefault(doc_id, position)
            if first != position:
                yield Duplicate(doc_id, first, position)


def _repeated_hashes(pieces: Pieces, count: int) -> NDArray[np.int64]:
    hashes = np.empty(count, dtype=np.int64)
    done = 0
    for _, ids in pieces:
        fresh = [hash(doc_id) for doc_id in ids if doc_id]
        hashes[done : done + len(fresh)] = fresh
        done += len(fresh)
    ordered = hashes[:done]
    ordered.sort()
    return np.unique(ordered[1:][ordered[1:] == ordered[:-1]])


def _named(pieces: Pieces) -> Iterator[tuple[int, bytes]]:
    for first, ids in pieces:
        for offset, doc_id in enumerate(ids):
            if doc_id:
                yield first + offset, doc_id
