"""The library and the command of searches, on indexes made by `run`, against brute force over their units."""

import gc
import json
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from build_models.quality.docstrings import Docstring
from indexer.errors import ConfigError, InputError
from indexer.search import Hit, Searcher
from tests.integration.indexer.conftest import Indexer

StartWorker = Callable[..., Any]
COUNT = 400
RARE = 7  # documents of the kind that few have
WAIT_SECONDS = 60.0
Row = dict[str, Any]


@dataclass(frozen=True)
class _Corpus:
    """Two files of documents, and the pool that embeds them."""

    folder: Path
    pool: str
    rows: dict[str, Row]

    def index(self, to: Path, *arguments: str) -> Path:
        """Makes an index, or goes on with it."""
        command = ("run", "--input", self.folder / "*.parquet", "--output", to, "--worker", self.pool)
        Indexer().run(*command, "--text-columns", "title,text", "--unit-rows", "64", *arguments)
        return to


@pytest.fixture(scope="module")
def corpus(
    some_docstrings: list[Docstring],
    tiny_bundle: Path,
    start_shared_worker: StartWorker,
    tmp_path_factory: pytest.TempPathFactory,
) -> _Corpus:
    """400 docstrings with a language, a year, tags and a kind that 7 of them have, which are all alike."""
    folder = tmp_path_factory.mktemp("corpus")
    rows = [
        {
            "doc_id": one.qualified_name,
            "title": one.summary,
            "text": "a rare word" * (n % 3 + 1) if n < RARE else one.text,
            "lang": "en" if n % 3 else "de",
            "year": None if n % 10 == 9 else 2000 + n % 25,
            "tags": [str(n), "x"],
            "kind": "rare" if n < RARE else "usual",
        }
        for n, one in enumerate(some_docstrings[:COUNT])
    ]
    for name, part in (("a", rows[:150]), ("b", rows[150:])):
        pq.write_table(pa.Table.from_pylist(part), folder / f"{name}.parquet", row_group_size=40)
    address = start_shared_worker(tiny_bundle, "--processes", "1").address
    return _Corpus(folder, address, {str(row["doc_id"]): row for row in rows})


def _stored(index: Path) -> list[tuple[str, Any, tuple[int, int]]]:
    """Returns id, vector and place of each chunk, read by pyarrow alone."""
    tables = [pq.read_table(path) for path in sorted((index / "units").glob("*.parquet"))]
    return [
        (
            row["doc_id"],
            np.array(row["embedding"], np.float32),
            (row.get("chunk_start"), row.get("chunk_stop")),
        )
        for table in tables
        for row in table.to_pylist()
    ]


def _best(
    stored: list[tuple[str, Any, tuple[int, int]]], query: Any, k: int, names: set[str] | None = None
) -> list[tuple[str, float, tuple[int, int]]]:
    """Returns the k nearest documents by brute force, with the place of their nearest chunk."""
    best: dict[str, tuple[float, tuple[int, int]]] = {}
    for name, vector, place in stored:
        score = float(vector @ query)
        if (names is None or name in names) and (name not in best or score > best[name][0]):
            best[name] = (score, place)
    ranked = sorted(best.items(), key=lambda one: -one[1][0])[:k]
    return [(name, score, place) for name, (score, place) in ranked]


def _agree(hits: list[Hit], wanted: list[tuple[str, float, tuple[int, int]]]) -> None:
    """Asserts that hits are those wanted; documents of equal score may stand in any order."""
    assert len(hits) == len(wanted)
    assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1))
    assert np.allclose([hit.score for hit in hits], [score for _, score, _ in wanted], atol=1e-5)
    lowest = wanted[-1][1] + 1e-5 if wanted else 0.0
    sure = {name for name, score, _ in wanted if score > lowest}
    assert sure <= {hit.doc_id for hit in hits}


