"""Writes and reads the files of a unit: its vectors and its rejects. Imports pyarrow, as `parquet` does.

The same rows always give the same bytes. With chunks a document has a row for each of its chunks, so that
`row` and `doc_id` repeat; rows are in the order of documents and chunks.
"""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from indexer.documents import HASH_BYTES, Reject
from indexer.errors import StoreError
from indexer.inputs.parquet import DAMAGE, first_line
from indexer.plan import Model, Unit

_FOOTER = "embedpool."  # prefix of our keys in a unit's footer
UNIT_FORMAT = "2"  # where things lie in a unit's file; its footer tells it
# Bytes of vectors in a row group: a reader holds little of a large unit. Arbitrary; a unit of usual size is
# one row group.
_GROUP_BYTES = 8 << 20
# Bytes after which a page ends: never before its row group does. So the values of a row group's vectors lie
# behind each other, at the end of their column: `unit_documents` reads some of them without decoding all.
_PAGE_BYTES = 64 << 20


@dataclass(frozen=True)
class Chunks:
    """Which part of its document each vector is of; each int32 `[n]`.

    Attributes:
        numbers: Counts the chunks of a document, from 0.
        starts: Code point of the document's text where the chunk starts.
        stops: First code point behind it.
    """

    numbers: NDArray[np.int32]
    starts: NDArray[np.int32]
    stops: NDArray[np.int32]


@dataclass(frozen=True)
class UnitTable:
    """The vectors of a unit, in the order of rows and chunks.

    Attributes:
        unit: The unit.
        rows: Row of the file, int64 `[n]`; with chunks it repeats.
        doc_ids: Id of each.
        vectors: float32 or float16 `[n, dim]`.
        token_counts: Tokens of the document, with chunks of the chunk, int32 `[n]`.
        truncated: Whether the end of the document is in no vector, bool `[n]`.
        hashes: Content hash of the document, uint8 `[n, 16]`.
        chunks: With chunks, what each vector is of.
    """

    unit: Unit
    rows: NDArray[np.int64]
    doc_ids: list[str]
    vectors: NDArray[np.floating]
    token_counts: NDArray[np.int32]
    truncated: NDArray[np.bool_]
    hashes: NDArray[np.uint8]
    chunks: Chunks | None = None


def _required(name: str, kind: Any) -> Any:
    return pa.field(name, kind, nullable=False)


