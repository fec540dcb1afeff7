"""From Parquet to search results through a real pool, against oracles."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from build_models.quality.docstrings import Docstring
from indexer.search.searcher import Searcher
from worker.bundle import read_bundle
from worker.session import Session
from worker.tokenizer import Tokenizer

StartWorker = Callable[..., Any]
COUNT = 300


@pytest.fixture
def corpus(some_docstrings: list[Docstring], tmp_path: Path) -> Path:
    """Two files of 300 docstrings in all, in small row groups."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    for name, part in (("a", some_docstrings[:170]), ("b", some_docstrings[170:COUNT])):
        table = pa.table(
            {
                "doc_id": [docstring.qualified_name for docstring in part],
                "title": [docstring.summary if n % 3 else None for n, docstring in enumerate(part)],
                "text": [docstring.text for docstring in part],
            }
        )
        pq.write_table(table, folder / f"{name}.parquet", row_group_size=60)
    return folder


def _stored(index: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Returns every vector by document id, read by pyarrow alone."""
    tables = [pq.read_table(path) for path in sorted((index / "units").glob("*.parquet"))]
    return {
        doc_id: np.array(vector)
        for table in tables
        for doc_id, vector in zip(table["doc_id"].to_pylist(), table["embedding"].to_pylist(), strict=True)
    }


def _oracle(bundle_path: Path, corpus: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Embeds the corpus with the bundle in this process, one text at a time."""
    bundle = read_bundle(bundle_path)
    tokenizer, session = Tokenizer(bundle.tokenizer, bundle.manifest.max_tokens), Session(bundle)
    vectors = {}
    for path in sorted(corpus.glob("*.parquet")):
        for row in pq.read_table(path).to_pylist():
            text = "\n".join(part for part in (row["title"], row["text"]) if part)
            vectors[row["doc_id"]] = session.embed([tokenizer.encode([text])[0].ids])[0]
    return vectors


@pytest.mark.parametrize("kind", ["float32", "float16"])
def test_parquet_in_search_results_out(
    kind: str, corpus: Path, tiny_bundle: Path, start_worker: StartWorker, indexer: Any, tmp_path: Path
) -> None:
    """Stored vectors are those of the bundle in process, hits are those of brute force, verify agrees."""
    address = start_worker(tiny_bundle, "--processes", "2").address
    index = tmp_path / "index"
    run = ["run", "--input", str(corpus / "*.parquet"), "--output", index, "--worker", address]
    done = indexer.run(*run, "--vector-type", kind, "--unit-rows", "64")
    assert f"documents  {COUNT} embedded" in done.stdout
    assert sorted(path.name for path in index.iterdir()) == [
        ".claims",
        ".holders",
        ".lock",
        "CURRENT",
        "faiss",
        "plan.json",
        "rejects",
        "units",
    ]

    stored, expected = _stored(index), _oracle(tiny_bundle, corpus)
    assert list(stored) == list(expected)
    for doc_id, vector in expected.items():
        assert vector @ stored[doc_id] >= (0.99999 if kind == "float32" else 0.9995), doc_id

    queries = ["parse an address", "send a file over a socket", "cancel a task"]
    with Searcher(index, address) as searcher:
        found = searcher.search(queries, k=5)
        vectors = searcher.embed(queries)
    scores = vectors @ np.stack(list(stored.values())).astype(np.float32).T
    names = list(stored)
    for hits, row in zip(found, scores, strict=True):
        order = np.argsort(-row, kind="stable")[:5]
        assert [hit.doc_id for hit in hits] == [names[at] for at in order]
        assert np.allclose([hit.score for hit in hits], row[order], atol=1e-5)
        assert [hit.rank for hit in hits] == [1, 2, 3, 4, 5]

    said = indexer.run("verify", "--index", index, "--worker", address).stdout
    assert [line.split(":")[0] for line in said.splitlines()] == [
        f"ok   {name}"
        for name in (
            "receipts", "deletions", "checksums", "units", "ids", "inputs", "faiss", "sample", "leftovers",
        )
    ]  # fmt: skip
    again = indexer.run(*run, "--vector-type", kind, "--unit-rows", "64")
    assert "is complete" in again.stdout


def test_one_command_with_a_private_pool(
    corpus: Path, tiny_bundle: Path, indexer: Any, tmp_path: Path
) -> None:
    """With --bundle no server is needed, before, during or after; searches speak text and JSON."""
    index = tmp_path / "index"
    indexer.run(
        "run", "--input", corpus / "a.parquet", "--output", index, "--bundle", tiny_bundle, "--limit", "50"
    )
    ask = ["search", "--index", index, "--bundle", tiny_bundle]
    (line,) = indexer.run(*ask, "--json", "-k", "3", "open a socket").stdout.splitlines()
    answer = json.loads(line)
    assert answer["query"] == "open a socket"
    assert [hit["rank"] for hit in answer["hits"]] == [1, 2, 3]
    text = indexer.run(*ask, "-k", "3", "open a socket").stdout.splitlines()
    assert [row.split() for row in text] == [
        [str(hit["rank"]), f"{hit['score']:.4f}", hit["doc_id"]] for hit in answer["hits"]
    ]
    queries = tmp_path / "queries.jsonl"
    queries.write_text('{"text": "open a socket"}\n{"text": "read a header", "id": 4}\n')
    lines = indexer.run(*ask, "--json", "-k", "3", "--queries", queries).stdout.splitlines()
    assert lines[0] == line
    assert json.loads(lines[1])["query"] == "read a header"
    assert len(indexer.run(*ask, "-k", "99", "few").stdout.splitlines()) == 50


def test_rows_without_vectors_are_told_with_their_reason(
    tiny_bundle: Path, start_worker: StartWorker, indexer: Any, tmp_path: Path
) -> None:
    """Null, empty, undecodable and too large texts and ids are counted rejects; all others are found."""
    broken = pa.Array.from_buffers(
        pa.string(), 2, [None, pa.py_buffer(np.array([0, 2, 4], np.int32)), pa.py_buffer(b"\xff\xfeok")]
    )
    texts = pa.concat_arrays(
        [broken, pa.array(["", None, " \n", "x" * 3000, "good", "no id", "\u0000\u0001"])]
    )
    ids = [f"d{n}" for n in range(7)] + [None, "d8"]
    path, index = tmp_path / "a.parquet", tmp_path / "index"
    pq.write_table(pa.table({"doc_id": ids, "text": texts}), path)
    address = start_worker(tiny_bundle, "--max-text-bytes", "2000").address
    command = ["run", "--input", path, "--output", index, "--worker", address, "--text-columns", "text"]
    done = indexer.run(*command, "--unit-rows", "4")
    rejects = [
        row for part in sorted((index / "rejects").glob("*")) for row in pq.read_table(part).to_pylist()
    ]
    by_row = {row["row"]: (row["doc_id"], row["reason"]) for row in rejects}
    assert {row: found for row, found in by_row.items() if row != 8} == {
        0: ("d0", "not text"),
        2: ("d2", "empty"),
        3: ("d3", "null"),
        4: ("d4", "empty"),
        5: ("d5", "too large"),
        7: (None, "null id"),
    }
    # What only the pool can know: control characters give no token.
    assert by_row[8][0] == "d8"
    assert by_row[8][1].startswith("INVALID_ARGUMENT: ")
    assert sorted(_stored(index)) == ["d1", "d6"]
    assert "7 (INVALID_ARGUMENT 1, empty 2, not text 1, null 1, null id 1, too large 1)" in done.stdout
    assert len(indexer.run("search", "--index", index, "--worker", address, "good").stdout.splitlines()) == 2
    indexer.run("verify", "--index", index, "--worker", address)


def test_an_index_of_nothing(
    tiny_bundle: Path, start_worker: StartWorker, indexer: Any, tmp_path: Path
) -> None:
    """A file without rows, or of bad rows alone, gives an empty index that can be asked and verified."""
    address = start_worker(tiny_bundle, "--processes", "1").address
    for name, rows in (("none", 0), ("bad", 3)):
        path, index = tmp_path / f"{name}.parquet", tmp_path / name
        pq.write_table(
            pa.table({"doc_id": pa.array(["a", "b", "c"][:rows]), "text": pa.array([""] * rows)}), path
        )
        command = ["run", "--input", path, "--output", index, "--worker", address, "--text-columns", "text"]
        indexer.run(*command)
        assert "no documents" in indexer.run("search", "--index", index, "--worker", address, "word").stdout
        indexer.run("verify", "--index", index, "--worker", address)


def test_the_index_is_rebuilt_under_another_key(
    corpus: Path, tiny_bundle: Path, start_worker: StartWorker, indexer: Any, tmp_path: Path
) -> None:
    """Another --index-key embeds nothing again, makes a new generation, and CURRENT leads there."""
    address, index = start_worker(tiny_bundle).address, tmp_path / "index"
    command = ["run", "--input", corpus / "*", "--output", index, "--worker", address]
    indexer.run(*command)
    units = {name: data for name, data in indexer.tree(index).items() if name.startswith("units/")}
    indexer.run(*command, "--index-key", "IVF4,Flat")
    tree = indexer.tree(index)
    assert tree["CURRENT"] == b"faiss/000002\n"
    assert json.loads(tree["faiss/000002/meta.json"])["key"] == "IVF4,Flat"
    assert {name: data for name, data in tree.items() if name.startswith("units/")} == units
    indexer.run("verify", "--index", index)
    error = indexer.run(*command, "--index-key", "IVF4096,Flat", code=1).stderr.splitlines()[-1]
    assert "needs at least 4,096 vectors" in error
    assert indexer.tree(index)["CURRENT"] == b"faiss/000002\n"
