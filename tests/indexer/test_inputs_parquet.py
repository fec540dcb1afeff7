"""Reading inputs: any layout of row groups, any type that holds text, and files that are damaged."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from indexer.config import PlanConfig
from indexer.errors import InputError
from indexer.inputs import files as inputs
from indexer.inputs import parquet
from indexer.plan import Model, cut_units, make_plan

WriteParquet = Callable[..., Path]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 60), st.integers(1, 25), st.integers(1, 25), st.data())
def test_exactly_the_rows_of_the_units_are_read(
    write_parquet: WriteParquet, rows: int, row_group: int, unit_rows: int, data: st.DataObject
) -> None:
    """Whatever the row groups and whichever units are left, each of their rows comes once and in order."""
    path = write_parquet(
        doc_id=[f"d{n}" for n in range(rows)], text=[f"t{n}" for n in range(rows)], row_group=row_group
    )
    file = parquet.describe_input(str(path))
    assert file.rows == rows
    units = [unit for unit in cut_units([rows], unit_rows, None) if data.draw(st.booleans())]
    read = []
    for chunk in parquet.read_chunks(file, "doc_id", ["text"], units):
        assert chunk.unit.start <= chunk.first_row
        assert chunk.first_row + len(chunk.ids) <= chunk.unit.stop
        read += list(zip(chunk.ids, chunk.columns[0], strict=True))
    wanted = [row for unit in units for row in range(unit.start, unit.stop)]
    assert read == [(f"d{row}".encode(), f"t{row}".encode()) for row in wanted]


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["a", None, "ü"]),
        pa.array(["a", None, "ü"], pa.large_string()),
        pa.array(["a", None, "ü"], pa.string_view()),
        pa.array(["a", None, "ü"]).dictionary_encode(),
        pa.array([b"a", None, "ü".encode()], pa.binary()),
    ],
    ids=lambda column: str(column.type),
)
def test_every_kind_of_text_column_reads_alike(write_parquet: WriteParquet, column: Any) -> None:
    """Text is text, however the file's writer typed it."""
    path = write_parquet(doc_id=column, text=column)
    parquet.check_columns(str(path), "doc_id", ["text"])
    (chunk,) = parquet.read_chunks(
        parquet.describe_input(str(path)), "doc_id", ["text"], list(cut_units([3], 9, None))
    )
    assert list(chunk.ids) == [b"a", None, "ü".encode()] == list(chunk.columns[0])


@pytest.mark.parametrize("kind", [pa.int8(), pa.int64(), pa.uint64()])
def test_whole_numbers_are_ids(write_parquet: WriteParquet, kind: Any) -> None:
    """A number is an id by its decimal digits."""
    path = write_parquet(doc_id=pa.array([7, None], kind), text=["a", "b"])
    parquet.check_columns(str(path), "doc_id", ["text"])
    pieces = list(
        parquet.read_ids(parquet.describe_input(str(path)), "doc_id", list(cut_units([2], 9, None)))
    )
    assert pieces == [(0, [b"7", None])]


def test_a_missing_column_is_named_with_those_there(write_parquet: WriteParquet) -> None:
    """The message lists the file's columns and the option to change."""
    path = write_parquet(key=["a"], body=["b"])
    with pytest.raises(
        InputError, match=r"has no column 'doc_id'; its columns are: key, body\. .*--id-column"
    ):
        parquet.check_columns(str(path), "doc_id", ["body"])
    with pytest.raises(InputError, match="has no column 'title'"):
        parquet.check_columns(str(path), "key", ["title", "body"])


def test_wrong_types_are_named(write_parquet: WriteParquet) -> None:
    """Ids of fractions and texts of numbers are refused before anything is embedded."""
    path = write_parquet(doc_id=[1.5], text=["a"], number=[3], words=[["a"]])
    with pytest.raises(InputError, match="id column 'doc_id' is double"):
        parquet.check_columns(str(path), "doc_id", ["text"])
    for column in ("number", "words"):
        with pytest.raises(InputError, match=f"text column '{column}' is .*wanted text"):
            parquet.check_columns(str(path), "text", [column])


def test_unreadable_files_are_named(write_parquet: WriteParquet, tmp_path: Path) -> None:
    """Truncated, empty, foreign and missing files are each one error that names the file."""
    whole = write_parquet(doc_id=["a"], text=["b"]).read_bytes()
    for name, content in (
        ("cut", whole[:-20]),
        ("empty", b""),
        ("text", b"doc_id,text\n"),
        ("magic", whole[:-4] + b"PAR9"),
    ):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(InputError, match=f"{path} is no readable Parquet file"):
            parquet.describe_input(str(path))
    with pytest.raises(InputError, match="is not there"):
        parquet.describe_input(str(tmp_path / "none"))


