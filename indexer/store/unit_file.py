"""Writes and reads the files of a unit: its vectors and its rejects. Imports pyarrow, as `parquet` does.

The same rows always give the same bytes.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from indexer.documents import Reject
from indexer.errors import StoreError
from indexer.inputs.parquet import DAMAGE, first_line
from indexer.plan import Model, Unit

_FOOTER = "embedpool."  # prefix of our keys in a unit's footer


@dataclass(frozen=True)
class UnitTable:
    """The vectors of a unit, in the order of rows.

    Attributes:
        unit: The unit.
        rows: Row of the file, int64 `[good]`.
        doc_ids: Id of each.
        vectors: float32 or float16 `[good, dim]`.
        token_counts: int32 `[good]`.
        truncated: bool `[good]`.
    """

    unit: Unit
    rows: NDArray[np.int64]
    doc_ids: list[str]
    vectors: NDArray[np.floating]
    token_counts: NDArray[np.int32]
    truncated: NDArray[np.bool_]


def _required(name: str, kind: Any) -> Any:
    return pa.field(name, kind, nullable=False)


def unit_bytes(table: UnitTable, model: Model) -> memoryview:
    """Returns the file of a unit: row, doc_id, embedding, token_count, truncated; the model in the footer."""
    dim = table.vectors.shape[1]
    embedding = pa.list_(_required("element", pa.from_numpy_dtype(table.vectors.dtype)), dim)
    fields = {
        "row": pa.int64(),
        "doc_id": pa.string(),
        "embedding": embedding,
        "token_count": pa.int32(),
        "truncated": pa.bool_(),
    }
    footer = {_FOOTER + key: str(value) for key, value in _identity(model).items()}
    values = pa.array(table.vectors.reshape(-1))
    columns = [
        pa.array(table.rows),
        pa.array(table.doc_ids, pa.string()),
        pa.FixedSizeListArray.from_arrays(values, type=embedding),
        pa.array(table.token_counts),
        pa.array(table.truncated),
    ]
    schema = pa.schema([_required(name, kind) for name, kind in fields.items()], metadata=footer)
    return _written(pa.Table.from_arrays(columns, schema=schema))


def rejects_bytes(rejects: Sequence[Reject]) -> memoryview:
    """Returns the file of a unit's rejects: doc_id (null where it is unknown), row, reason."""
    schema = pa.schema(
        [pa.field("doc_id", pa.string()), _required("row", pa.int64()), _required("reason", pa.string())]
    )
    columns = [[r.doc_id for r in rejects], [r.row for r in rejects], [r.reason for r in rejects]]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    return _written(pa.Table.from_arrays(arrays, schema=schema))


def _written(table: Any) -> memoryview:
    sink = pa.BufferOutputStream()
    # Vectors hardly compress; ids and counts do.
    compression = {name: "NONE" if name == "embedding" else "ZSTD" for name in table.schema.names}
    compression["embedding.list.element"] = compression.pop("embedding", "NONE")
    pq.write_table(
        table, sink, compression=compression, use_dictionary=False, write_statistics=False,
        write_page_checksum=True, row_group_size=max(1, table.num_rows),
    )  # fmt: skip
    return memoryview(sink.getvalue())


def _identity(model: Model) -> dict[str, object]:
    return {"fingerprint": model.fingerprint, "model": model.name, "dim": model.dim}


@dataclass(frozen=True)
class StoredUnit:
    """Columns of a unit's file: rows int64 `[n]`; others only where they were asked for.

    Attributes:
        rows: Row in the input file, int64 `[n]`.
        doc_ids: Id of each row; empty unless asked for.
        vectors: As stored, `[n, dim]`; `[0, 0]` unless asked for.
        fingerprint: Model named in the footer.
    """

    rows: NDArray[np.int64]
    doc_ids: list[str]
    vectors: NDArray[np.floating]
    fingerprint: str


def read_unit(path: Path, *, doc_ids: bool = False, vectors: bool = False) -> StoredUnit:
    """Reads columns of a unit's file; raises StoreError when it is damaged or gone."""
    columns = ["row", *(["doc_id"] if doc_ids else []), *(["embedding"] if vectors else [])]
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read(columns, use_threads=False)
        metadata = table.schema.metadata or {}
        return StoredUnit(
            rows=table["row"].to_numpy(),
            doc_ids=table["doc_id"].to_pylist() if doc_ids else [],
            vectors=_matrix(table["embedding"]) if vectors else np.empty((0, 0), dtype=np.float32),
            fingerprint=metadata.get(f"{_FOOTER}fingerprint".encode(), b"").decode(),
        )
    except (*DAMAGE, KeyError) as error:
        raise StoreError(
            f"unit {path} cannot be read ({first_line(error)}); delete its receipt, and 'run' makes it again"
        ) from error


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
