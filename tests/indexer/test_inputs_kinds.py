"""Every type of column that texts and ids come in, from files of four writers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from indexer.config import PlanConfig
from indexer.inputs import files as inputs
from indexer.inputs import parquet
from indexer.inputs.columns import ColumnReader
from indexer.inputs.filters import mask, parse
from indexer.plan import Model, make_plan

TEXTS = ["a", None, "ü", "", "a"]
BYTES = [None if text is None else text.encode() for text in TEXTS]
NUMBERS = [7, None, 0, 100, 1]
CONFIG = PlanConfig(text_columns=("text",), unit_rows=3)

Writer = Callable[[Path], None]


def _read(path: Path) -> tuple[list[bytes | None], list[bytes | None]]:
    """Returns all ids and texts, read as a run reads them."""
    (file,), _ = inputs.describe([str(path)], CONFIG)
    plan = make_plan([file], CONFIG, Model("f" * 64, "four", 4, normalized=False))
    chunks = list(parquet.read_chunks(file, "doc_id", ("text",), plan.units))
    ids = [one for chunk in chunks for one in chunk.ids]
    return ids, [one for chunk in chunks for one in chunk.columns[0]]


_TEXT_TYPES = [
    pa.string(),
    pa.large_string(),
    pa.string_view(),
    pa.binary(),
    pa.large_binary(),
    pa.binary_view(),
]
_INDEX_TYPES = [pa.int8(), pa.uint16(), pa.int32(), pa.int64()]


@pytest.mark.parametrize("stored", [True, False], ids=["schema", "bare"])
@pytest.mark.parametrize("kind", _TEXT_TYPES, ids=str)
def test_arrow_text_reads_alike(kind: Any, stored: bool, tmp_path: Path) -> None:
    """Text and bytes of every Arrow type, plain and in dictionaries, with Arrow's schema stored or not."""
    path = tmp_path / "a.parquet"
    column = pa.array(TEXTS if "string" in str(kind) else BYTES, kind)
    pq.write_table(pa.table({"doc_id": column, "text": column}), path, store_schema=stored)
    assert _read(path) == (BYTES, BYTES)
    plain = pa.array(TEXTS)
    for index in _INDEX_TYPES:
        if pa.types.is_string_view(kind) or pa.types.is_binary_view(kind):
            continue  # Arrow makes no dictionary of views
        values = pa.DictionaryArray.from_arrays(
            pa.array([0, None, 1, 2, 0], index), pa.array(["a", "ü", ""], pa.string()).cast(kind)
        )
        table = pa.table({"doc_id": values, "text": plain})
        pq.write_table(table, path, store_schema=stored, row_group_size=2)
        assert _read(path) == (BYTES, BYTES)


@pytest.mark.parametrize(
    "kind",
    [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()],
    ids=str,
)
def test_arrow_numbers_are_ids(kind: Any, tmp_path: Path) -> None:
    """Whole numbers of every width are ids by their digits, up to the ends of their range."""
    bits, signed = kind.bit_width, pa.types.is_signed_integer(kind)
    numbers = [-(1 << (bits - 1)), (1 << (bits - 1)) - 1] if signed else [0, (1 << bits) - 1]
    column = pa.array([*numbers, None], kind)
    path = tmp_path / "a.parquet"
    for ids in (column, column.dictionary_encode()):
        pq.write_table(pa.table({"doc_id": ids, "text": ["x", "y", "z"]}), path)
        assert _read(path)[0] == [str(numbers[0]).encode(), str(numbers[1]).encode(), None]


def test_columns_without_a_value_read_as_nulls(tmp_path: Path) -> None:
    """Arrow's null type holds nulls, for ids and for texts."""
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"doc_id": pa.nulls(2), "text": pa.nulls(2)}), path)
    assert _read(path) == ([None, None], [None, None])


def _pandas(**columns: Any) -> Writer:
    return lambda path: pd.DataFrame(columns).to_parquet(path)


