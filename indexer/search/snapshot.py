"""One generation of an index, opened: vectors in, hits out.

Guarantees: any thread may search at once; a search sees this generation and its search setting from begin to
end, whatever is written meanwhile. What it holds (memory, mapped files) is freed with the last reference, so
searches under way keep a generation that others have left.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from indexer.errors import ConfigError, StoreError
from indexer.index import generations
from indexer.index.generations import Generation
from indexer.search.contents import Contents
from indexer.search.hits import Ask, Hit
from indexer.search.nearest import Nearest
from indexer.store.layout import FIRST_EDITION, Layout
from indexer.store.ledger import load_plan, read_receipt

_READS = 2  # of CURRENT: it may be given another edition between a look at the edition and at the generation


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

    @property
    def name(self) -> str:
        """The generation's number; of later editions with theirs in front."""
        edition = self.layout.edition
        return self.generation.name if edition == FIRST_EDITION else f"{edition:06d}/{self.generation.name}"


def in_use(root: Path) -> Place:
    """Returns what an index's CURRENT names now; raises StoreError when it is damaged or there is none."""
    for _ in range(_READS):
        layout = Layout.in_use(root)
        if (generation := generations.current(layout)) is not None:
            return Place(layout, generation)
    load_plan(layout)  # says what is wrong with a folder that is no index
    raise StoreError(f"{root} is not complete: run its 'python -m indexer run' command again")


class Snapshot:
    """A generation that is open.

    Args:
        place: Which one.
        mapped: Leave the FAISS index in its files and let the kernel fetch the pages that searches touch.
        before: Another generation, whose contents are shared where the plan is the same.

    Raises:
        StoreError: It is damaged or gone.
    """

    def __init__(self, place: Place, *, mapped: bool, before: "Snapshot | None" = None) -> None:
        self.place = place
        self.plan = load_plan(place.layout)
        shared: Contents | None = None if before is None else before.contents
        if shared is None or (shared.layout, shared.plan) != (place.layout, self.plan):
            shared = Contents(place.layout, self.plan)
        self.contents: Contents = shared
        index = generations.open_index(place.layout, place.generation, mapped=mapped)
        self.vectors = index.count
        self.documents = self._count_documents()
        self._nearest = Nearest(index, self.documents, self.plan.end)

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
        allowed = self._nearest.allowed(ask.filter, self.contents.mask) if ask.filter.strip() else None
        found = self._nearest.find(queries, ask.k, allowed)
        searched = time.perf_counter()
        hits = [self._hits(rows, query, ask) for rows, query in zip(found, queries, strict=True)]
        return Found(hits, searched - began, time.perf_counter() - searched)

    def _hits(self, found: Sequence[tuple[float, int]], query: NDArray[np.float32], ask: Ask) -> list[Hit]:
        documents = self.contents.documents
        named = [(score, row, documents.doc_id(row)) for score, row in found]
        there = [(score, row, name) for score, row, name in named if name is not None]
        rows = [row for _, row, _ in there]
        hits = [Hit(rank, score, name) for rank, (score, _, name) in enumerate(there, 1)]
        if ask.columns:
            values = self.contents.columns.rows(rows, ask.columns)
            hits = [replace(hit, columns=of_hit) for hit, of_hit in zip(hits, values, strict=True)]
        if ask.passages:
            passages = documents.passages(rows, query)
            hits = [replace(hit, passage=passage) for hit, passage in zip(hits, passages, strict=True)]
        return hits

    def _count_documents(self) -> int:
        """Returns the documents that can be found: all vectors, where a document has but one."""
        if not self.plan.config.chunk_tokens:
            return self.vectors
        meta, layout = self.place.generation.meta, self.place.layout
        spans = [(shard.first_unit, shard.end_unit) for shard in meta.shards]
        units = (unit for unit in self.plan.units if any(low <= unit.number < high for low, high in spans))
        receipts = (read_receipt(layout, unit) for unit in units)
        return max(0, sum(receipt.documents for receipt in receipts if receipt is not None) - meta.dead)
