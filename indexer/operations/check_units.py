"""What the files of one unit must be: what its receipt says, and well-formed by themselves."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from indexer.documents import Reject, count_reasons
from indexer.errors import StoreError
from indexer.operations.standing import Standing
from indexer.plan import Plan, Unit
from indexer.store.layout import Layout
from indexer.store.ledger import Receipt, file_sha256, read_receipt
from indexer.store.unit_file import Chunks, StoredUnit, read_rejects, read_unit

# A length of 1 within the rounding of float32 sums; float16 keeps 11 bits of each value.
_LENGTH_TOLERANCE = {"float32": 1e-4, "float16": 2e-3}
_AGAIN = "run 'repair', then the same 'run' command"


def sound_receipt(layout: Layout, plan: Plan, unit: Unit) -> Receipt:
    """Returns the receipt of a unit, which is of this plan and accounts for every row; raises StoreError."""
    receipt = read_receipt(layout, unit)
    if receipt is None:
        raise StoreError(
            f"unit {unit.number} has no receipt: run the same 'run' command to complete the index"
        )
    if receipt.unit != unit or receipt.fingerprint != plan.model.fingerprint:
        raise StoreError(f"the receipt of unit {unit.number} is of another plan: {_AGAIN}")
    if receipt.documents + sum(receipt.rejects.values()) + receipt.dropped != unit.rows:
        raise StoreError(
            f"the receipt of unit {unit.number} does not account for its {unit.rows} rows: {_AGAIN}"
        )
    return receipt


def check_files(layout: Layout, receipt: Receipt) -> int:
    """Compares a unit's files with the sha256 of its receipt; returns how many they are."""
    number = receipt.unit.number
    files = {layout.unit(number, receipt.revision): receipt.unit_sha256}
    rejects = layout.unit_rejects(number)
    if receipt.rejects_sha256:
        files[rejects] = receipt.rejects_sha256
    elif rejects.exists():
        raise StoreError(f"{rejects} is there, its receipt knows of no rejects: {_AGAIN}")
    for path, expected in files.items():
        _check_sha256(path, expected)
    return len(files)


def _check_sha256(path: Path, expected: str) -> None:
    if not path.exists():
        raise StoreError(f"{path} is missing: {_AGAIN}")
    if file_sha256(path) != expected:
        raise StoreError(f"{path} differs from its receipt's sha256: {_AGAIN}")


def check_contents(layout: Layout, plan: Plan, receipt: Receipt) -> int:
    """Recounts all that a receipt says of a unit, and looks at every vector; returns how many they are."""
    path = layout.unit(receipt.unit.number, receipt.revision)
    stored = read_unit(path, doc_ids=True, vectors=True, hashes=True, chunks=True, counts=True)
    rejects = rejects_of(layout, receipt)
    where = f"unit {receipt.unit.number}"
    _check_rows(receipt, stored, rejects, where)
    _check_documents(plan, stored, where)
    _check_vectors(plan, stored, where)
    return len(stored.rows)


def rejects_of(layout: Layout, receipt: Receipt) -> list[Reject]:
    """Returns the rejected rows of a unit; raises StoreError when their file is damaged."""
    return read_rejects(layout.unit_rejects(receipt.unit.number)) if receipt.rejects_sha256 else []


def _check_rows(receipt: Receipt, stored: StoredUnit, rejects: list[Reject], where: str) -> None:
    """Each row has vectors, or one reason, or was taken out; the receipt counts them rightly."""
    unit, documents = receipt.unit, np.unique(stored.rows)
    rows = np.sort(np.concatenate([documents, [reject.row for reject in rejects]]).astype(np.int64))
    inside = not rows.size or (rows[0] >= unit.start and rows[-1] < unit.stop)
    if not inside or np.any(np.diff(rows) == 0) or np.any(np.diff(stored.rows) < 0):
        raise StoreError(f"{where}: vectors and rejects do not cover its rows once each, in order: {_AGAIN}")
    found = (
        len(stored.rows), len(documents), unit.rows - len(rows), dict(count_reasons(rejects)),
        int(stored.token_counts.sum()), int(stored.truncated.sum()),
    )  # fmt: skip
    said = (
        receipt.vectors, receipt.documents, receipt.dropped, dict(receipt.rejects),
        receipt.tokens, receipt.truncated,
    )  # fmt: skip
    if found != said:
        names = ("vectors", "documents", "dropped", "rejects", "tokens", "truncated")
        wrong = next(at for at in range(len(names)) if found[at] != said[at])
        raise StoreError(
            f"{where}: {names[wrong]} are {found[wrong]}, its receipt says {said[wrong]}: {_AGAIN}"
        )


