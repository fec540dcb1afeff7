"""Documents that were deleted: each `delete` writes a file of ids, which counts for the rows before it.

Files are numbered from 1 and never change: a unit that has to be made again holds its deleted rows again.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from indexer.errors import StoreError
from indexer.inputs.filesystems import DAMAGE, first_line
from indexer.store.durable import make_folder, write_durable
from indexer.store.layout import Layout

_BEFORE, _DIGEST = b"embedpool.before", b"embedpool.sha256"
_GROUP_IDS = 1 << 16  # ids in a row group, to read them in pieces; arbitrary
_NAME = re.compile(r"(\d{6})\.parquet")


@dataclass(frozen=True)
class Deletion:
    """One file of deleted ids.

    Attributes:
        number: From 1.
        before: First row id that it does not delete.
        count: Ids in it.
        sha256: Of `before` and all ids, hex: nothing else vouches for the file.
    """

    number: int
    before: int
    count: int
    sha256: str


def list_deletions(layout: Layout) -> list[Deletion]:
    """Returns all deletions of an index, in order; raises StoreError when one is damaged or missing."""
    names = (_NAME.fullmatch(path.name) for path in _files(layout.deletions))
    numbers = sorted(int(name[1]) for name in names if name)
    if numbers != list(range(1, len(numbers) + 1)):
        missing = next(number for number in range(1, len(numbers) + 1) if number not in numbers)
        raise StoreError(
            f"{layout.deletion(missing)} is missing, and nothing else knows its ids; "
            "bring it back from a copy, or build the index again"
        )
    return [_read(layout, number) for number in numbers]


def deletion_pieces(layout: Layout, deletion: Deletion) -> Iterator[list[str]]:
    """Yields the ids of a deletion in pieces; raises StoreError when it is damaged, if only at its end."""
    path, digest = layout.deletion(deletion.number), _digest(deletion.before)
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            for group in range(file.num_row_groups):
                ids = file.read_row_group(group, ["doc_id"], use_threads=False)["doc_id"].to_pylist()
                _add(digest, ids)
                yield ids
    except (*DAMAGE, KeyError) as error:
        raise _damaged(path, first_line(error)) from error
    if digest.hexdigest() != deletion.sha256:
        raise _damaged(path, "it differs from its sha256")


def _digest(before: int) -> Any:
    return hashlib.sha256(f"{before}\n".encode())


def _add(digest: Any, doc_ids: Iterable[str]) -> None:
    for doc_id in doc_ids:
        digest.update(doc_id.encode() + b"\n")


def write_deletion(layout: Layout, doc_ids: Iterable[str], before: int) -> Deletion:
    """Writes the next deletion, durably; the same ids always give the same bytes.

    Args:
        layout: Where the index lies; the caller holds its lock.
        doc_ids: What to delete.
        before: `Plan.end`: rows that are planned later are not deleted.

    Raises:
        StorageError: The file system refused.
    """
    ids, digest = sorted(set(doc_ids)), _digest(before)
    _add(digest, ids)
    deletion = Deletion(len(list_deletions(layout)) + 1, before, len(ids), digest.hexdigest())
    footer = {_BEFORE: str(before).encode(), _DIGEST: deletion.sha256.encode()}
    schema = pa.schema([pa.field("doc_id", pa.string(), nullable=False)], metadata=footer)
    sink = pa.BufferOutputStream()
    pq.write_table(
        pa.Table.from_arrays([pa.array(ids, pa.string())], schema=schema), sink, compression="ZSTD",
        use_dictionary=False, write_statistics=False, write_page_checksum=True, row_group_size=_GROUP_IDS,
    )  # fmt: skip
    make_folder(layout.deletions)
    write_durable(layout.deletion(deletion.number), memoryview(sink.getvalue()))
    return deletion


def _read(layout: Layout, number: int) -> Deletion:
    path = layout.deletion(number)
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            footer = file.schema_arrow.metadata
            return Deletion(number, int(footer[_BEFORE]), file.metadata.num_rows, footer[_DIGEST].decode())
    except (*DAMAGE, KeyError, TypeError, ValueError) as error:
        raise _damaged(path, first_line(error)) from error


def _files(folder: Path) -> Iterator[Path]:
    return folder.iterdir() if folder.is_dir() else iter(())


def _damaged(path: Path, reason: str) -> StoreError:
    return StoreError(
        f"deletion {path} cannot be read ({reason}), and nothing else knows its ids; "
        "bring it back from a copy, or build the index again"
    )