def test_damaged_pages_are_named_with_their_row_group(tmp_path: Path) -> None:
    """A flipped bit in a data page is found by its checksum and told with file and row group."""
    path = tmp_path / "a.parquet"
    table = pa.table({"doc_id": [f"d{n}" for n in range(100)], "text": ["some text"] * 100})
    pq.write_table(
        table, path, row_group_size=50, compression="none", use_dictionary=False, write_page_checksum=True
    )
    second = pq.ParquetFile(path).metadata.row_group(1).column(0)
    content = bytearray(path.read_bytes())
    content[second.data_page_offset + second.total_compressed_size - 3] ^= 0x40
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"row group 1 of {path} cannot be read"):
        list(parquet.read_ids(parquet.describe_input(str(path)), "doc_id", list(cut_units([100], 50, None))))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 10_000), st.integers(1, 255))
@example(921, 128)  # a name in the footer that is no text
@example(619, 8)  # sizes of a column that pyarrow ends the process over when it is asked for them
def test_a_damaged_file_is_an_input_error_or_reads(
    write_parquet: WriteParquet, place: int, flip: int
) -> None:
    """Any one byte of a file changed: the outcome is rows or InputError, nothing else."""
    content = bytearray(
        write_parquet(doc_id=[f"d{n}" for n in range(40)], text=["text"] * 40, row_group=16).read_bytes()
    )
    content[place % len(content)] ^= flip
    path = write_parquet("damaged.parquet", doc_id=["a"], text=["b"])
    path.write_bytes(content)
    with contextlib.suppress(InputError):
        parquet.check_columns(str(path), "doc_id", ["text"])
        file = parquet.describe_input(str(path))
        list(parquet.read_chunks(file, "doc_id", ["text"], list(cut_units([file.rows], 7, None))))


def test_an_input_that_changes_while_it_is_read_is_refused(write_parquet: WriteParquet) -> None:
    """Rows of two versions of a file never meet in one index."""
    path = write_parquet(doc_id=["a", "b"], text=["b", "c"])
    file = parquet.describe_input(str(path))
    chunks = parquet.read_chunks(file, "doc_id", ["text"], list(cut_units([2], 1, None)))
    next(chunks)
    write_parquet(doc_id=["a", "b", "c"], text=["b", "c", "d"])
    with pytest.raises(InputError, match="while it was read"):
        list(chunks)


def test_memory_does_not_grow_with_the_row_group(tmp_path: Path) -> None:
    """A row group of 120 MB is read within a fraction of that."""
    path = tmp_path / "large.parquet"
    with pq.ParquetWriter(
        path,
        pa.schema({"doc_id": pa.string(), "text": pa.string()}),
        compression="none",
        use_dictionary=False,
    ) as writer:
        text = ["x" * 20_000] * 6000
        writer.write_table(
            pa.table({"doc_id": [str(n) for n in range(6000)], "text": text}), row_group_size=6000
        )
        del text
    file = parquet.describe_input(str(path))
    assert file.row_groups == (6000,)
    pool = pa.system_memory_pool()
    before = pa.default_memory_pool()
    pa.set_memory_pool(pool)
    try:
        rows = sum(
            len(chunk.ids)
            for chunk in parquet.read_chunks(file, "doc_id", ["text"], list(cut_units([6000], 2048, None)))
        )
    finally:
        pa.set_memory_pool(before)
    assert rows == 6000
    assert pool.max_memory() < 30_000_000


def test_globs_are_sorted_and_each_file_comes_once(write_parquet: WriteParquet, tmp_path: Path) -> None:
    """The order of --input options does not matter; a glob without a match is an error."""
    b, a = write_parquet("b.parquet", doc_id=["b"]), write_parquet("a.parquet", doc_id=["a"])
    assert inputs.resolve([str(b), str(tmp_path / "*.parquet")]) == [str(a), str(b)]
    with pytest.raises(InputError, match="matches no file"):
        inputs.resolve([str(tmp_path / "*.csv")])
    assert inputs.resolve([str(tmp_path)]) == [str(a), str(b)]


def test_duplicates_are_named_with_both_places(write_parquet: WriteParquet, model: Model) -> None:
    """An id twice, in one file or two, is told with both places; rows beyond the limit do not count."""
    a = write_parquet("a.parquet", doc_id=["x", None, "y", ""], text=["t"] * 4)
    b = write_parquet("b.parquet", doc_id=["z", "", None, "y", "x"], text=["t"] * 5)
    config = PlanConfig(text_columns=("text",), unit_rows=2)
    files, _ = inputs.describe([str(a), str(b)], config)
    with pytest.raises(InputError, match=rf"'y' is there twice: {a} row 2 and {b} row 3 .*must be unique"):
        inputs.check_ids(make_plan(files, config, model))
    inputs.check_ids(make_plan(files, PlanConfig(text_columns=("text",), unit_rows=2, limit=7), model))
    numbers = write_parquet("c.parquet", doc_id=[1, 2, 1], text=["t"] * 3)
    with pytest.raises(InputError, match=rf"'1' is there twice: {numbers} row 0 and {numbers} row 2"):
        inputs.check_ids(make_plan(inputs.describe([str(numbers)], config)[0], config, model))
