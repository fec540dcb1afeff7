"""One generation of an index, opened: vectors in, hits out.

Guarantees: any thread may search at once; a search sees this generation and its search setting from begin to
end, whatever is written meanwhile. What it holds (memory, mapped files) is freed with the last reference, so
searches under way keep a generation that others have left.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from indexer.errors import ConfigError, StoreError
from indexer.index import generations
from indexer.index.generations import Generation
from indexer.search.documents import Documents
from indexer.search.grouping import Looked, documents_of, first_fetch
from indexer.search.hits import Ask, Hit
from indexer.store.layout import Layout
from indexer.store.ledger import load_plan


@dataclass(frozen=True)
class Found:
    """The hits of each query, and where the time went, in seconds."""

    hits: list[list[Hit]]
    search_seconds: float
    documents_seconds: float


@dataclass(frozen=True)
class Place:
    """Which generation of which edition is in use; equal as long as searches would find the same."""

    layout: Layout
    generation: Generation


def in_use(root: Path) -> Place:
    """Returns what an index's CURRENT names now; raises StoreError when it is damaged or there is none."""
    layout = Layout(root)
    generation = generations.current(layout)
    if generation is None:
        load_plan(layout)  # says what is wrong with a folder that is no index
        raise StoreError(f"{root} is not complete: run its 'python -m indexer run' command again")
    return Place(layout, generation)


class Snapshot:
    """A generation that is open.

    Args:
        place: Which one.
        mapped: Leave the FAISS index in its files and let the kernel fetch the pages that searches touch.

    Raises:
        StoreError: It is damaged or gone.
    """

    def __init__(self, place: Place, *, mapped: bool) -> None:
        self.place = place
        self.plan = load_plan(place.layout)
        self._index = generations.open_index(place.layout, place.generation, mapped=mapped)
        self._documents = Documents(place.layout, self.plan)

    @property
    def vectors(self) -> int:
        """Vectors that can be found."""
        return self._index.count

    @property
    def documents(self) -> int:
        """Documents that can be found."""
        return self._index.count

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self.plan.model.dim

    @property
    def fingerprint(self) -> str:
        """The model that made the vectors."""
        return self.plan.model.fingerprint

    def check_vectors(self, vectors: NDArray[np.floating]) -> None:
        """Raises ConfigError unless vectors are `[queries, dim]` of finite numbers."""
        if vectors.ndim != 2 or vectors.shape[1] != self.dim:
            raise ConfigError(
                f"queries have shape {list(vectors.shape)}, wanted [queries, {self.dim}] as in the index"
            )
        finite = np.isfinite(vectors).all(axis=1)
        if not finite.all():
            raise ConfigError(
                f"query {int(np.argmin(finite)) + 1} has a value that is no finite number; "
                "give vectors as the model makes them"
            )

    def find(self, vectors: NDArray[np.floating], ask: Ask) -> Found:
        """Returns the documents nearest to each vector.

        Args:
            vectors: Any type of float, `[queries, dim]`, made by the index's model.
            ask: What to find.

        Raises:
            ConfigError: The vectors are of another shape or no numbers, or a column or the filter is none.
            InputError: An input whose columns are needed is gone or has changed.
            StoreError: A unit is damaged or gone.
        """
        self.check_vectors(vectors)
        began = time.perf_counter()
        queries = np.ascontiguousarray(vectors, dtype=np.float32)
        found = self._nearest(queries, ask)
        searched = time.perf_counter()
        hits = [self._hits(rows, query, ask) for rows, query in zip(found, queries, strict=True)]
        return Found(hits, searched - began, time.perf_counter() - searched)

    def _nearest(self, queries: NDArray[np.float32], ask: Ask) -> list[list[tuple[float, int]]]:
        """Returns (score, row id) of the nearest documents of each query, best first."""
        if not len(queries) or not self._index.count:
            return [[] for _ in queries]
        fetch = first_fetch(ask.k, self.vectors, self.documents)
        scores, rows = self._index.search(queries, fetch)
        return [
            documents_of(ask.k, self.vectors, looked, partial(self._look_without, query, fetch))
            for query, looked in zip(queries, zip(scores, rows, strict=True), strict=True)
        ]

    def _look_without(self, query: NDArray[np.float32], fetch: int, without: list[int]) -> Looked:
        raise NotImplementedError

    def _hits(self, found: Sequence[tuple[float, int]], query: NDArray[np.float32], ask: Ask) -> list[Hit]:
        named = [(score, row, self._documents.doc_id(row)) for score, row in found]
        there = [(score, row, name) for score, row, name in named if name is not None]
        hits = [Hit(rank, score, name) for rank, (score, _, name) in enumerate(there, 1)]
        if ask.passages:
            passages = self._documents.passages([row for _, row, _ in there], query)
            hits = [replace(hit, passage=passage) for hit, passage in zip(hits, passages, strict=True)]
        return hits
