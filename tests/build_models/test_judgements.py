"""Evaluation sets are read, made and sampled so that every query kept can be answered."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from build_models.errors import EvaluationError
from build_models.quality.docstrings import Docstring
from build_models.quality.judgements import EvalSet, known_item_set, read_eval_set, sample


@pytest.fixture
def write_set(tmp_path: Path) -> Callable[..., Path]:
    """Writes a set of two documents and two queries; keyword arguments replace whole tables."""

    def write(**tables: dict[str, list[Any]]) -> Path:
        contents: dict[str, Any] = {
            "corpus": {"doc_id": ["1", "2"], "title": ["T", ""], "text": ["one", "two"]},
            "queries": {"query_id": ["a", "b"], "text": ["first?", "unjudged?"]},
            "qrels": {"query_id": ["a", "a"], "doc_id": ["1", "2"], "relevance": [2, 0]},
        } | tables
        for name, columns in contents.items():
            pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
        return tmp_path

    return write


def test_reading(write_set: Callable[..., Path]) -> None:
    """Titles and texts are joined by a newline, empty titles left out; unjudged queries are left out."""
    found = read_eval_set(write_set())
    assert found.documents == {"1": "T\none", "2": "two"}
    assert found.queries == {"a": "first?"}
    assert found.judgements == {"a": {"1": 2}}


def test_corpus_without_titles_and_with_numbers(write_set: Callable[..., Path]) -> None:
    """A corpus needs no title column, ids may be numbers, and a null title is as good as none."""
    qrels = {"query_id": [7], "doc_id": [1], "relevance": [1]}
    queries = {"query_id": [7], "text": ["seven?"]}
    bare = write_set(corpus={"doc_id": [1], "text": ["one"]}, queries=queries, qrels=qrels)
    assert read_eval_set(bare).documents == {"1": "one"}
    nulls = write_set(corpus={"doc_id": [1], "title": [None], "text": ["one"]}, queries=queries, qrels=qrels)
    assert read_eval_set(nulls).documents == {"1": "one"}


def test_no_judged_query(write_set: Callable[..., Path]) -> None:
    """A set that judges nothing is refused: it could not tell a good model from a bad one."""
    folder = write_set(qrels={"query_id": ["a"], "doc_id": ["elsewhere"], "relevance": [1]})
    with pytest.raises(EvaluationError, match="none of 2 queries has a relevant document"):
        read_eval_set(folder)


def test_missing_column(write_set: Callable[..., Path]) -> None:
    """A missing column is named, with the columns that are there."""
    folder = write_set(corpus={"id": ["1"], "text": ["one"]})
    with pytest.raises(EvaluationError, match=r"corpus\.parquet has no column doc_id; it has id, text"):
        read_eval_set(folder)


def test_missing_and_damaged_file(write_set: Callable[..., Path]) -> None:
    """A missing file and one that is no Parquet are named."""
    folder = write_set()
    (folder / "qrels.parquet").write_bytes(b"not parquet at all")
    with pytest.raises(EvaluationError, match=r"cannot read .*qrels\.parquet"):
        read_eval_set(folder)
    (folder / "qrels.parquet").unlink()
    with pytest.raises(EvaluationError, match=r"qrels\.parquet is missing"):
        read_eval_set(folder)


def test_known_items(some_docstrings: list[Docstring]) -> None:
    """Each query is a summary whose only answer is the rest of the same docstring, which does not hold it."""
    found = known_item_set(40, seed=1, source=some_docstrings)
    by_name = {docstring.qualified_name: docstring for docstring in some_docstrings}
    assert len(found.queries) == len(found.documents) == 40
    assert (
        len(set(found.documents.values())) == len({text.casefold() for text in found.queries.values()}) == 40
    )
    for name, query in found.queries.items():
        assert (query, found.documents[name]) == (by_name[name].summary, by_name[name].body)
        assert found.judgements[name] == {name: 1}
    assert known_item_set(40, seed=1, source=some_docstrings) == found
    assert known_item_set(40, seed=2, source=some_docstrings) != found


def test_too_few_docstrings() -> None:
    """An installation without docstrings is told to give evaluation data."""
    with pytest.raises(EvaluationError, match="give --eval-data"):
        known_item_set(10, seed=0, source=[])


@given(
    st.integers(1, 30).flatmap(
        lambda size: st.tuples(
            st.just(size),
            st.lists(st.sets(st.integers(0, size - 1), min_size=1, max_size=4), min_size=1, max_size=12),
        )
    ),
    st.integers(0, 40),
    st.integers(0, 15),
    st.integers(0, 3),
)
def test_sampling(shape: tuple[int, list[set[int]]], documents: int, queries: int, seed: int) -> None:
    """A sample is no larger than asked unless judged documents need it, and never loses an answer."""
    size, judged = shape
    data = EvalSet(
        "made",
        {f"d{n}": f"text {n}" for n in range(size)},
        {f"q{n}": f"query {n}" for n in range(len(judged))},
        {f"q{n}": {f"d{k}": 1 for k in answers} for n, answers in enumerate(judged)},
    )
    found = sample(data, documents, queries, seed)
    needed = {name for answers in found.judgements.values() for name in answers}
    assert len(found.queries) == min(queries or len(judged), len(judged))
    assert found.judgements == {name: data.judgements[name] for name in found.queries}
    assert needed <= found.documents.keys()
    assert len(found.documents) == min(size, max(documents or size, len(needed)))
    assert found.documents.items() <= data.documents.items()
    assert list(found.documents) == [name for name in data.documents if name in found.documents]
    assert sample(data, documents, queries, seed) == found