def _polars(**columns: Any) -> Writer:
    return lambda path: pl.DataFrame(columns).write_parquet(path)


def _duckdb(columns: str) -> Writer:
    def write(path: Path) -> None:
        with duckdb.connect() as connection:
            connection.execute(f"copy (select {columns} from {_ROWS}) to '{path}' (format parquet)")  # noqa: S608

    return write


_ROWS = "(values (7,'a'),(null,null),(0,'ü'),(100,''),(1,'a')) as rows(n,t)"
_WRITERS = {
    "pandas-object": _pandas(doc_id=pd.Series(TEXTS, dtype=object), text=pd.Series(TEXTS, dtype=object)),
    "pandas-string": _pandas(doc_id=pd.Series(TEXTS, dtype="string"), text=pd.Series(TEXTS, dtype="string")),
    "pandas-category": _pandas(
        doc_id=pd.Series(TEXTS, dtype="category"), text=pd.Series(TEXTS, dtype="category")
    ),
    "pandas-bytes": _pandas(doc_id=pd.Series(BYTES, dtype=object), text=pd.Series(BYTES, dtype=object)),
    "pandas-Int16": _pandas(doc_id=pd.Series(NUMBERS, dtype="Int16"), text=TEXTS),
    "polars-string": _polars(doc_id=TEXTS, text=TEXTS),
    "polars-categorical": _polars(
        doc_id=pl.Series(TEXTS, dtype=pl.Categorical), text=pl.Series(TEXTS, dtype=pl.Categorical)
    ),
    "polars-enum": _polars(doc_id=TEXTS, text=pl.Series(TEXTS, dtype=pl.Enum(["", "a", "ü"]))),
    "polars-binary": _polars(doc_id=BYTES, text=BYTES),
    "polars-uint32": _polars(doc_id=pl.Series(NUMBERS, dtype=pl.UInt32), text=TEXTS),
    "duckdb-varchar": _duckdb("t as doc_id, t as text"),
    "duckdb-blob": _duckdb("encode(t) as doc_id, encode(t) as text"),
    "duckdb-utinyint": _duckdb("n::utinyint as doc_id, t as text"),
    "duckdb-bigint": _duckdb("n::bigint as doc_id, t as text"),
    "duckdb-enum": _duckdb("t as doc_id, t::enum('a','ü','') as text"),
}


@pytest.mark.parametrize("name", _WRITERS)
def test_files_of_other_writers_read_alike(name: str, tmp_path: Path) -> None:
    """What pandas, polars and duckdb write is read as they meant it, also by reference and in filters."""
    path = tmp_path / "a.parquet"
    _WRITERS[name](path)
    numbers = [None if number is None else str(number).encode() for number in NUMBERS]
    numeric = name.lower().endswith(("int", "int16", "int32"))
    assert _read(path) == (numbers if numeric else BYTES, BYTES)
    (file,), _ = inputs.describe([str(path)], CONFIG)
    plan = make_plan([file], CONFIG, Model("f" * 64, "four", 4, normalized=False))
    values = [row["text"] for row in ColumnReader(plan).rows([4, 1, 2], ["text"])]
    assert values in (["a", None, "ü"], [b"a", None, "ü".encode()])
    assert mask(plan, parse("text = 'a' or text > 'b'")).tolist() == [True, False, True, False, True]


def test_a_document_in_ten_row_groups_of_one_dictionary(tmp_path: Path) -> None:
    """Row groups with dictionaries of their own each keep their values apart."""
    path = tmp_path / "a.parquet"
    texts = [f"value {row // 7 % 11}" for row in range(200)]
    table = pa.table(
        {"doc_id": [str(row) for row in range(200)], "text": pa.array(texts).dictionary_encode()}
    )
    pq.write_table(table, path, row_group_size=20)
    assert _read(path)[1] == [text.encode() for text in texts]
