"""Columns by reference: what they say is what the input says, however little of it is kept."""

import datetime as dt
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indexer.config import PlanConfig
from indexer.errors import ConfigError, InputError, StoreError
from indexer.inputs import files as inputs
from indexer.inputs.columns import ColumnReader, columns_of
from indexer.plan import Model, Plan, make_plan

WriteParquet = Callable[..., Path]
ROWS = 90


@pytest.fixture
def plan(write_parquet: WriteParquet, model: Model) -> Plan:
    """Two files of 90 rows whose columns do not all agree, in small row groups and units."""
    paths = []
    for name, group in (("a", 20), ("b", 7)):
        columns: dict[str, Any] = {
            "doc_id": [f"{name}{row}" for row in range(ROWS)],
            "text": [f"{name} {row} " * 50 for row in range(ROWS)],
            "lang": pa.array([["en", "de", None][row % 3] for row in range(ROWS)]).dictionary_encode(),
            "tags": [[row, row + 1] if row % 5 else None for row in range(ROWS)],
            "day": [dt.date(2024, 1, 1) + dt.timedelta(row) for row in range(ROWS)],
        }
        if name == "a":
            columns["only_a"] = pa.array([row / 2 for row in range(ROWS)], pa.float32())
        paths.append(str(write_parquet(f"{name}.parquet", row_group=group, **columns)))
    config = PlanConfig(text_columns=("text",), unit_rows=16)
    return make_plan(inputs.describe(paths, config)[0], config, model)


_NAMES = ["doc_id", "text", "lang", "tags", "day", "only_a"]


def _oracle(plan: Plan) -> list[dict[str, object]]:
    tables = [pq.read_table(file.path).to_pylist() for file in plan.inputs]
    return [{name: row.get(name) for name in _NAMES} for rows in tables for row in rows]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.lists(st.integers(0, 2 * ROWS - 1), max_size=12),
            st.lists(st.sampled_from(_NAMES), min_size=1, max_size=4, unique=True),
        ),
        min_size=1,
        max_size=5,
    ),
    st.sampled_from([0, 2000, 20_000, 1 << 20]),
)
def test_values_are_those_of_the_input(
    plan: Plan, calls: list[tuple[list[int], list[str]]], cache_bytes: int
) -> None:
    """Any rows and columns, in any order, again and again, with a cache of any size: always what is there."""
    everything = _oracle(plan)
    reader = ColumnReader(plan, cache_bytes)
    for row_ids, columns in calls:
        expected = [{name: everything[row][name] for name in columns} for row in row_ids]
        assert reader.rows(row_ids, columns) == expected
        assert reader._cache._bytes <= cache_bytes


def test_threads_may_ask_at_once(plan: Plan) -> None:
    """Many threads with one reader get what one thread gets."""
    everything = _oracle(plan)
    reader = ColumnReader(plan, 5000)

    def ask(seed: int) -> None:
        rows = [(seed * 37 + n * 11) % (2 * ROWS) for n in range(8)]
        assert reader.rows(rows, _NAMES) == [everything[row] for row in rows]

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(ask, range(40)))


def test_columns_are_named(plan: Plan) -> None:
    """All columns of all files; one that no file has is an error that lists them, without columns nothing."""
    assert columns_of(plan) == _NAMES == ColumnReader(plan).names
    with pytest.raises(ConfigError, match=r"no input has a column 'url'; there are: doc_id, text, lang"):
        ColumnReader(plan).rows([0], ["doc_id", "url"])
    assert ColumnReader(plan).rows([0, 1], []) == [{}, {}]
    assert ColumnReader(plan).rows([], ["doc_id"]) == []
    with pytest.raises(StoreError, match="outside the plan"):
        ColumnReader(plan).rows([2 * ROWS], ["doc_id"])


def test_an_input_that_changed_or_is_gone_is_never_answered_from(
    plan: Plan, write_parquet: WriteParquet
) -> None:
    """What was read before may be told; all else of that file is an error that names it, others go on."""
    reader = ColumnReader(plan)
    before = reader.rows([3], ["doc_id"])
    b = Path(plan.inputs[1].path)
    write_parquet("b.parquet", doc_id=["other"], text=["t"])
    with pytest.raises(
        InputError, match=rf"input {b} had .* since it was indexed: run the same 'run' command"
    ):
        reader.rows([ROWS], ["doc_id"])
    b.unlink()
    with pytest.raises(InputError, match=rf"input {b} is not there"):
        reader.rows([3, ROWS], ["doc_id"])
    assert reader.rows([3], ["doc_id"]) == before
    assert reader.rows([4], ["lang"]) == [{"lang": "de"}]


def test_bytes_that_are_no_text_are_shown_all_the_same(write_parquet: WriteParquet, model: Model) -> None:
    """A column that says it is text and is not comes with replacement characters."""
    texts = pa.Array.from_buffers(pa.string(), 2, pa.array([b"ok", b"\xff!"]).buffers())
    path = write_parquet(doc_id=["a", "b"], text=texts)
    config = PlanConfig(text_columns=("text",))
    plan = make_plan(inputs.describe([str(path)], config)[0], config, model)
    assert ColumnReader(plan).rows([0, 1], ["text"]) == [{"text": "ok"}, {"text": "�!"}]


def test_a_column_that_cannot_be_shown_is_named(write_parquet: WriteParquet, model: Model) -> None:
    """A time zone that nobody knows is one line, and the other columns are there."""
    when = pa.array([0], pa.timestamp("us", "No/Where"))
    path = write_parquet(doc_id=["a"], text=["b"], when=when)
    config = PlanConfig(text_columns=("text",))
    plan = make_plan(inputs.describe([str(path)], config)[0], config, model)
    with pytest.raises(InputError, match=rf"column 'when' of {path} cannot be shown"):
        ColumnReader(plan).rows([0], ["text", "when"])
    assert ColumnReader(plan).rows([0], ["text"]) == [{"text": "b"}]


def test_only_what_is_needed_is_decoded(write_parquet: WriteParquet, model: Model) -> None:
    """Damage in a row group or column that nobody asked for is not met."""
    texts = [f"some text {row}" for row in range(60)]
    path = write_parquet(doc_id=[str(row) for row in range(60)], text=texts, row_group=20)
    second = pq.ParquetFile(path).metadata.row_group(1).column(1)
    content = bytearray(path.read_bytes())
    start = second.dictionary_page_offset
    content[start : start + 30] = bytes(30)
    path.write_bytes(content)
    config = PlanConfig(text_columns=("text",))
    plan = make_plan(inputs.describe([str(path)], config)[0], config, model)
    reader = ColumnReader(plan)
    assert reader.rows([5, 25, 45], ["doc_id"]) == [{"doc_id": "5"}, {"doc_id": "25"}, {"doc_id": "45"}]
    assert reader.rows([5, 45], ["text"]) == [{"text": texts[5]}, {"text": texts[45]}]
    with pytest.raises(InputError, match=rf"row group 1 of {path} cannot be read"):
        reader.rows([25], ["text"])
