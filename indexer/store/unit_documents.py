"""Reads some documents of a unit without decoding its other vectors.

A Parquet reader decodes every value of a column to give one row of it, some 5 ms for a unit of 2,048 × 384
values. Units are written so that the values of a row group's vectors are the last bytes of their column,
plain and in order (see `unit_file`): a few of them are a read of a few bytes. Checksums of pages are not
compared.
"""

import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexer.errors import StoreError
from indexer.store.unit_file import UNIT_FORMAT, Chunks, StoredUnit, Wanted, opened_unit, stored_unit

_SMALL = Wanted(hashes=True, chunks=True, counts=True)


def read_documents(path: Path, rows: NDArray[np.int64]) -> StoredUnit:
    """Returns all of the documents of some rows, int64 `[n]`, that a unit has; their ids aside.

    Raises:
        StoreError: The file is damaged, gone, or of another release.
    """
    with opened_unit(path) as file:
        stored = stored_unit(file.read(_SMALL.columns(file), use_threads=False), _SMALL)
        keep = np.flatnonzero(np.isin(stored.rows, rows))
        vectors = _vectors(file, path, keep)
    chunks = stored.chunks
    return StoredUnit(
        rows=stored.rows[keep],
        doc_ids=[],
        vectors=vectors,
        fingerprint=stored.fingerprint,
        hashes=stored.hashes[keep],
        chunks=chunks and Chunks(chunks.numbers[keep], chunks.starts[keep], chunks.stops[keep]),
        token_counts=stored.token_counts[keep],
        truncated=stored.truncated[keep],
    )


def _vectors(file: Any, path: Path, positions: NDArray[np.int64]) -> NDArray[np.floating]:
    """Returns the vectors at some positions, rising, of an open unit."""
    if (file.schema_arrow.metadata or {}).get(b"embedpool.format") != UNIT_FORMAT.encode():
        raise StoreError(f"unit {path} was written by another release; build the index again with this one")
    kind = file.schema_arrow.field("embedding").type
    vectors = np.empty((len(positions), kind.list_size), dtype=kind.value_type.to_pandas_dtype())
    size = vectors.itemsize * kind.list_size
    descriptor = os.open(path, os.O_RDONLY)
    try:
        first = 0
        for number in range(file.num_row_groups):
            group = file.metadata.row_group(number)
            begin = _end_of_vectors(group) - group.num_rows * size
            here = slice(*np.searchsorted(positions, (first, first + group.num_rows)))
            _read_runs(descriptor, begin, positions[here] - first, vectors[here], path)
            first += group.num_rows
    finally:
        os.close(descriptor)
    return vectors


def _end_of_vectors(group: Any) -> int:
    """Returns the byte of the file behind the vectors of a row group."""
    columns = (group.column(number) for number in range(group.num_columns))
    (column,) = (one for one in columns if one.path_in_schema.startswith("embedding."))
    return int(column.data_page_offset + column.total_compressed_size)


def _read_runs(
    descriptor: int, begin: int, places: NDArray[np.int64], into: NDArray[np.floating], path: Path
) -> None:
    """Reads rows of values that lie behind each other from byte `begin`, each run of neighbours at once."""
    size = into.itemsize * into.shape[1]
    cuts = [0, *(np.flatnonzero(np.diff(places) != 1) + 1).tolist(), len(places)]
    for start, stop in pairwise(cuts):
        if stop > start:
            wanted = (stop - start) * size
            data = os.pread(descriptor, wanted, begin + int(places[start]) * size)
            if len(data) != wanted:
                raise StoreError(f"unit {path} is cut; delete its receipt, and 'run' makes it again")
            into[start:stop] = np.frombuffer(data, dtype=into.dtype).reshape(-1, into.shape[1])
