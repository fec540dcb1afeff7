"""Ids that stand twice."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indexer.config import PlanConfig
from indexer.inputs import duplicates
from indexer.inputs import files as inputs
from indexer.inputs.duplicates import Duplicate, find_duplicate
from indexer.plan import Model, make_plan

WriteParquet = Callable[..., Path]


def _pieces(ids: list[bytes | None], size: int) -> Iterator[tuple[int, list[bytes | None]]]:
    return ((first, ids[first : first + size]) for first in range(0, len(ids), size))


def _expected(ids: list[bytes | None]) -> Duplicate | None:
    seen: dict[bytes, int] = {}
    for position, doc_id in enumerate(ids):
        if doc_id:
            if doc_id in seen:
                return Duplicate(doc_id, seen[doc_id], position)
            seen[doc_id] = position
    return None


@given(st.lists(st.none() | st.binary(max_size=2), max_size=200), st.integers(1, 50))
def test_the_first_repeated_id_is_found(ids: list[bytes | None], size: int) -> None:
    """What is found is what a plain dictionary finds; null and empty ids name no document."""
    assert find_duplicate(lambda: _pieces(ids, size), len(ids)) == _expected(ids)


def test_equal_hashes_are_no_equal_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids whose hashes collide are compared as they are: no document is called a duplicate by chance."""
    monkeypatch.setattr(duplicates, "hash", lambda _: 1, raising=False)
    ids: list[bytes | None] = [b"a", b"b", b"c"]
    assert find_duplicate(lambda: _pieces(ids, 2), 3) is None
    assert find_duplicate(lambda: _pieces([*ids, b"b"], 2), 4) == Duplicate(b"b", 1, 3)


_IDS = st.none() | st.sampled_from(["", "a", "b", "c"])
_TEXTS = st.none() | st.sampled_from(["", " ", "text"])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.tuples(_IDS, _TEXTS), max_size=12), min_size=1, max_size=3), st.integers(1, 7))
def test_the_first_document_of_an_id_stands(
    write_parquet: WriteParquet,
    model: Model,
    files: list[list[tuple[str | None, str | None]]],
    unit_rows: int,
) -> None:
    """Among rows of one id the first that has a text stands; the later ones are refused, and say of which."""
    paths = []
    for number, rows in enumerate(files):
        ids, texts = ([row[at] for row in rows] for at in (0, 1))
        columns = {"doc_id": pa.array(ids, pa.string()), "text": pa.array(texts, pa.string())}
        paths.append(str(write_parquet(f"{number}.parquet", row_group=5, **columns)))
    config = PlanConfig(text_columns=("text",), unit_rows=unit_rows)
    plan = make_plan(inputs.describe(paths, config)[0], config, model)
    first: dict[str, str] = {}
    expected = {}
    files_of = zip(paths, files, strict=True)
    places = [(path, row, *cells) for path, rows in files_of for row, cells in enumerate(rows)]
    for row_id, (path, row, doc_id, text) in enumerate(places):
        if doc_id and text and not text.isspace():
            place = first.setdefault(doc_id, f"{path} row {row}")
            if place != f"{path} row {row}":
                expected[row_id] = f"duplicate id: also {place}"
    assert inputs.refused_ids(plan) == expected