FILTERS: list[tuple[str, Callable[[Row], bool]]] = [
    ("lang = 'en' and year >= 2020", lambda row: row["lang"] == "en" and (row["year"] or 0) >= 2020),
    ("kind = 'rare'", lambda row: row["kind"] == "rare"),
    ("kind = 'rare' and lang = 'de'", lambda row: row["kind"] == "rare" and row["lang"] == "de"),
    ("year is null or lang in ('de')", lambda row: row["year"] is None or row["lang"] == "de"),
    ("kind = 'none'", lambda row: False),
]


@pytest.mark.parametrize("key", ["Flat", "IVF40,Flat", "HNSW8", "IVF40,SQ8"])
def test_a_filter_finds_what_brute_force_finds(key: str, corpus: _Corpus, tmp_path: Path) -> None:
    """Whatever the index looks at, a filter that leaves few rows finds its k, the nearest first.

    The rare documents are far from the queries: no list or graph of their neighbourhood holds them.
    """
    index = corpus.index(tmp_path / "index", "--index-key", key)
    stored = _stored(index)
    with Searcher(index) as searcher:
        queries = np.stack([vector for _, vector, _ in stored[100:130]])
        for condition, meets in FILTERS:
            names = {name for name, row in corpus.rows.items() if meets(row)}
            found = searcher.search_vectors(queries, 10, filter=condition)
            for hits, query in zip(found, queries, strict=True):
                assert {hit.doc_id for hit in hits} <= names
                if "SQ8" in key:  # its scores are rounded
                    assert len(hits) == min(10, len(names))
                elif key == "Flat" or len(names) <= RARE:
                    _agree(hits, _best(stored, query, 10, names))
                else:
                    assert len(hits) == 10
        whole = searcher.search_vectors(queries[:1], COUNT)[0]
        assert len({hit.doc_id for hit in whole}) == COUNT


def test_hits_carry_columns_and_bad_asks_are_told(corpus: _Corpus, tmp_path: Path) -> None:
    """Columns are those of the inputs, null where there is none; unknown columns and filters are named."""
    with Searcher(corpus.index(tmp_path / "index"), corpus.pool) as searcher:
        columns = ("lang", "year", "tags", "text")
        for hits in searcher.search(["parse an address", "open a socket"], 20, columns=columns):
            for hit in hits:
                assert hit.columns == {name: corpus.rows[hit.doc_id][name] for name in columns}
        assert searcher.search(["a"], 1)[0][0].columns == {}
        for ask, words in (
            ({"columns": ("nope",)}, "nope"),
            ({"filter": "nope = 1"}, "nope"),
            ({"filter": "lang ="}, "filter"),
            ({"filter": "year = 'text'"}, "year"),
            ({"k": 0}, "k is 0"),
        ):
            with pytest.raises(ConfigError, match=words):
                searcher.search(["a"], **ask)
        with pytest.raises(ConfigError, match="no finite number"):
            searcher.search_vectors(np.full((1, 32), np.nan))


def test_the_command_shows_columns_filters_and_passages(
    corpus: _Corpus, indexer: Any, tmp_path: Path
) -> None:
    """JSON has all, people see the beginning."""
    index = corpus.index(tmp_path / "index", "--chunk-tokens", "32", "--chunk-overlap", "8")
    ask = ["search", "--index", index, "--worker", corpus.pool, "-k", "3", "--columns", "lang, year"]
    ask += ["--filter", "lang = 'de' and year < 2010", "--passages", "open a socket"]
    (line,) = indexer.run(*ask, "--json").stdout.splitlines()
    hits = json.loads(line)["hits"]
    lines = indexer.run(*ask).stdout.splitlines()
    assert len(hits) == len(lines) == 3
    for hit, said in zip(hits, lines, strict=True):
        row = corpus.rows[hit["doc_id"]]
        assert hit["columns"] == {"lang": "de", "year": row["year"]}
        place = hit["passage"]
        assert 0 <= place["start"] < place["stop"] <= len(row["title"] or "") + 1 + len(row["text"])
        assert said.split()[2:] == [
            hit["doc_id"],
            f"[{place['start']}:{place['stop']}]",
            "lang=de",
            f"year={row['year']}",
        ]
    wrong = indexer.run(*ask[:-2], "--filter", "lang ==", "words", code=2)
    assert "filter" in wrong.stderr


