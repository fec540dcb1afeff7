"""Reads inputs in Parquet. Only this file and `unit_file` import pyarrow.

Never holds more than a few MiB of a file, whatever the size of its row groups. Rows count from 0.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from indexer.documents import Chunk
from indexer.errors import InputError
from indexer.plan import InputFile, Unit, changes

_CHUNK_BYTES = 2 << 20  # decoded text that a chunk aims at; small beside the bytes in flight
_CHUNK_ROWS = 1024  # rows of a chunk at most; arbitrary, many batches long
# What reading a damaged file raises; names in its footer that are no text come as a bare UnicodeDecodeError.
DAMAGE = (pa.ArrowException, OSError, UnicodeDecodeError)
_STREAM_BYTES = 1 << 20  # read-ahead for each column; without it a whole row group is loaded


def describe_input(path: Path) -> InputFile:
    """Returns what the footer and the file system say of a file; raises InputError naming it."""
    with _opened(path) as file:
        stat = path.stat()
        footer = file.metadata
        groups = tuple(footer.row_group(number).num_rows for number in range(footer.num_row_groups))
        return InputFile(str(path), stat.st_size, stat.st_mtime_ns, groups)


def check_columns(path: Path, id_column: str, text_columns: Sequence[str]) -> None:
    """Raises InputError unless the columns are there, once each, with types that can be read."""
    with _opened(path) as file:
        schema = file.schema_arrow
        for name in (id_column, *text_columns):
            if schema.names.count(name) != 1:
                wrong = "has no column" if name not in schema.names else "has more than one column"
                raise InputError(
                    f"{path} {wrong} '{name}'; its columns are: {', '.join(schema.names) or 'none'}. "
                    "Choose with --id-column and --text-columns"
                )
        id_type = _values(schema.field(id_column).type)
        if not (_is_text(id_type) or pa.types.is_integer(id_type)):
            raise InputError(
                f"{path}: id column '{id_column}' is {id_type}, wanted text or whole numbers; "
                "choose another with --id-column"
            )
        for name in text_columns:
            if not _is_text(_values(schema.field(name).type)):
                raise InputError(
                    f"{path}: text column '{name}' is {schema.field(name).type}, wanted text; "
                    "choose others with --text-columns"
                )


def read_ids(
    file: InputFile, id_column: str, units: Sequence[Unit]
) -> Iterator[tuple[int, list[bytes | None]]]:
    """Yields first row and ids (UTF-8, None for null) of pieces of the rows of a file's units.

    Raises:
        InputError: The file changed since it was described, or cannot be read; names the row group.
    """
    for _, row, (ids,) in _read_columns(file, (id_column,), units):
        yield row, ids


def read_chunks(
    file: InputFile, id_column: str, text_columns: Sequence[str], units: Iterable[Unit]
) -> Iterator[Chunk]:
    """Yields the rows of a file's units, in order, in chunks of one unit each; raises as `read_ids`.

    Units are drawn one by one, the next when one was read.
    """
    for unit, row, (ids, *columns) in _read_columns(file, (id_column, *text_columns), units):
        yield Chunk(unit, row, ids, columns)


def _read_columns(
    described: InputFile, columns: Sequence[str], units: Iterable[Unit]
) -> Iterator[tuple[Unit, int, list[list[bytes | None]]]]:
    """Yields (unit, first row, values of each column) of the rows of units, which are in order.

    Units are drawn when the one before was read: who draws them may claim them one by one.
    """
    drawn = iter(units)
    unit = next(drawn, None)
    _check_unchanged(described)
    with _opened(Path(described.path)) as file:
        first = 0
        for number, size in enumerate(described.row_groups):
            if unit is None:
                break
            if size and unit.start < first + size:
                for last, rows in _rows_of_group(file, described.path, number, columns, first):
                    while unit is not None and unit.start < last:
                        start, stop = max(last - rows.num_rows, unit.start), min(last, unit.stop)
                        part = rows.slice(start - last + rows.num_rows, stop - start)
                        yield unit, start, [_bytes(part.column(name)) for name in columns]
                        if unit.stop > last:
                            break
                        unit = next(drawn, None)
                    if unit is None or unit.start >= first + size:
                        break
            first += size
    _check_unchanged(described)
    if unit is not None:
        raise InputError(f"{described.path} ended before row {unit.stop}; it changed meanwhile: run again")


def _rows_of_group(
    file: Any, path: str, number: int, columns: Sequence[str], first: int
) -> Iterator[tuple[int, Any]]:
    """Yields (row behind the last, rows) of pieces of a row group that begins with row `first`."""
    for rows in _record_batches(file, path, number, columns):
        first += rows.num_rows
        yield first, rows


def _record_batches(file: Any, path: str, number: int, columns: Sequence[str]) -> Iterator[Any]:
    """Yields the rows of one row group in pieces of about `_CHUNK_BYTES`."""
    unique = list(dict.fromkeys(columns))
    try:
        group = file.metadata.row_group(number)
        # Of all columns: asking a damaged footer for one column's size ends the process in pyarrow 26.
        row_bytes = group.total_byte_size // max(1, group.num_rows)
        size = max(1, min(_CHUNK_ROWS, _CHUNK_BYTES // max(1, row_bytes)))
        yield from file.iter_batches(size, row_groups=[number], columns=unique, use_threads=False)
    except DAMAGE as error:
        raise InputError(
            f"row group {number} of {path} cannot be read ({first_line(error)}); "
            "write the file again, or leave it out"
        ) from error


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Opens a Parquet file; raises InputError naming it, also when the block finds it damaged."""
    try:
        with pq.ParquetFile(
            path, pre_buffer=False, buffer_size=_STREAM_BYTES, page_checksum_verification=True
        ) as file:
            yield file
    except FileNotFoundError as error:
        raise InputError(f"input {path} is not there; check --input") from error
    except DAMAGE as error:
        raise InputError(
            f"{path} is no readable Parquet file ({first_line(error)}); it may be truncated: "
            "write it again, or leave it out"
        ) from error


def _check_unchanged(described: InputFile) -> None:
    now = describe_input(Path(described.path))
    for change in changes(described, now):
        raise InputError(f"{change} while it was read; run again when nothing writes to it")


def _values(kind: Any) -> Any:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _is_text(kind: Any) -> bool:
    """Whether values are text; a column without any value has no type of its own."""
    types = pa.types
    return any(
        test(kind)
        for test in (
            types.is_string, types.is_large_string, types.is_string_view,
            types.is_binary, types.is_large_binary, types.is_binary_view, types.is_null,
        )
    )  # fmt: skip


def _bytes(column: Any) -> list[bytes | None]:
    """Returns the values of a column of text or whole numbers as UTF-8; text is not checked."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_integer(column.type):
        column = column.cast(pa.large_string())
    values: list[bytes | None] = column.cast(pa.large_binary()).to_pylist()
    return values


def first_line(error: BaseException) -> str:
    """Returns the first line of what pyarrow says."""
    return str(error).strip().split("\n", 1)[0]
