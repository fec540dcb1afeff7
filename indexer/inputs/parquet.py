"""Reads Parquet files, wherever they lie.

Never holds more than a few MiB of a file, whatever the size of its row groups, unless one page of it, the
dictionary of a column or 16 documents are larger. Rows count from 0.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from indexer.config import OnError
from indexer.documents import Chunk
from indexer.errors import InputError
from indexer.inputs.column_kinds import as_bytes, is_id, is_text
from indexer.inputs.filesystems import DAMAGE, Entry, failure, first_line, is_away, locate, look, scrub
from indexer.inputs.partitions import partitions
from indexer.plan import InputFile, Unit, changes

__all__ = ["DAMAGE", "first_line"]  # of whom other readers of Parquet have need

_CHUNK_BYTES = 2 << 20  # decoded text that a chunk aims at; small beside the bytes in flight
_CHUNK_ROWS = 1024  # rows of a chunk at most; arbitrary, many batches long
# A row group above this may hide many huge documents among small ones: so few rows are decoded at once, which
# takes 4 us a row in place of 1.
_LARGE_GROUP, _FEW_ROWS = 32 << 20, 16
_LOCAL_READ = 1 << 20  # read-ahead for each column; without it a whole row group is loaded
_REMOTE_READ = 4 << 20  # a request to a store takes as long as reading a few MiB
_GROUP_ROWS = (1 << 31) - 1  # a footer that claims more rows in a row group is damaged


@dataclass(frozen=True)
class OpenFile:
    """A Parquet file that is open and whose footer could be read.

    Attributes:
        name: The input's name.
        reader: pyarrow's ParquetFile.
        entry: What the file system says of it.
        row_groups: Rows of each row group.
        folders: The columns that the names of its folders spell.
    """

    name: str
    reader: Any
    entry: Entry
    row_groups: tuple[int, ...]
    folders: dict[str, str | None]

    @property
    def own(self) -> list[str]:
        """The names of the file's own columns."""
        names: list[str] = self.reader.schema_arrow.names
        return names

    @property
    def columns(self) -> list[str]:
        """The names of all columns, those in folder names included."""
        return self.own + [name for name in self.folders if name not in self.own]

    def described(self) -> InputFile:
        """Returns what plans keep of it."""
        return InputFile(self.name, self.entry.size, self.entry.mtime_ns, self.row_groups)


@contextmanager
def opened(name: str) -> Iterator[OpenFile]:
    """Opens a Parquet file.

    Raises:
        InputError: It is not there, damaged or not allowed to be read; names it.
        InputAwayError: Its store does not answer.
    """
    source = None
    try:
        entry = _entry(name)
        place = locate(name)
        source = place.system.open_input_file(place.path)
        reader = pq.ParquetFile(
            source,
            pre_buffer=False,
            buffer_size=_LOCAL_READ if place.is_local else _REMOTE_READ,
            page_checksum_verification=True,
        )
        file = OpenFile(entry.name, reader, entry, _row_groups(reader), partitions(entry.name))
        file.own  # noqa: B018 - parses the schema: names that are no text show here
    except Exception as error:  # file systems of fsspec raise anything
        if source is not None:
            source.close()
        raise failure(name, error) from error
    with source, reader:
        yield file


def _entry(name: str) -> Entry:
    entry = look(name)
    if entry is None:
        raise FileNotFoundError(name)
    if not entry.is_file:
        what = "a folder that holds no Parquet file" if entry.is_folder else "no regular file"
        raise InputError(f"input {entry.name} is {what}; leave it out")
    return entry


def _row_groups(reader: Any) -> tuple[int, ...]:
    footer = reader.metadata
    groups = tuple(footer.row_group(number).num_rows for number in range(footer.num_row_groups))
    for number, rows in enumerate(groups):
        if not 0 <= rows <= _GROUP_ROWS:
            raise pa.ArrowInvalid(f"its footer claims {rows} rows in row group {number}")
    return groups


def describe_input(name: str) -> InputFile:
    """Returns what footer and file system say of a file; raises as `opened`."""
    with opened(name) as file:
        return file.described()


def check_columns(name: str, id_column: str, text_columns: Sequence[str]) -> InputFile:
    """Describes a file; raises as `opened`, and InputError unless it has the columns, of types to read."""
    with opened(name) as file:
        for column in (id_column, *text_columns):
            if file.columns.count(column) != 1:
                wrong = "has no column" if column not in file.columns else "has more than one column"
                raise InputError(
                    f"{file.name} {wrong} '{column}'; its columns are: {_shown(file.columns)}. "
                    "Choose with --id-column and --text-columns"
                )
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


_SHOWN_COLUMNS = 40  # in a message; arbitrary


def _shown(columns: Sequence[str]) -> str:
    more = f", and {len(columns) - _SHOWN_COLUMNS} more" if len(columns) > _SHOWN_COLUMNS else ""
    return (", ".join(columns[:_SHOWN_COLUMNS]) or "none") + more


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
        for batch in _batches(file, number, own):
            end = min(start + batch.num_rows, stop)
            yield _Piece(start, end, {name: batch.column(name) for name in own}, file.folders)
            start = end
    except Exception as error:  # file systems of fsspec raise anything
        if on_error is OnError.STOP or is_away(error):
            raise _unreadable(file.name, number, error) from error
        said = scrub(first_line(error))
        yield _Piece(start, stop, {}, {}, f"row group {number} of {file.name}: {said}")


def _batches(file: OpenFile, number: int, own: Sequence[str]) -> Iterator[Any]:
    group = file.reader.metadata.row_group(number)
    # Of all columns: asking a damaged footer for one column's size ends the process in pyarrow 26.
    row_bytes = group.total_byte_size // max(1, group.num_rows)
    most = _FEW_ROWS if len(own) > 1 and group.total_byte_size > _LARGE_GROUP else _CHUNK_ROWS
    size = max(1, min(most, _CHUNK_BYTES // max(1, row_bytes)))
    left = file.row_groups[number]
    for batch in file.reader.iter_batches(size, row_groups=[number], columns=list(own), use_threads=False):
        left -= batch.num_rows
        yield batch
    if left:
        raise pa.ArrowInvalid(f"its columns end {left} rows from where the footer says")


def _unreadable(name: str, number: int, error: Exception) -> InputError:
    if is_away(error):
        return failure(name, error)
    return InputError(
        f"row group {number} of {name} cannot be read ({scrub(first_line(error))}); "
        "write the file again, or leave it out"
    )


def _check_unchanged(described: InputFile) -> None:
    now = _entry_now(described.path)
    _check_same(described, InputFile(described.path, now.size, now.mtime_ns, described.row_groups))


def _entry_now(name: str) -> Entry:
    try:
        return _entry(name)
    except FileNotFoundError as error:
        raise failure(name, error) from error


def _check_same(described: InputFile, now: InputFile) -> None:
    for change in changes(described, now):
        raise InputError(f"{change} while it was read; run again when nothing writes to it")
