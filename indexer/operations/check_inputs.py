"""Do the units hold what the inputs hold? Where these are still there, every id and every text is compared.

Always, and not on demand: it reads the inputs once and hashes their texts, which takes about as long as the
other checks take to read the vectors.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np

from indexer.config import OnError
from indexer.documents import HASH_BYTES, Chunk, content_hash, join_texts
from indexer.errors import StoreError
from indexer.inputs import filesystems, parquet
from indexer.inputs.duplicates import find_duplicate
from indexer.operations.check_units import rejects_of
from indexer.operations.standing import Standing
from indexer.plan import InputFile
from indexer.store.ledger import Receipt
from indexer.store.liveness import dead_rows, documents
from indexer.store.unit_file import read_unit

_ANY_SIZE = 1 << 62  # bytes: how large a text may be was the pool's to say


def check_ids(index: Standing) -> str:
    """No document id has two living rows; whatever `dead_rows` says, by another way than it takes."""
    dead = dead_rows(index.layout, index.plan, index.receipts)

    def read() -> Iterator[tuple[int, list[bytes | None]]]:
        for receipt in index.receipts:
            found = documents(index.layout, receipt, doc_ids=True)
            alive = ~np.isin(found.rows, dead, assume_unique=True)
            yield receipt.unit.base, [found.doc_ids[at].encode() for at in np.flatnonzero(alive).tolist()]

    count = sum(receipt.documents for receipt in index.receipts)
    twice = find_duplicate(read, count)
    if twice is not None:
        raise StoreError(f"document id '{twice.doc_id.decode()}' has two vectors")
    gone = f"; {len(dead):,} more rows are dead" if len(dead) else ""
    return f"{count - len(dead):,} document ids, all different{gone}"


def check_inputs(index: Standing) -> str:
    """Where the inputs are still there, ids and texts are those of the input's rows."""
    rows = compared = 0
    passed: dict[str, int] = {}
    superseded = index.plan.superseded()
    for number, of_file in groupby(index.receipts, key=lambda receipt: receipt.unit.file):
        file = index.plan.inputs[number]
        reason = "were planned again" if number in superseded else why_not_compared(file)
        if reason:
            passed[reason] = passed.get(reason, 0) + 1
            continue
        rows += _compare_file(index, file, {receipt.unit.number: receipt for receipt in of_file})
        compared += 1
    told = "".join(f"; {count:,} inputs {reason}" for reason, count in sorted(passed.items()))
    return f"{rows:,} rows hold the ids and texts of {compared:,} inputs{told}"


def why_not_compared(file: InputFile) -> str:
    """Returns why an input cannot be compared: it is no longer what was planned; "" when it can."""
    entry = filesystems.look(file.path)
    if entry is None:
        return "are gone and were not compared"
    changed = (entry.size, entry.mtime_ns) != (file.size, file.mtime_ns)
    return "have changed since and were not compared: the next 'run' reads them" if changed else ""


def _compare_file(index: Standing, file: InputFile, receipts: dict[int, Receipt]) -> int:
    """Compares the units of a file with it; returns how many rows those are."""
    config = index.plan.config
    units = [receipt.unit for receipt in receipts.values()]
    read = parquet.read_chunks(file, config.id_column, config.text_columns, units, OnError.SKIP)
    for number, chunks in groupby(read, key=lambda chunk: chunk.unit.number):
        _compare_unit(index, receipts[number], chunks, file.path)
    return sum(unit.rows for unit in units)


def _compare_unit(index: Standing, receipt: Receipt, chunks: Iterator[Chunk], path: str) -> None:
    stored = read_unit(index.layout.unit(receipt.unit.number, receipt.revision), doc_ids=True, hashes=True)
    rows, first = np.unique(stored.rows, return_index=True)
    hashes = stored.hashes[first].tobytes()
    expected = {
        row: (stored.doc_ids[at], hashes[place * HASH_BYTES : (place + 1) * HASH_BYTES])
        for place, (row, at) in enumerate(zip(rows.tolist(), first.tolist(), strict=True))
    }
    rejected = {
        reject.row: reject.doc_id for reject in rejects_of(index.layout, receipt) if reject.doc_id is not None
    }
    for chunk in chunks:
        _compare_chunk(chunk, expected, rejected, path)


def _compare_chunk(
    chunk: Chunk, expected: dict[int, tuple[str, bytes]], rejected: dict[int, str], path: str
) -> None:
    for at, there in enumerate(chunk.ids):
        row = chunk.first_row + at
        doc_id, named = expected.get(row, (rejected.get(row), b""))
        if doc_id is not None and there != doc_id.encode() and not chunk.unreadable:
            raise StoreError(
                f"{path} row {row} is document {(there or b'null').decode(errors='replace')!r}, "
                f"the index says {doc_id!r}"
            )
        if named and _hash(chunk.columns, at) != named:
            raise StoreError(
                f"{path} row {row} ({doc_id!r}) holds another text than the one that was embedded"
            )


def _hash(columns: Sequence[Sequence[bytes | None]], at: int) -> bytes:
    text = join_texts((column[at] for column in columns), _ANY_SIZE)
    return content_hash(text) if isinstance(text, bytes) else b""
