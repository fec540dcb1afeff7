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
from build_models.quality.judgements import (
    EvalSet,
    check_size,
    known_item_set,
    read_eval_set,
    read_eval_sets,
    sample,
)


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


@pytest.mark.parametrize(
    ("table", "columns", "message"),
    [
        (
            "qrels",
            {"query_id": ["a"], "doc_id": ["1"], "relevance": ["1"]},
            r"column relevance of .*qrels\.parquet is string, wanted whole numbers",
        ),
        (
            "qrels",
            {"query_id": ["a"], "doc_id": ["1"], "relevance": [0.5]},
            "column relevance of .* is double, wanted whole numbers",
        ),
        (
            "qrels",
            {"query_id": ["a", "a"], "doc_id": ["1", "2"], "relevance": [1, None]},
            "column relevance of .* is null in 1 of 2 rows, first in row 1, counted from 0",
        ),
        (
            "qrels",
            {"query_id": ["a", "a"], "doc_id": ["1", "1"], "relevance": [1, 2]},
            "judges document 1 for query a as 1 and as 2",
        ),
        (
            "qrels",
            {"query_id": ["a"], "doc_id": ["1"], "relevance": [2**31]},
            "judges document 1 for query a as 2147483648, wanted 1000 at most",
        ),
        ("qrels", {"query_id": [], "doc_id": [], "relevance": []}, "column query_id of .* is null, wanted"),
        (
            "corpus",
            {"doc_id": ["1"], "text": [7]},
            r"column text of .*corpus\.parquet is int64, wanted text; convert it",
        ),
        ("corpus", {"doc_id": ["1"], "text": [["x"]]}, "column text of .* is list.*, wanted text"),
        ("corpus", {"doc_id": ["1"], "text": [b"\xff"]}, "column text of .* is binary, wanted text"),
        (
            "corpus",
            {"doc_id": ["1"], "title": [7], "text": ["x"]},
            "column title of .* is int64, wanted text",
        ),
        (
            "corpus",
            {"doc_id": [1.5], "text": ["x"]},
            "column doc_id of .* is double, wanted text or whole numbers",
        ),
        ("corpus", {"doc_id": ["1", None], "text": ["x", "y"]}, "column doc_id of .* is null in 1 of 2 rows"),
        ("corpus", {"doc_id": ["1", "1"], "text": ["x", "y"]}, "has doc_id 1 more than once"),
        ("queries", {"query_id": ["a", "a"], "text": ["x", "y"]}, "has query_id a more than once"),
        ("queries", {"query_id": ["a"], "text": [None]}, "none of 1 queries has a relevant document among 2"),
    ],
)
def test_wrong_columns(
    table: str, columns: dict[str, list[Any]], message: str, write_set: Callable[..., Path]
) -> None:
    """Data that cannot mean what it should is refused by its file, its column and what is wrong there."""
    with pytest.raises(EvaluationError, match=message):
        read_eval_set(write_set(**{table: columns}))


def test_empty_tables(write_set: Callable[..., Path]) -> None:
    """Tables without a row judge nothing, and the message counts what was found."""
    nothing = pa.array([], pa.string())
    folder = write_set(corpus={"doc_id": nothing, "text": nothing})
    with pytest.raises(EvaluationError, match="none of 2 queries has a relevant document among 0"):
        read_eval_set(folder)


def test_a_column_that_is_there_twice(write_set: Callable[..., Path]) -> None:
    """Of two columns with one name none is guessed to be the right one."""
    folder = write_set()
    same = [pa.array(["1"]), pa.array(["2"]), pa.array(["x"])]
    pq.write_table(pa.Table.from_arrays(same, names=["doc_id", "doc_id", "text"]), folder / "corpus.parquet")
    with pytest.raises(EvaluationError, match=r"corpus\.parquet has the column doc_id twice"):
        read_eval_set(folder)


@pytest.mark.parametrize(
    "kind", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())]
)
def test_every_kind_of_text(kind: pa.DataType, write_set: Callable[..., Path]) -> None:
    """Text is read however a library stores it."""
    folder = write_set(corpus={"doc_id": pa.array(["1"]).cast(kind), "text": pa.array(["one"]).cast(kind)})
    assert read_eval_set(folder).documents == {"1": "one"}


def test_damage_anywhere_is_one_message(write_set: Callable[..., Path]) -> None:
    """Whatever byte of a file is changed, the set is read or refused: nothing else is raised."""
    folder = write_set()
    good = (folder / "corpus.parquet").read_bytes()
    refused = 0
    for at in range(len(good)):
        changed = bytes([good[at] ^ 1 << at % 8])
        (folder / "corpus.parquet").write_bytes(good[:at] + changed + good[at + 1 :])
        try:
            read_eval_set(folder)
        except EvaluationError as error:
            refused += str(folder) in str(error)
    assert refused > len(good) // 4


def test_sets_of_one_name(write_set: Callable[..., Path], tmp_path: Path) -> None:
    """Sets whose folders are called alike are told apart in every figure; one given twice is refused."""
    source = write_set()
    folders = [tmp_path / "first" / "dev", tmp_path / "second" / "dev", tmp_path / "third"]
    for folder in folders:
        folder.mkdir(parents=True)
        for file in source.glob("*.parquet"):
            (folder / file.name).write_bytes(file.read_bytes())
    assert [data.name for data in read_eval_sets(folders)] == ["first-dev", "second-dev", "third"]
    with pytest.raises(EvaluationError, match="third is given twice"):
        read_eval_sets([*folders, folders[2] / ".." / "third"])


@pytest.mark.parametrize(
    ("documents", "queries", "message"),
    [
        (19, 10, "evaluation set made has 19 documents, wanted 20 at least"),
        (20, 9, "evaluation set made has 9 judged queries, wanted 10 at least"),
        (20, 10, None),
    ],
)
def test_too_small(documents: int, queries: int, message: str | None) -> None:
    """A set too small to tell models apart is refused with what was found and wanted."""
    data = EvalSet(
        "made",
        {f"d{n}": "" for n in range(documents)},
        {f"q{n}": "" for n in range(queries)},
        {f"q{n}": {"d0": 1} for n in range(queries)},
    )
    if message is None:
        assert check_size(data) is data
    else:
        with pytest.raises(EvaluationError, match=message):
            check_size(data)


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