def unit_bytes(table: UnitTable, model: Model) -> memoryview:
    """Returns the file of a unit, the model in its footer.

    Columns: row, doc_id, content_hash, [chunk, chunk_start, chunk_stop], embedding, token_count, truncated.
    """
    dim = table.vectors.shape[1]
    embedding = pa.list_(_required("element", pa.from_numpy_dtype(table.vectors.dtype)), dim)
    columns = {
        "row": pa.array(table.rows),
        "doc_id": pa.array(table.doc_ids, pa.string()),
        "content_hash": _fixed_binary(table.hashes),
        **({} if table.chunks is None else _chunk_columns(table.chunks)),
        "embedding": pa.FixedSizeListArray.from_arrays(pa.array(table.vectors.reshape(-1)), type=embedding),
        "token_count": pa.array(table.token_counts),
        "truncated": pa.array(table.truncated),
    }
    footer = {_FOOTER + key: str(value) for key, value in _identity(model).items()}
    schema = pa.schema([_required(name, column.type) for name, column in columns.items()], metadata=footer)
    row_bytes = max(1, dim * table.vectors.itemsize)
    return _written(pa.Table.from_arrays(list(columns.values()), schema=schema), _GROUP_BYTES // row_bytes)


def _fixed_binary(hashes: NDArray[np.uint8]) -> Any:
    packed = pa.py_buffer(np.ascontiguousarray(hashes))
    return pa.Array.from_buffers(pa.binary(HASH_BYTES), len(hashes), [None, packed])


def _chunk_columns(chunks: Chunks) -> dict[str, Any]:
    return {
        "chunk": pa.array(chunks.numbers),
        "chunk_start": pa.array(chunks.starts),
        "chunk_stop": pa.array(chunks.stops),
    }


def rejects_bytes(rejects: Sequence[Reject]) -> memoryview:
    """Returns the file of a unit's rejects: doc_id (null where it is unknown), row, reason."""
    schema = pa.schema(
        [pa.field("doc_id", pa.string()), _required("row", pa.int64()), _required("reason", pa.string())]
    )
    columns = [[r.doc_id for r in rejects], [r.row for r in rejects], [r.reason for r in rejects]]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    return _written(pa.Table.from_arrays(arrays, schema=schema), len(rejects))


def _written(table: Any, group_rows: int) -> memoryview:
    sink = pa.BufferOutputStream()
    # Vectors and hashes hardly compress; ids and counts do.
    plain = {"embedding": "embedding.list.element", "content_hash": "content_hash"}
    compression = {plain.get(name, name): "NONE" if name in plain else "ZSTD" for name in table.schema.names}
    pq.write_table(
        table, sink, compression=compression, use_dictionary=False, write_statistics=False,
        write_page_checksum=True, row_group_size=max(1, group_rows), data_page_size=_PAGE_BYTES,
    )  # fmt: skip
    return memoryview(sink.getvalue())


def _identity(model: Model) -> dict[str, object]:
    return {"fingerprint": model.fingerprint, "model": model.name, "dim": model.dim, "format": UNIT_FORMAT}


@dataclass(frozen=True)
class StoredUnit:
    """Columns of a unit's file, in its order; others than rows only where they were asked for.

    Attributes:
        rows: Row in the input file, int64 `[n]`; with chunks it repeats.
        doc_ids: Id of each row; empty unless asked for.
        vectors: As stored, `[n, dim]`; `[0, 0]` unless asked for.
        fingerprint: Model named in the footer.
        hashes: Content hash of each row's document, uint8 `[n, 16]`; `[0, 16]` unless asked for.
        chunks: What each vector is of; None unless asked for, and for a unit without chunks.
        token_counts: int32 `[n]`; empty unless asked for.
        truncated: bool `[n]`; empty unless asked for.
    """

    rows: NDArray[np.int64]
    doc_ids: list[str]
    vectors: NDArray[np.floating]
    fingerprint: str
    hashes: NDArray[np.uint8]
    chunks: Chunks | None
    token_counts: NDArray[np.int32]
    truncated: NDArray[np.bool_]


def read_unit(
    path: Path,
    *,
    doc_ids: bool = False,
    vectors: bool = False,
    hashes: bool = False,
    chunks: bool = False,
    counts: bool = False,
) -> StoredUnit:
    """Reads columns of a unit's file; raises StoreError when it is damaged or gone."""
    wanted = Wanted(doc_ids, vectors, hashes, chunks, counts)
    with opened_unit(path) as file:
        return stored_unit(file.read(wanted.columns(file), use_threads=False), wanted)


def read_unit_pieces(
    path: Path,
    *,
    doc_ids: bool = False,
    vectors: bool = False,
    hashes: bool = False,
    chunks: bool = False,
    counts: bool = False,
) -> Iterator[StoredUnit]:
    """Yields what `read_unit` returns in pieces of some MiB, whatever the size of the unit."""
    wanted = Wanted(doc_ids, vectors, hashes, chunks, counts)
    with opened_unit(path) as file:
        for number in range(file.num_row_groups):
            yield stored_unit(file.read_row_group(number, wanted.columns(file), use_threads=False), wanted)


@dataclass(frozen=True)
class Wanted:
    """Which columns to read; that of rows always."""

    doc_ids: bool = False
    vectors: bool = False
    hashes: bool = False
    chunks: bool = False
    counts: bool = False

    def columns(self, file: Any) -> list[str]:
        """Returns the names of those that an open file has."""
        groups = (
            (True, ("row",)),
            (self.doc_ids, ("doc_id",)),
            (self.hashes, ("content_hash",)),
            (self.chunks and "chunk" in file.schema_arrow.names, ("chunk", "chunk_start", "chunk_stop")),
            (self.vectors, ("embedding",)),
            (self.counts, ("token_count", "truncated")),
        )
        return [name for wanted, names in groups if wanted for name in names]


@contextmanager
def opened_unit(path: Path) -> Iterator[Any]:
    """Opens a unit's file; raises StoreError when it is damaged or gone, also when the block finds that."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            yield file
    except (*DAMAGE, KeyError) as error:
        raise StoreError(
            f"unit {path} cannot be read ({first_line(error)}); delete its receipt, and 'run' makes it again"
        ) from error


def stored_unit(table: Any, wanted: Wanted) -> StoredUnit:
    """Returns the columns of a table that was read from a unit's file."""
    chunks = None
    if "chunk" in table.schema.names:
        chunks = Chunks(*(table[name].to_numpy() for name in ("chunk", "chunk_start", "chunk_stop")))
    return StoredUnit(
        rows=table["row"].to_numpy(),
        doc_ids=table["doc_id"].to_pylist() if wanted.doc_ids else [],
        vectors=_matrix(table["embedding"]) if wanted.vectors else np.empty((0, 0), dtype=np.float32),
        fingerprint=(table.schema.metadata or {}).get(f"{_FOOTER}fingerprint".encode(), b"").decode(),
        hashes=_hashes(table["content_hash"]) if wanted.hashes else np.empty((0, HASH_BYTES), dtype=np.uint8),
        chunks=chunks,
        token_counts=table["token_count"].to_numpy() if wanted.counts else np.empty(0, dtype=np.int32),
        truncated=table["truncated"].to_numpy() if wanted.counts else np.empty(0, dtype=np.bool_),
    )


def _hashes(column: Any) -> NDArray[np.uint8]:
    array = column.combine_chunks()
    data = np.frombuffer(array.buffers()[1] or b"", dtype=np.uint8)
    first = array.offset * HASH_BYTES
    return data[first : first + len(array) * HASH_BYTES].reshape(-1, HASH_BYTES)


def _matrix(column: Any) -> NDArray[np.floating]:
    matrix: NDArray[np.floating] = (
        column.combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(-1, column.type.list_size)
    )
    return matrix


def read_rejects(path: Path) -> list[Reject]:
    """Reads a file of rejects; raises StoreError when it is damaged or gone."""
    try:
        table = pq.read_table(io.BytesIO(path.read_bytes()))
        columns = (table[name].to_pylist() for name in ("row", "doc_id", "reason"))
        return [Reject(*row) for row in zip(*columns, strict=True)]
    except (*DAMAGE, KeyError) as error:
        raise StoreError(
            f"{path} cannot be read ({first_line(error)}); delete its unit's receipt, and run again"
        ) from error
