"""Columns of a Parquet file, checked before anything is computed from them.

The toolchain's only reader of evaluation sets' files. It never asks a footer for the size of one column:
where the footer is damaged, pyarrow 26 ends the process at that question.
"""

from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from build_models.errors import EvaluationError


class Column(Enum):
    """What a column holds; the value says it in messages."""

    ID = "text or whole numbers"
    TEXT = "text"
    GRADE = "whole numbers"
    WORDS = "lists of text"


RETRIEVAL_FILES = "corpus.parquet, queries.parquet and qrels.parquet"


def read_table(
    path: Path,
    wanted: Mapping[str, Column],
    optional: Mapping[str, Column] | None = None,
    files: str = RETRIEVAL_FILES,
) -> dict[str, list[Any]]:
    """Returns column name to values: str for an id, str or None for a text, int for a grade, lists for words.

    Args:
        path: The file.
        wanted: Columns that must be there.
        optional: Columns that are read if they are there.
        files: The files of such a set, for messages.

    Raises:
        EvaluationError: The file is missing or damaged, a column is missing, there twice or of another
            type, or an id or a grade is null.
    """
    try:
        schema = pq.read_schema(path)
        kinds = dict(wanted) | {name: k for name, k in (optional or {}).items() if name in schema.names}
        _check(path, schema, kinds)
        table = pq.read_table(path, columns=list(kinds))
        columns = {name: table.column(name) for name in kinds}
        _check_nulls(path, columns, kinds)
        return {name: _values(column, kinds[name]) for name, column in columns.items()}
    except FileNotFoundError as error:
        raise EvaluationError(f"{path} is missing; evaluation data is {files}") from error
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise EvaluationError(
            f"cannot read {path} ({error}); it is no Parquet file, or damaged: write or copy it again"
        ) from error


def _check(path: Path, schema: pa.Schema, kinds: Mapping[str, Column]) -> None:
    missing = [name for name in kinds if name not in schema.names]
    if missing:
        raise EvaluationError(f"{path} has no column {', '.join(missing)}; it has {', '.join(schema.names)}")
    for name, kind in kinds.items():
        if schema.names.count(name) > 1:
            raise EvaluationError(f"{path} has the column {name} twice; keep one")
        if not _is(schema.field(name).type, kind):
            raise EvaluationError(
                f"column {name} of {path} is {schema.field(name).type}, wanted {kind.value}; convert it"
            )


def _is(found: pa.DataType, kind: Column) -> bool:
    if kind is Column.WORDS:
        is_list = pa.types.is_list(found) or pa.types.is_large_list(found)
        return bool(is_list and _is(found.value_type, Column.TEXT))
    if pa.types.is_dictionary(found):
        found = found.value_type
    text = pa.types.is_string(found) or pa.types.is_large_string(found) or pa.types.is_string_view(found)
    if kind is Column.TEXT:
        return bool(text or pa.types.is_null(found))  # a column of nulls only has no type of its own
    whole = pa.types.is_integer(found)
    return bool(whole or (text and kind is Column.ID))


def _check_nulls(path: Path, columns: Mapping[str, pa.ChunkedArray], kinds: Mapping[str, Column]) -> None:
    for name, column in columns.items():
        if kinds[name] is not Column.TEXT and column.null_count:
            row = column.is_null().index(True).as_py()
            raise EvaluationError(
                f"column {name} of {path} is null in {column.null_count} of {len(column)} rows, first in "
                f"row {row}, counted from 0; fill them or leave those rows out"
            )


def _values(column: pa.ChunkedArray, kind: Column) -> list[Any]:
    values: list[Any] = column.to_pylist()
    return [str(value) for value in values] if kind is Column.ID else values
