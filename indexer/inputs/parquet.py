"""Reads Parquet files, wherever they lie.

Never holds more than a few MiB of a file, whatever the size of its row groups, unless a page of it, the
dictionary of a column or 16 documents are larger. (pyarrow writes pages of at least 1,024 values: where
documents have megabytes, give it a small `write_batch_size`.) Rows count from 0.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from indexer.config import OnError
from indexer.documents import Chunk
from indexer.errors import InputError
from indexer.inputs.column_kinds import as_bytes, is_dictionary, is_id, is_text
from indexer.inputs.filesystems import DAMAGE, Entry, failure, first_line, is_away, scrub
from indexer.inputs.parquet_file import OpenFile, batches, entry_of, opened, shown, unreadable
from indexer.plan import InputFile, Unit, changes

__all__ = ["DAMAGE", "first_line"]  # of whom other readers of Parquet have need

_CHUNK_BYTES = 2 << 20  # decoded text that a chunk aims at; small beside the bytes in flight
# Rows of a chunk at most. Texts may be huge among small ones, or large and repeated by a dictionary, and no
# footer tells: so few of them are decoded at once, which takes 4 us a row. Ids are short.
_TEXT_ROWS, _ID_ROWS = 16, 1024
# Of a column that Arrow keeps as a dictionary: each piece carries the whole dictionary, so pieces are large.
_DICTIONARY_BYTES, _DICTIONARY_ROWS = 8 << 20, 65_536


def describe_input(name: str) -> InputFile:
    """Returns what footer and file system say of a file; raises as `opened`."""
    with opened(name) as file:
        return file.described()


def check_columns(name: str, id_column: str, text_columns: Sequence[str]) -> InputFile:
    """Describes a file; raises as `opened`, and InputError unless it has the columns, of types to read."""
    with opened(name) as file:
        check_names(file, (id_column, *text_columns))
        if id_column in file.own and not is_id(kind := file.reader.schema_arrow.field(id_column).type):
            raise InputError(
                f"{file.name}: id column '{id_column}' is {kind}, wanted text or whole numbers; "
                "choose another with --id-column"
            )
        for column in text_columns:
            if column in file.own and not is_text(kind := file.reader.schema_arrow.field(column).type):
                raise InputError(
                    f"{file.name}: text column '{column}' is {kind}, wanted text; "
                    "choose others with --text-columns"
                )
        return file.described()


def check_names(file: OpenFile, columns: Sequence[str]) -> None:
    """Raises InputError unless a file has each of these columns once."""
    for column in columns:
        if file.columns.count(column) != 1:
            wrong = "has no column" if column not in file.columns else "has more than one column"
            raise InputError(
                f"{file.name} {wrong} '{column}'; its columns are: {shown(file.columns)}. "
                "Choose with --id-column and --text-columns"
            )


def read_ids(
    file: InputFile, id_column: str, units: Iterable[Unit], on_error: OnError = OnError.STOP
) -> Iterator[tuple[int, Sequence[bytes | None]]]:
    """Yields first row and ids (UTF-8, None for null) of pieces of the rows of a file's units.

    Raises:
        InputError: The file changed since it was described, or cannot be read; names the row group.
    """
    for chunk in read_chunks(file, id_column, (), units, on_error):
        yield chunk.first_row, chunk.ids


def read_chunks(
    described: InputFile,
    id_column: str,
    text_columns: Sequence[str],
    units: Iterable[Unit],
    on_error: OnError = OnError.STOP,
) -> Iterator[Chunk]:
    """Yields the rows of a file's units, which are in order, in chunks of one unit each.

    Units are drawn when the one before was read: who draws them may claim them one by one.

    Args:
        described: The file as it was planned.
        id_column: Its column of ids.
        text_columns: Its columns of text.
        units: Which rows.
        on_error: What rows do that cannot be read: end it, or come as chunks that say why.

    Raises:
        InputError: The file changed since it was described, or cannot be read; names the row group.
    """
    drawn = iter(units)
    unit = next(drawn, None)
    if unit is None:
        return
    columns = (id_column, *text_columns)
    with opened(described.path) as file:
        _check_same(described, file.described())
        check_names(file, columns)
        first = 0
        for number, size in enumerate(described.row_groups):
            if unit is None:
                break
            if unit.start < first + size:
                for piece in _pieces(file, number, first, columns, on_error):
                    while unit is not None and unit.start < piece.stop:
                        yield _chunk(unit, piece, columns)
                        if unit.stop > piece.stop:
                            break
                        unit = next(drawn, None)
                    if unit is None or unit.start >= first + size:
                        break
            first += size
    _check_unchanged(described)
    if unit is not None:
        raise InputError(f"{described.path} ended before row {unit.stop}; it changed meanwhile: run again")


@dataclass(frozen=True)
class _Piece:
    """Rows `start` to `stop` of a file: a column array for each name, or why they cannot be read."""

    start: int
    stop: int
    arrays: dict[str, Any]
    folders: dict[str, str | None]
    unreadable: str = ""


def _chunk(unit: Unit, piece: _Piece, columns: Sequence[str]) -> Chunk:
    start, stop = max(piece.start, unit.start), min(piece.stop, unit.stop)
    if piece.unreadable:
        nothing: list[bytes | None] = [None] * (stop - start)
        return Chunk(unit, start, nothing, [nothing] * (len(columns) - 1), piece.unreadable)
    ids, *texts = (_values(piece, name, start, stop) for name in columns)
    return Chunk(unit, start, ids, texts)


def _values(piece: _Piece, name: str, start: int, stop: int) -> list[bytes | None]:
    if name in piece.arrays:
        return as_bytes(piece.arrays[name].slice(start - piece.start, stop - start))
    value = piece.folders[name]
    return [None if value is None else value.encode()] * (stop - start)


def _pieces(
    file: OpenFile, number: int, first: int, columns: Sequence[str], on_error: OnError
) -> Iterator[_Piece]:
    """Yields the rows of one row group, which begins with row `first` of the file."""
    start, stop = first, first + file.row_groups[number]
    own = [name for name in dict.fromkeys(columns) if name in file.own]
    if not own:
        yield _Piece(start, stop, {}, file.folders)
        return
    try:
        for rows, arrays in _rows_of_group(file, number, own):
            end = min(start + rows, stop)
            yield _Piece(start, end, arrays, file.folders)
            start = end
    except Exception as error:  # file systems of fsspec raise anything
        if on_error is OnError.STOP or is_away(error):
            raise unreadable(file.name, number, error) from error
        said = scrub(first_line(error))
        yield _Piece(start, stop, {}, {}, f"row group {number} of {file.name}: {said}")


def _rows_of_group(file: OpenFile, number: int, own: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields (rows, an array for each column) of pieces of a row group."""
    coded = [name for name in own if is_dictionary(file.reader.schema_arrow.field(name).type)]
    plain = [name for name in own if name not in coded]
    most = _ID_ROWS if len(own) == 1 else _TEXT_ROWS
    streams = []
    if plain:
        streams.append(batches(file, number, plain, most, _CHUNK_BYTES))
    if coded:
        streams.append(batches(file, number, coded, _DICTIONARY_ROWS, _DICTIONARY_BYTES))
    for rows, arrays in _side_by_side(streams, most):
        # What was decoded is turned into Python's bytes a few MiB at a time.
        step = max(1, _CHUNK_BYTES * rows // max(1, *(array.nbytes for array in arrays.values())))
        for start in range(0, rows, step):
            count = min(step, rows - start)
            yield count, {name: array.slice(start, count) for name, array in arrays.items()}


def _side_by_side(streams: Sequence[Iterator[Any]], most: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields the columns of streams of batches that have as many rows, in pieces of at most `most` rows."""
    heads: list[Any] = [next(stream, None) for stream in streams]
    while all(head is not None for head in heads):
        rows = min(most, *(head.num_rows for head in heads))
        arrays: dict[str, Any] = {}
        for at, head in enumerate(heads):
            arrays |= dict(zip(head.schema.names, head.slice(0, rows).columns, strict=True))
            heads[at] = head.slice(rows) if head.num_rows > rows else next(streams[at], None)
        yield rows, arrays


def _check_unchanged(described: InputFile) -> None:
    now = _entry_now(described.path)
    _check_same(described, InputFile(described.path, now.size, now.mtime_ns, described.row_groups))


def _entry_now(name: str) -> Entry:
    try:
        return entry_of(name)
    except FileNotFoundError as error:
        raise failure(name, error) from error


def _check_same(described: InputFile, now: InputFile) -> None:
    for change in changes(described, now):
        raise InputError(f"{change} while it was read; run again when nothing writes to it")
