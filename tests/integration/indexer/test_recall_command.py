"""Wishes and `recall` through the command line, with a private pool."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from build_models.quality.docstrings import Docstring
from indexer.search.searcher import Searcher

COUNT = 500


@pytest.fixture(scope="module")
def corpus(some_docstrings: list[Docstring], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of 500 docstrings; the last hundred are copies of the first, under other ids."""
    path = tmp_path_factory.mktemp("corpus") / "a.parquet"
    texts = [docstring.text for docstring in some_docstrings[: COUNT - 100]]
    ids = [f"d{number}" for number in range(COUNT)]
    pq.write_table(pa.table({"doc_id": ids, "text": [*texts, *texts[:100]]}), path)
    return path


@pytest.fixture(scope="module")
def address(tiny_bundle: Path, start_shared_worker: Callable[..., Any]) -> str:
    """Where a pool of the tiny bundle listens, for all tests here."""
    return str(start_shared_worker(tiny_bundle, "--processes", "1").address)


def test_wishes_from_the_run_to_the_search(
    corpus: Path, address: str, tiny_bundle: Path, indexer: Any, tmp_path: Path
) -> None:
    """A run tunes its index, the same run stands, `recall` confirms it, another wish is stored and used."""
    index, written = tmp_path / "index", tmp_path / "recall.json"
    run = ["run", "--input", corpus, "--output", index, "--worker", address, "--text-columns", "text"]
    wishes = ["--index-key", "IVF12,Flat", "--target-recall", ".9", "--max-index-memory-usage", "1GB"]
    indexer.run(*run, *wishes)
    meta = index / "faiss" / "000001" / "meta.json"
    tuned = json.loads(meta.read_text())
    assert tuned["tuning"]["recall"] >= 0.9
    assert tuned["tuning"]["unmet"] == ""
    before = indexer.tree(index)
    assert "is complete" in indexer.run(*run, *wishes).stdout
    assert indexer.tree(index) == before

    said = indexer.run("recall", "--index", index, "--sample", "500", "--json", written).stdout.splitlines()
    points = {
        point["setting"]["nprobe"]: point["recall"] for point in json.loads(written.read_text())["points"]
    }
    assert points[tuned["search"]["nprobe"]] == pytest.approx(tuned["tuning"]["recall"], abs=5e-5)
    assert f"nprobe {tuned['search']['nprobe']} " in next(line for line in said if line.endswith("in use"))

    queries = tmp_path / "queries.txt"
    queries.write_text("open a socket\nparse a header\nsend a message\n")
    ask = ["recall", "--index", index, "--bundle", tiny_bundle, "--queries", queries, "-k", "5"]
    said = indexer.run(*ask, "--target-recall", "1", "--save").stdout
    assert "measured 3 queries, one after the other on one core, recall@5" in said
    chosen = json.loads(meta.read_text())
    assert chosen["tuning"]["recall"] == 1.0
    assert chosen["tuning"]["held_out"] is False
    indexer.run("verify", "--index", index)
    hits = [
        [json.loads(line)["hits"] for line in indexer.run(*search).stdout.splitlines()]
        for mapping in ([], ["--mmap"])
        for search in [
            ["search", "--index", index, "--worker", address, "--json", "--queries", queries, *mapping]
        ]
    ]
    assert hits[0] == hits[1]
    assert [len(found) for found in hits[0]] == [10, 10, 10]
    assert set(_found_by_themselves(index)) == {True}


def _found_by_themselves(index: Path) -> Iterator[bool]:
    """Searches by the stored vectors: yields whether each document finds itself."""
    for path in sorted((index / "units").glob("*.parquet")):
        table = pq.read_table(path)
        vectors = np.array(table["embedding"].to_pylist(), dtype=np.float32)
        with Searcher(index) as searcher:
            for doc_id, vector, hits in zip(
                table["doc_id"].to_pylist(), vectors, searcher.search_vectors(vectors, 5), strict=True
            ):
                equal = [hit.doc_id for hit in hits if hit.score > vector @ vector - 1e-4]
                yield doc_id in equal or len(equal) == 5


def test_wishes_that_cannot_be_met(corpus: Path, address: str, indexer: Any, tmp_path: Path) -> None:
    """Too little memory is said before anything is embedded, too high a recall at the end."""
    index = tmp_path / "index"
    run = ["run", "--input", corpus, "--output", index, "--worker", address, "--text-columns", "text"]
    error = indexer.run(*run, "--max-index-memory-usage", "1kB", code=2).stderr
    assert "500 vectors of 32 values do not fit into 1 kB: the least is" in error
    assert "give --max-index-memory-usage" in error
    assert not (index / "plan.json").exists()
    for size in ("many", "-3"):
        assert "is no size" in indexer.run(*run, "--max-index-memory-usage", size, code=2).stderr
    wishes = ["--index-key", "IVF12,SQ4", "--target-recall", "1"]
    first = indexer.run(*run, *wishes, code=1).stderr.splitlines()[-1]
    assert "recall 1 is not reached: the nearest is recall 0." in first
    before = indexer.tree(index)
    again = indexer.run(*run, *wishes, code=1).stderr.splitlines()[-1]
    assert again == first
    assert indexer.tree(index) == before
    least = indexer.run(*run, "--max-index-memory-usage", "30kB").stdout
    assert "IVF12,SQ8" in least
    indexer.run("verify", "--index", index)
