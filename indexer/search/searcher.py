"""Asks an index: texts or vectors in, documents with scores out."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from indexer.client import Access
from indexer.errors import ConfigError, StoreError
from indexer.index import generations
from indexer.search.query_pool import WAIT_SECONDS, QueryPool
from indexer.store.layout import Layout
from indexer.store.ledger import load_plan
from indexer.store.unit_file import read_unit

_CACHED_UNITS = 256  # whose ids are kept in memory; some 100 kB each


@dataclass(frozen=True)
class Hit:
    """A document that was found: rank from 1, inner product with the query, id."""

    rank: int
    score: float
    doc_id: str


class Searcher:
    """An index and the pools that embed queries for it; a context manager.

    Guarantees: one searcher may be used from many threads at once; it sees the generation and the search
    setting that were in use when it was made.

    Args:
        index: Folder of the index.
        targets: Addresses of pools that serve the index's model, whichever is there is asked; None for a
            searcher of vectors alone.
        access: What opens the pools; None for nothing.
        wait_seconds: How long pools that are away or overloaded are waited for.
        mapped: Leave the FAISS index in its file and let the kernel fetch the pages that searches touch, in
            place of reading it whole.

    Raises:
        StoreError: The folder is no complete index.
        PoolError: No pool can be reached.
        ModelMismatchError: A pool serves another model.

    Example:
        >>> from indexer.search.searcher import Searcher
        >>> with Searcher(Path("index"), "127.0.0.1:50051") as searcher:  # doctest: +SKIP
        ...     for hit in searcher.search(["how to sort a list"], k=3)[0]:
        ...         print(hit.rank, hit.score, hit.doc_id)
        >>> with Searcher(Path("index")) as searcher:  # no pool: vectors of one's own  # doctest: +SKIP
        ...     hits = searcher.search_vectors(vectors, k=3)
    """

    def __init__(
        self,
        index: Path,
        targets: str | Sequence[str] | None = None,
        access: Access | None = None,
        wait_seconds: float = WAIT_SECONDS,
        *,
        mapped: bool = False,
    ) -> None:
        self._layout = Layout(index)
        self._plan = load_plan(self._layout)
        generation = generations.current(self._layout)
        if generation is None:
            raise StoreError(f"{index} is not complete: run its 'python -m indexer run' command again")
        self._pool = (
            QueryPool(index, self._plan.model, targets, access, wait_seconds) if targets is not None else None
        )
        try:
            self._index = generations.open_index(self._layout, generation, mapped=mapped)
        except BaseException:
            self.close()
            raise
        self._ids_of_unit = lru_cache(_CACHED_UNITS)(self._read_ids)

    def __enter__(self) -> "Searcher":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connections to the pools."""
        if self._pool is not None:
            self._pool.close()

    @property
    def count(self) -> int:
        """Number of documents that can be found."""
        return self._index.count

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self._plan.model.dim

    @property
    def unreached(self) -> list[str]:
        """Why pools take no part, a line for each that does not."""
        return self._pool.unreached if self._pool is not None else []

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Returns the vectors of queries, float32 `[texts, dim]`; raises as `search` does."""
        if self._pool is None:
            raise ConfigError(
                f"this searcher of {self._layout.root} has no pool to embed texts; "
                "give it the address of one, or search by vectors"
            )
        return self._pool.embed(texts)

    def search(self, texts: Sequence[str], k: int = 10) -> list[list[Hit]]:
        """Returns for each text its best `k` documents, fewer if the index holds fewer.

        Raises:
            ConfigError: `k` is below 1, a text is empty, or there is no pool.
            PoolError: The pool refused a text or stayed away.
        """
        _check_hits(k)
        return self.search_vectors(self.embed(texts), k)

    def search_vectors(self, vectors: NDArray[np.floating], k: int = 10) -> list[list[Hit]]:
        """Returns for each vector its best `k` documents, fewer if the index holds fewer.

        Args:
            vectors: Any type of float, `[queries, dim]`, made by the index's model.
            k: Hits for each.

        Raises:
            ConfigError: `k` is below 1, or the shape is another.
        """
        _check_hits(k)
        if vectors.ndim != 2 or vectors.shape[1] != self.dim:
            raise ConfigError(
                f"queries have shape {list(vectors.shape)}, wanted [queries, {self.dim}] as in the index"
            )
        if not len(vectors):
            return []
        scores, ids = self._index.search(
            np.asarray(vectors, dtype=np.float32), min(k, max(1, self._index.count))
        )
        return [self._hits(*of_query) for of_query in zip(scores, ids, strict=True)]

    def doc_id(self, row_id: int) -> str:
        """Returns the document id behind a FAISS id; raises StoreError when the units lack it."""
        unit = self._plan.unit_of(row_id)
        rows, doc_ids = self._ids_of_unit(unit.number)
        position = int(np.searchsorted(rows, row_id - unit.base + unit.start))
        if position == len(rows) or rows[position] != row_id - unit.base + unit.start:
            raise StoreError(f"FAISS id {row_id} is in no unit; run 'python -m indexer verify'")
        return doc_ids[position]

    def _hits(self, scores: NDArray[np.float32], ids: NDArray[np.int64]) -> list[Hit]:
        pairs = [(float(score), int(row)) for score, row in zip(scores, ids, strict=True) if row >= 0]
        return [Hit(rank, score, self.doc_id(row)) for rank, (score, row) in enumerate(pairs, 1)]

    def _read_ids(self, number: int) -> tuple[NDArray[np.int64], list[str]]:
        stored = read_unit(self._layout.unit(number), doc_ids=True)
        return stored.rows, stored.doc_ids


def _check_hits(k: int) -> None:
    if k < 1:
        raise ConfigError(f"k is {k}, wanted at least 1")
