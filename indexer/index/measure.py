"""Measures the FAISS index of a folder against the vectors in its units, and stores the setting to use."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from indexer.config import Wishes
from indexer.errors import BuildError, ConfigError, StoreError
from indexer.index import generations, tuning
from indexer.index.generations import Generation
from indexer.index.ground_truth import Queries
from indexer.index.recall import Setting
from indexer.index.tuning import Evaluation
from indexer.index.unit_vectors import vector_pieces
from indexer.plan import Plan
from indexer.progress import Stage
from indexer.store.layout import Layout
from indexer.store.ledger import Receipt, committed, load_plan, source_digest
from indexer.store.lock import exclusive

_PASSES = 2  # over all vectors: for the exact answers, and for the exact scores of what was found


@dataclass(frozen=True)
class Built:
    """An index folder with all in place: receipts of every unit, in order, and the FAISS index in use."""

    layout: Layout
    plan: Plan
    receipts: tuple[Receipt, ...]
    generation: Generation

    @property
    def count(self) -> int:
        """Number of vectors that searches can find."""
        return self.generation.meta.count

    @property
    def passed(self) -> int:
        """Number of vectors that a pass reads, dead ones among them."""
        return sum(receipt.vectors for receipt in self.receipts)

    def read(
        self, advance: Callable[[int], None] = lambda _: None
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.floating]]]:
        """Starts a pass over all living ids and vectors; `advance` is told how many more were passed."""
        dead = generations.dead_rows(self.layout, self.generation)
        yield from vector_pieces(self.layout, self.receipts, dead, advance)


def open_built(root: Path) -> Built:
    """Opens an index folder.

    Raises:
        StoreError: It is no index, not complete, or its FAISS index was built from other units.
    """
    layout = Layout.in_use(root.absolute())
    plan = load_plan(layout)
    found, generation = committed(layout, plan), generations.current(layout)
    if generation is None or len(found) < len(plan.units):
        raise StoreError(f"{root} is not complete: run its 'python -m indexer run' command again")
    receipts = tuple(found[unit.number] for unit in plan.units)
    if generation.meta.source != source_digest(receipts):
        raise StoreError(f"the FAISS index of {root} is of other units: run its 'run' command again")
    return Built(layout, plan, receipts, generation)


def sample_queries(built: Built, size: int) -> Queries:
    """Returns vectors of the index as queries; each is left out of its own answer."""
    if size < 1:
        raise ConfigError(f"the sample has {size} vectors, wanted at least 1")
    return tuning.held_out(built.read, built.count, size)


def measure(
    built: Built,
    queries: Queries,
    k: int,
    console: Console,
    *,
    mapped: bool = False,
    also: Setting | None = None,
    enough: float | None = None,
) -> Evaluation:
    """Returns what the index finds at settings of rising effort, up to a recall, and at the one of `also`.

    Raises:
        ConfigError: There is nothing to find or to search for, or `k` is below 1.
        StoreError: The FAISS index or a unit is damaged.
    """
    if not built.count or not len(queries.vectors):
        raise ConfigError(f"{built.layout.root} holds {built.count} vectors: there is nothing to measure")
    if k < 1:
        raise ConfigError(f"k is {k}, wanted at least 1")
    index = generations.open_index(built.layout, built.generation, mapped=mapped)
    with Stage(console, "measuring", _PASSES * built.passed, noun="vectors") as stage:
        clock = time.perf_counter if mapped else time.thread_time
        return tuning.evaluate(index, queries, lambda: built.read(stage.advance), k, clock, also, enough)


def tune(built: Built, wishes: Wishes, console: Console) -> Generation:
    """Measures held-out vectors of a new index and stores the setting that meets the wishes, or the nearest.

    The caller holds the lock of the index. A setting that stands for the same wishes is kept.
    """
    standing = built.generation.meta.tuning
    if standing is not None and standing.answers(wishes):
        return built.generation
    queries = sample_queries(built, tuning.QUERIES)
    enough = wishes.target_recall
    evaluation = measure(built, queries, tuning.HITS, console, enough=enough)
    return generations.save_setting(built.layout, built.generation, evaluation, wishes)


def check_met(generation: Generation) -> None:
    """Raises BuildError when the stored setting does not meet its wishes; the index is whole all the same."""
    chosen = generation.meta.tuning
    if chosen is not None and chosen.unmet:
        raise BuildError(
            f"{chosen.unmet}; searches use that. Wish for less, or for another index: more memory or another "
            f"--index-key than {generation.meta.key}"
        )


def save(built: Built, evaluation: Evaluation, wishes: Wishes) -> Generation:
    """Stores the setting that meets the wishes, under the lock of the index.

    Raises:
        StoreError: A run works on the index, or has made another FAISS index meanwhile.
    """
    with exclusive(built.layout, "recall"):
        if generations.current(built.layout) != built.generation:
            raise StoreError(f"{built.layout.root} has changed meanwhile; measure it again")
        return generations.save_setting(built.layout, built.generation, evaluation, wishes)
