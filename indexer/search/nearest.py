"""The nearest documents of an open FAISS index, all or those that a filter allows.

Guarantees: any thread may ask. `k` documents are found where so many are allowed: where the index looks
at a part of its vectors only, and finds fewer, all are compared. Assumes that nobody changes the index.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from indexer.index.open_index import OpenIndex
from indexer.index.selection import Chosen
from indexer.search.byte_cache import ByteCache
from indexer.search.contents import MASK_BYTES
from indexer.search.grouping import Looked, documents_of, first_fetch

_EVERYWHERE = 0.0  # share of the chosen with which an index passes over no vector


@dataclass(frozen=True)
class Allowed:
    """The living rows that a filter allows, prepared for searches, and how many they are."""

    chosen: Chosen
    rows: int

    @property
    def bytes(self) -> int:
        """Memory that it takes."""
        return self.chosen.mask.nbytes + self.chosen.bits.nbytes


class Nearest:
    """Searches one open index.

    Args:
        index: The index.
        documents: Those that it holds, fewer than vectors where they have chunks; too few for the moment in
            which `compact` has rewritten the units and not yet the index.
        end: One past the highest row id.
    """

    def __init__(self, index: OpenIndex, documents: int, end: int) -> None:
        self._index, self._documents, self._end = index, documents, end
        self._allowed: ByteCache[str, Allowed] = ByteCache(MASK_BYTES, lambda allowed: allowed.bytes)

    def allowed(self, text: str, mask: Callable[[str], NDArray[np.bool_]]) -> Allowed:
        """Returns the living rows that meet a filter, kept for later; raises what `mask` raises."""

        def prepare() -> Allowed:
            chosen = self._index.choose(mask(text))
            return Allowed(chosen, int(np.count_nonzero(chosen.mask)))

        return self._allowed.get(text, prepare)

    def find(
        self, queries: NDArray[np.float32], k: int, allowed: Allowed | None
    ) -> list[list[tuple[float, int]]]:
        """Returns (score, row id) of the `k` nearest documents of each query, best first.

        Args:
            queries: float32 `[queries, dim]`.
            k: Documents; there are fewer where fewer are allowed.
            allowed: Which may be found; None for all.
        """
        possible = self._documents if allowed is None else min(allowed.rows, self._documents)
        if not len(queries) or not self._index.count or (allowed is not None and not allowed.rows):
            return [[] for _ in queries]
        chosen = None if allowed is None else allowed.chosen
        fetch = first_fetch(k, self._index.count, self._documents)
        found = self._look(queries, k, fetch, chosen)
        short = [at for at, documents in enumerate(found) if len(documents) < min(k, possible)]
        if short:
            everywhere = replace(chosen or self._all(), share=_EVERYWHERE)
            for at, documents in zip(short, self._look(queries[short], k, fetch, everywhere), strict=True):
                found[at] = documents
        return found

    def _look(
        self, queries: NDArray[np.float32], k: int, fetch: int, chosen: Chosen | None
    ) -> list[list[tuple[float, int]]]:
        scores, rows = self._index.search(queries, fetch, chosen)
        return [
            documents_of(k, self._index.count, looked, partial(self._without, query, fetch, chosen))
            for query, looked in zip(queries, zip(scores, rows, strict=True), strict=True)
        ]

    def _without(
        self, query: NDArray[np.float32], fetch: int, chosen: Chosen | None, rows: list[int]
    ) -> Looked:
        """Looks again, but not for the documents of these row ids."""
        base = chosen or self._all()
        mask = base.mask.copy()
        mask[rows] = False
        scores, found = self._index.search(query[None], fetch, Chosen.of(mask, base.share))
        return scores[0], found[0]

    def _all(self) -> Chosen:
        return self._index.choose(np.ones(self._end, dtype=np.bool_))
