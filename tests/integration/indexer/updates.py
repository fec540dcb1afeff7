"""A small index that was made and updated, for tests that delete from it, compact, damage and mend it."""

import io
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from rich.console import Console

from indexer.operations.repair import Repaired, repair_index
from indexer.operations.verify import verify_index
from indexer.search.searcher import Searcher
from indexer.store.layout import Layout
from indexer.store.ledger import load_plan
from indexer.store.unit_file import read_unit

HITS = 200  # more than there are documents: with all lists searched the answer is exact


def quiet() -> Console:
    """Returns a console that nobody sees."""
    return Console(file=io.StringIO())


class Archive:
    """A folder of inputs, the pool for them, and indexes of them.

    Args:
        folder: For inputs and indexes.
        address: Of the pool.
        indexer: Runs commands.
        texts: At least 150 texts.
        options: Further options of `run`.
    """

    def __init__(self, folder: Path, address: str, indexer: Any, texts: Sequence[str], *options: str) -> None:
        self.folder, self.address, self.indexer, self.texts = folder, address, indexer, texts
        self.inputs = folder / "inputs"
        self.inputs.mkdir(parents=True, exist_ok=True)
        self.options = ["--unit-rows", "20", "--worker", address, *options]

    def write(self, name: str, rows: dict[str, str]) -> None:
        """Writes an input; rows are ids and texts."""
        table = pa.table({"doc_id": list(rows), "title": [""] * len(rows), "text": list(rows.values())})
        pq.write_table(
            table,
            self.inputs / f"{name}.parquet",
            row_group_size=16,
            compression="NONE",
            write_statistics=False,
        )

    def rows(self, first: int, stop: int) -> dict[str, str]:
        """Returns documents d{first} … with texts of their own."""
        return {f"d{number}": self.texts[number] for number in range(first, stop)}

    def command(self, index: Path) -> list[str | Path]:
        """Returns the command that makes or updates an index of all inputs."""
        return ["run", "--input", self.inputs / "*.parquet", "--output", index, *self.options]

    def run(self, index: Path) -> str:
        """Runs it to its end, and returns what it said."""
        return str(self.indexer.run(*self.command(index)).stdout)

    def first(self, index: Path) -> dict[str, str]:
        """Makes an index of two files, with a row that is rejected; returns what it should hold."""
        a, b = self.rows(0, 45), self.rows(45, 70)
        a["d7"] = " "
        self.write("a", a)
        self.write("b", b)
        self.run(index)
        return {doc_id: text for doc_id, text in (a | b).items() if text.strip()}

    def second(self, index: Path) -> dict[str, str]:
        """Updates it: a new file, one that changed, an id that moved, two deletions."""
        a, b, c = self.rows(0, 45), self.rows(45, 70), self.rows(70, 90)
        a["d7"] = " "
        b = {doc_id: text for doc_id, text in b.items() if doc_id not in ("d50", "d51")}
        b["d52"] = self.texts[120]
        c["d3"] = self.texts[121]
        self.write("b", b)
        self.write("c", c)
        self.run(index)
        self.indexer.run("delete", "--index", index, "--ids", "d1,d60,d80,nobody")
        held = a | b | c
        return {
            doc_id: text
            for doc_id, text in held.items()
            if text.strip() and doc_id not in ("d1", "d60", "d80")
        }


def sound(index: Path) -> bool:
    """Returns whether `verify` finds nothing wrong."""
    return all(finding.ok for finding in verify_index(index))


def failures(index: Path) -> list[str]:
    """Returns the checks of `verify` that fail, with what they say."""
    return [f"{finding.check}: {finding.detail}" for finding in verify_index(index) if not finding.ok]


def answers(index: Path, queries: NDArray[np.float32]) -> list[list[tuple[str, float]]]:
    """Returns all documents that an index finds for each query, with scores rounded to six digits."""
    with Searcher(index) as searcher:
        return [
            [(hit.doc_id, round(hit.score, 6)) for hit in hits]
            for hits in searcher.search_vectors(queries, HITS)
        ]


def vectors_of(index: Path) -> NDArray[np.float32]:
    """Returns some stored vectors, to search for."""
    layout = Layout.in_use(index)
    unit = load_plan(layout).units[0]
    return read_unit(layout.unit(unit.number), vectors=True).vectors[:4].astype(np.float32)


def copied(index: Path, name: str) -> Path:
    """Returns a copy of an index beside it."""
    target = index.with_name(name)
    shutil.copytree(index, target)
    return target


def repair(index: Path) -> Repaired:
    """Repairs in this process."""
    return repair_index(index, quiet())


MakeArchive = Callable[..., Archive]
