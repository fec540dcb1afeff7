"""Opens Parquet files wherever they lie, and reads their row groups piece by piece.

pyarrow ends the process when it is asked for one column's metadata of a damaged footer: nothing here asks.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from indexer.errors import InputError
from indexer.inputs.filesystems import Entry, failure, first_line, is_away, locate, look, scrub
from indexer.inputs.partitions import partitions
from indexer.plan import InputFile

_LOCAL_READ = 1 << 20  # read-ahead for each column; without it a whole row group is loaded
_REMOTE_READ = 4 << 20  # a request to a store takes as long as reading a few MiB
_GROUP_ROWS = (1 << 31) - 1  # a footer that claims more rows in a row group is damaged
_SHOWN_COLUMNS = 40  # in a message; arbitrary


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
def opened(name: str, footer: Any = None) -> Iterator[OpenFile]:
    """Opens a Parquet file; `footer` is pyarrow's metadata of it, where that was read before.

    Raises:
        InputError: It is not there, damaged or not allowed to be read; names it.
        InputAwayError: Its store does not answer.
    """
    source = None
    try:
        entry = entry_of(name)
        place = locate(name)
        source = place.system.open_input_file(place.path)
        reader = pq.ParquetFile(
            source,
            metadata=footer,
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


def entry_of(name: str) -> Entry:
    """Returns what the file system says of a file; raises FileNotFoundError, or InputError for a folder."""
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


def batches(file: OpenFile, number: int, own: Sequence[str], most_rows: int, aim: int) -> Iterator[Any]:
    """Yields the rows of a row group as pyarrow's RecordBatch of at most `most_rows` and about `aim` bytes.

    Raises whatever pyarrow and the file system raise, also when there are other rows than the footer says.
    """
    group = file.reader.metadata.row_group(number)
    # Of all columns, see above.
    row_bytes = group.total_byte_size // max(1, group.num_rows)
    size = max(1, min(most_rows, aim // max(1, row_bytes)))
    left = file.row_groups[number]
    for batch in file.reader.iter_batches(size, row_groups=[number], columns=list(own), use_threads=False):
        left -= batch.num_rows
        yield batch
    if left:
        raise pa.ArrowInvalid(f"its columns end {left} rows from where the footer says")


def unreadable(name: str, number: int, error: Exception) -> InputError:
    """Returns what to tell when a row group cannot be read, or its store does not answer."""
    if isinstance(error, InputError):
        return error
    if is_away(error):
        return failure(name, error)
    return InputError(
        f"row group {number} of {name} cannot be read ({scrub(first_line(error))}); "
        "write the file again, or leave it out"
    )


def shown(columns: Sequence[str]) -> str:
    """Returns the names of columns, for messages."""
    more = f", and {len(columns) - _SHOWN_COLUMNS} more" if len(columns) > _SHOWN_COLUMNS else ""
    return (", ".join(columns[:_SHOWN_COLUMNS]) or "none") + more