def _check_documents(plan: Plan, stored: StoredUnit, where: str) -> None:
    """With chunks, those of a document are numbered from 0 and lie in order; else a row stands once."""
    if (stored.chunks is not None) != bool(plan.config.chunk_tokens):
        raise StoreError(f"{where}: its chunks are not those of the plan: {_AGAIN}")
    first = np.diff(stored.rows, prepend=-1) > 0
    if stored.chunks is None:
        if not first.all():
            raise StoreError(f"{where}: row {stored.rows[~first][0]} has two vectors: {_AGAIN}")
        return
    row = _first_bad_chunk(first, stored, stored.chunks)
    if row is not None:
        raise StoreError(f"{where}: the chunks of row {row} do not follow each other: {_AGAIN}")


def _first_bad_chunk(first: NDArray[np.bool_], stored: StoredUnit, chunks: Chunks) -> int | None:
    position = np.arange(len(first))
    begin = np.maximum.accumulate(np.where(first, position, 0))
    bad = (chunks.numbers != position - begin) | (chunks.starts < 0) | (chunks.stops <= chunks.starts)
    ids = np.array(stored.doc_ids, dtype=object)
    later = np.flatnonzero(~first)
    bad[later] |= (chunks.starts[later] <= chunks.starts[later - 1]) | (ids[later] != ids[later - 1])
    bad[later] |= (stored.hashes[later] != stored.hashes[later - 1]).any(axis=1)
    return int(stored.rows[bad][0]) if bad.any() else None


def _check_vectors(plan: Plan, stored: StoredUnit, where: str) -> None:
    kind = plan.config.vector_type.value
    if stored.fingerprint != plan.model.fingerprint:
        raise StoreError(
            f"{where} holds vectors of model {stored.fingerprint[:12]}, not {plan.model.label()}"
        )
    if stored.vectors.dtype != kind or stored.vectors.shape[1] != plan.model.dim:
        raise StoreError(
            f"{where} holds {stored.vectors.shape[1]} values of {stored.vectors.dtype}, the plan says "
            f"{plan.model.dim} of {kind}"
        )
    lengths = np.linalg.norm(stored.vectors.astype(np.float32), axis=1)
    if not np.isfinite(lengths).all():
        raise StoreError(f"{where}: the vector of row {stored.rows[~np.isfinite(lengths)][0]} is not finite")
    off = np.abs(lengths - 1) > _LENGTH_TOLERANCE[kind]
    if plan.model.normalized and off.any():
        raise StoreError(
            f"{where}: the vector of row {stored.rows[off][0]} has length {lengths[off][0]:.5f}, not 1"
        )


def check_checksums(index: Standing) -> str:
    """Every file is, byte for byte, the one that its receipt vouches for."""
    count = sum(check_files(index.layout, receipt) for receipt in index.receipts)
    return f"{count:,} files have the sha256 of their receipts"


def check_units(index: Standing) -> str:
    """Each row of a unit has vectors, one reason, or was taken out; vectors are finite and well-formed."""
    count = sum(check_contents(index.layout, index.plan, receipt) for receipt in index.receipts)
    dropped = sum(receipt.dropped for receipt in index.receipts)
    taken_out = f"; {dropped:,} rows were taken out" if dropped else ""
    return f"{count:,} vectors of {index.plan.model.dim} values, finite and well-formed{taken_out}"
