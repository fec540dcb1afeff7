"""An index folder that grows unit by unit, as runs leave it, without a pool: for tests of generations."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexer.config import PlanConfig
from indexer.documents import HASH_BYTES
from indexer.index import generations
from indexer.index.generations import Generation
from indexer.index.open_index import OpenIndex
from indexer.plan import InputFile, Model, Plan, make_plan
from indexer.store.durable import make_folder
from indexer.store.layout import Layout
from indexer.store.ledger import Receipt, commit_unit, sha256
from indexer.store.unit_file import Chunks, UnitTable, unit_bytes

UNIT_ROWS = 64


@dataclass
class Grown:
    """A folder and what it should hold.

    Attributes:
        root: The folder.
        dim: Length of a vector.
        vectors: Of every row, by row id, float32 `[rows, dim]`.
        there: Which rows have a vector: the others were rejected.
        dead: Row ids that are dead, sorted.
    """

    root: Path
    dim: int = 16
    vectors: NDArray[np.float32] = field(init=False)
    there: NDArray[np.bool_] = field(default_factory=lambda: np.empty(0, dtype=np.bool_))
    dead: NDArray[np.int64] = field(default_factory=lambda: generations.NO_DEAD)
    files: list[int] = field(default_factory=list)
    receipts: list[Receipt] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Makes the folders."""
        self.vectors = np.empty((0, self.dim), dtype=np.float32)
        self.layout = Layout(self.root)
        for folder in (self.layout.units, self.layout.rejects):
            make_folder(folder)

    @property
    def plan(self) -> Plan:
        """Of all files added so far."""
        files = [InputFile(f"/{at}.parquet", 1, 1, (rows,)) for at, rows in enumerate(self.files)]
        model = Model("f" * 64, "grown", self.dim, normalized=True)
        return make_plan(files, PlanConfig(unit_rows=UNIT_ROWS), model)

    @property
    def alive(self) -> NDArray[np.int64]:
        """Row ids that can be found."""
        return np.setdiff1d(np.flatnonzero(self.there), self.dead)

    def add(self, vectors: NDArray[np.float32], rejected: Sequence[int] = ()) -> None:
        """Commits the units of one more file."""
        done = len(self.receipts)
        there = np.ones(len(vectors), dtype=np.bool_)
        there[list(rejected)] = False
        self.files.append(len(vectors))
        self.vectors = np.concatenate([self.vectors, vectors])
        self.there = np.concatenate([self.there, there])
        for unit in self.plan.units[done:]:
            ids = np.arange(unit.base, unit.base + unit.rows)
            ids = ids[self.there[ids]]
            rows, ones = ids - unit.base + unit.start, np.ones(len(ids), dtype=np.int32)
            hashes = np.zeros((len(ids), HASH_BYTES), dtype=np.uint8)
            names = [f"d{at}" for at in ids]
            table = UnitTable(unit, rows, names, self.vectors[ids], ones, ones.astype(np.bool_), hashes)
            data = unit_bytes(table, self.plan.model)
            self.receipts.append(receipt(unit, len(ids), sha256(data), len(data)))
            commit_unit(self.layout, self.receipts[-1], data, b"")

    def kill(self, rows: Sequence[int] | NDArray[np.int64]) -> None:
        """Makes rows dead, those among them that have a vector."""
        gone = np.array([row for row in rows if self.there[row]], dtype=np.int64)
        self.dead = np.union1d(self.dead, gone)

    def update(self, key: str, *, full: bool = False, memory: int | None = None) -> Generation:
        """Makes the next generation."""
        return generations.update(
            self.layout, self.plan, self.receipts, self.dead, key, lambda _: None,
            full=full, build_memory=memory,
        )  # fmt: skip

    def open(self, *, mapped: bool = False) -> OpenIndex:
        """Opens the generation in use, with all lists searched."""
        generation = generations.current(self.layout)
        assert generation is not None
        index = generations.open_index(self.layout, generation, mapped=mapped)
        if index.lists:
            index.configure({"nprobe": index.lists})
        return index

    def nearest(self, queries: NDArray[np.float32], k: int, allowed: Any = None) -> NDArray[np.int64]:
        """Returns what brute force finds, int64 `[queries, at most k]`."""
        ids = self.alive if allowed is None else self.alive[allowed[self.alive]]
        order = np.argsort(-(queries @ self.vectors[ids].T), axis=1, kind="stable")[:, :k]
        found: NDArray[np.int64] = ids[order]
        return found


def commit_chunks(grown: Grown, vectors: NDArray[np.float32]) -> None:
    """Commits one unit of documents that have several vectors each, float32 `[rows, chunks, dim]`."""
    rows, chunks, dim = vectors.shape
    grown.files.append(rows)
    grown.there = np.concatenate([grown.there, np.ones(rows, dtype=np.bool_)])
    unit = grown.plan.units[-1]
    ones = np.ones(rows * chunks, dtype=np.int32)
    numbers = np.tile(np.arange(chunks, dtype=np.int32), rows)
    table = UnitTable(
        unit, np.repeat(np.arange(rows), chunks), ["d"] * len(ones), vectors.reshape(-1, dim), ones,
        ones.astype(np.bool_), np.zeros((len(ones), HASH_BYTES), dtype=np.uint8),
        Chunks(numbers, numbers, numbers + 1),
    )  # fmt: skip
    data = unit_bytes(table, grown.plan.model)
    grown.receipts.append(Receipt(unit, "f" * 64, len(ones), rows, {}, 1, 0, sha256(data), len(data)))
    commit_unit(grown.layout, grown.receipts[-1], data, b"")


def receipt(unit: Any, vectors: int, digest: str, size: int) -> Receipt:
    """Returns the receipt of a unit of so many vectors; its other rows were rejected."""
    return Receipt(unit, "f" * 64, vectors, vectors, {"empty": unit.rows - vectors}, 1, 0, digest, size)


def unit_vectors(count: int, dim: int = 16, seed: int = 0) -> NDArray[np.float32]:
    """Returns random vectors of unit length around some centres, float32 `[count, dim]`."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(1).standard_normal((30, dim))
    made = centres[rng.integers(0, len(centres), count)] + 0.5 * rng.standard_normal((count, dim))
    unit: NDArray[np.float32] = (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)
    return unit