@pytest.mark.parametrize("key", ["Flat", "IVF40,Flat"])
def test_chunks_are_found_as_documents_with_their_passage(key: str, corpus: _Corpus, tmp_path: Path) -> None:
    """Each document once, by its nearest chunk, which the passage names; k documents, not k chunks."""
    arguments = ("--chunk-tokens", "24", "--chunk-overlap", "8", "--index-key", key)
    index = corpus.index(tmp_path / "index", *arguments)
    stored = _stored(index)
    assert len(stored) > 2 * COUNT
    queries = np.stack([vector for _, vector, _ in stored[::60]])
    with Searcher(index) as searcher:
        assert searcher.count == COUNT
        for k in (1, 10, COUNT):
            for hits, query in zip(searcher.search_vectors(queries, k, passages=True), queries, strict=True):
                assert len({hit.doc_id for hit in hits}) == len(hits) == k
                if key == "Flat" or k == COUNT:
                    _agree(hits, _best(stored, query, k))
                assert all(_is_nearest(stored, hit, query) for hit in hits)


def _is_nearest(stored: list[tuple[str, Any, tuple[int, int]]], hit: Hit, query: Any) -> bool:
    """Whether the chunk that a hit tells is in the document and has its score."""
    assert hit.passage is not None
    place = (hit.passage.start, hit.passage.stop)
    scores = [float(vector @ query) for name, vector, at in stored if name == hit.doc_id and at == place]
    return bool(np.isclose(max(scores), hit.score, atol=1e-5))


def test_columns_of_an_input_that_changed_are_refused(corpus: _Corpus, tmp_path: Path) -> None:
    """An input that was written again might hold other rows: InputError, naming it; ids are found still."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    for path in corpus.folder.glob("*.parquet"):
        (folder / path.name).write_bytes(path.read_bytes())
    copy = _Corpus(folder, corpus.pool, corpus.rows)
    with Searcher(copy.index(tmp_path / "index"), corpus.pool) as searcher:
        pq.write_table(pq.read_table(folder / "a.parquet").slice(1), folder / "a.parquet")
        assert len(searcher.search(["a"], COUNT)[0]) == COUNT
        with pytest.raises(InputError, match=r"a\.parquet"):
            searcher.search(["a"], COUNT, columns=("year",))
        with pytest.raises(InputError, match=r"a\.parquet"):
            searcher.search(["a"], filter="year = 2004")


def test_searches_go_on_while_the_index_is_made_anew(corpus: _Corpus, tmp_path: Path) -> None:
    """No search fails while a searcher is used by many threads and reloads; each finds one whole index.

    What was left is freed when its last search is done.
    """
    index = corpus.index(tmp_path / "index", "--index-key", "Flat")
    stored = _stored(index)
    queries = np.stack([vector for _, vector, _ in stored[:8]])
    wanted = [_best(stored, query, 5) for query in queries]
    stop, searches = threading.Event(), [0] * 4
    with Searcher(index) as searcher, ThreadPoolExecutor(4) as threads:

        def search(number: int) -> None:
            while not stop.is_set():
                for hits, best in zip(searcher.search_vectors(queries, 5), wanted, strict=True):
                    _agree(hits, best)
                searches[number] += 1

        left = weakref.ref(searcher._following.snapshot)
        running = [threads.submit(search, number) for number in range(4)]
        for key in ("IVF4,Flat", "Flat", "HNSW32"):
            corpus.index(index, "--index-key", key)
            assert searcher.reload()
            assert not searcher.reload()
        stop.set()
        for one in running:
            one.result(WAIT_SECONDS)
        gc.collect()
        assert left() is None
    assert min(searches) > 0
