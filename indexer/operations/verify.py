"""Looks whether an index is what its plan says; trusts no file for what another can prove."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from operator import attrgetter
from pathlib import Path

import numpy as np

from indexer.documents import Reject
from indexer.errors import IndexerError, StoreError
from indexer.index import generations
from indexer.inputs import parquet
from indexer.inputs.duplicates import find_duplicate
from indexer.plan import Plan
from indexer.store.layout import Layout
from indexer.store.ledger import Receipt, file_sha256, load_plan, read_receipt, source_digest
from indexer.store.unit_file import StoredUnit, read_rejects, read_unit

# A length of 1 within the rounding of float32 sums; float16 keeps 11 bits of each value.
_LENGTH_TOLERANCE = {"float32": 1e-4, "float16": 2e-3}


@dataclass(frozen=True)
class Finding:
    """What one check found: `detail` says what was compared, or what is wrong."""

    check: str
    ok: bool
    detail: str


@dataclass(frozen=True)
class Standing:
    """An index whose plan and receipts could be read; receipts in the order of units."""

    layout: Layout
    plan: Plan
    receipts: tuple[Receipt, ...]


Check = Callable[[Standing], str]


def verify_index(root: Path, more: dict[str, Check] | None = None) -> Iterator[Finding]:
    """Yields a finding for each check, in order; later ones are left out when plan or receipts fail.

    Args:
        root: Folder of the index.
        more: Further checks, by name: each returns what it compared or raises IndexerError.
    """
    layout = Layout(root.absolute())
    standing: list[Standing] = []
    first = _finding("receipts", lambda: _stand(layout, standing))
    yield first
    checks: dict[str, Check] = {
        "checksums": check_checksums,
        "units": check_units,
        "ids": check_ids,
        "inputs": check_inputs,
        "faiss": check_faiss,
        **(more or {}),
    }
    for name, check in checks.items() if first.ok else ():
        yield _finding(name, partial(check, standing[0]))


def _finding(name: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(name, ok=True, detail=check())
    except (IndexerError, OSError) as error:
        return Finding(name, ok=False, detail=str(error))


def _stand(layout: Layout, standing: list[Standing]) -> str:
    """Every unit of the plan has a receipt of this plan and model."""
    plan = load_plan(layout)
    receipts = []
    for unit in plan.units:
        receipt = read_receipt(layout, unit)
        if receipt is None:
            raise StoreError(
                f"unit {unit.number} has no receipt: run the same 'run' command to complete the index"
            )
        if receipt.unit != unit or receipt.fingerprint != plan.model.fingerprint:
            raise StoreError(f"the receipt of unit {unit.number} is of another plan: delete it and run again")
        if receipt.vectors + sum(receipt.rejects.values()) != unit.rows:
            raise StoreError(f"the receipt of unit {unit.number} does not account for its {unit.rows} rows")
        receipts.append(receipt)
    standing.append(Standing(layout, plan, tuple(receipts)))
    return f"{len(receipts):,} units of model {plan.model.label()}, each with its receipt"


def check_checksums(index: Standing) -> str:
    """Every file is, byte for byte, the one that its receipt vouches for."""
    count = 0
    for receipt in index.receipts:
        number = receipt.unit.number
        files = {index.layout.unit(number): receipt.unit_sha256}
        if receipt.rejects_sha256:
            files[index.layout.unit_rejects(number)] = receipt.rejects_sha256
        elif index.layout.unit_rejects(number).exists():
            raise StoreError(f"{index.layout.unit_rejects(number)} is there, its receipt knows of no rejects")
        for path, expected in files.items():
            if not path.exists():
                raise StoreError(f"{path} is missing: delete the unit's receipt and run again")
            if file_sha256(path) != expected:
                raise StoreError(
                    f"{path} differs from its receipt's sha256: delete the receipt and run again"
                )
            count += 1
    return f"{count:,} files have the sha256 of their receipts"


def check_units(index: Standing) -> str:
    """Each row of a unit has one vector or one reason; vectors are finite and of the model's length."""
    vectors = 0
    for receipt in index.receipts:
        stored = read_unit(index.layout.unit(receipt.unit.number), vectors=True)
        rejects = _rejects(index, receipt)
        rows = np.sort(np.concatenate([stored.rows, [reject.row for reject in rejects]]).astype(np.int64))
        where = f"unit {receipt.unit.number}"
        if not np.array_equal(rows, np.arange(receipt.unit.start, receipt.unit.stop)):
            raise StoreError(f"{where}: vectors and rejects do not cover its rows once each")
        if len(stored.rows) != receipt.vectors or np.any(np.diff(stored.rows) <= 0):
            raise StoreError(
                f"{where}: {len(stored.rows)} vectors, its receipt says {receipt.vectors}, in order"
            )
        _check_vectors(index.plan, stored, where)
        vectors += len(stored.rows)
    return f"{vectors:,} vectors of {index.plan.model.dim} values, finite and well-formed"


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


def check_ids(index: Standing) -> str:
    """No document id has two vectors."""

    def read() -> Iterator[tuple[int, list[bytes | None]]]:
        for receipt in index.receipts:
            ids = read_unit(index.layout.unit(receipt.unit.number), doc_ids=True).doc_ids
            yield receipt.unit.base, [doc_id.encode() for doc_id in ids]

    twice = find_duplicate(read, index.plan.rows)
    if twice is not None:
        raise StoreError(f"document id '{twice.doc_id.decode()}' has two vectors")
    return f"{sum(receipt.vectors for receipt in index.receipts):,} document ids, all different"


def check_inputs(index: Standing) -> str:
    """Where the inputs are still there, every id is the one in the input's row."""
    present = [number for number, file in enumerate(index.plan.inputs) if Path(file.path).exists()]
    rows = 0
    for number, of_file in groupby(index.receipts, key=lambda receipt: receipt.unit.file):
        if number in present:
            receipts = {receipt.unit: receipt for receipt in of_file}
            file, column = index.plan.inputs[number], index.plan.config.id_column
            for unit, chunks in groupby(
                parquet.read_chunks(file, column, (), list(receipts)), key=attrgetter("unit")
            ):
                found = [doc_id for chunk in chunks for doc_id in chunk.ids]
                _compare_ids(index, receipts[unit], found, file.path)
                rows += unit.rows
    absent = len(index.plan.inputs) - len(present)
    skipped = f"; {absent} inputs are gone and were not compared" if absent else ""
    return f"{rows:,} rows hold the ids of {len(present)} inputs{skipped}"


def _compare_ids(index: Standing, receipt: Receipt, found: list[bytes | None], path: str) -> None:
    stored = read_unit(index.layout.unit(receipt.unit.number), doc_ids=True)
    pairs = list(zip(stored.rows.tolist(), stored.doc_ids, strict=True))
    pairs += [(reject.row, reject.doc_id) for reject in _rejects(index, receipt) if reject.doc_id is not None]
    for row, doc_id in pairs:
        there = found[row - receipt.unit.start]
        if there != doc_id.encode():
            raise StoreError(
                f"{path} row {row} is document {(there or b'null').decode(errors='replace')!r}, "
                f"the index says {doc_id!r}"
            )


def check_faiss(index: Standing) -> str:
    """`CURRENT` names a whole FAISS index of exactly the vectors in the units."""
    generation = generations.current(index.layout)
    if generation is None:
        raise StoreError("there is no CURRENT: run the same 'run' command to build the FAISS index")
    meta, path = generation.meta, index.layout.generations / generation.name
    files = {shard.file: shard.sha256 for shard in meta.shards}
    if meta.template is not None:
        files[meta.template.file] = meta.template.sha256
    for name, digest in files.items():
        file = index.layout.generations / name
        if file_sha256(file) != digest:
            raise StoreError(f"{file} differs from its meta.json's sha256: delete CURRENT and run again")
    if meta.source != source_digest(index.receipts) or meta.fingerprint != index.plan.model.fingerprint:
        raise StoreError(
            f"generation {generation.name} was built from other units: run the same 'run' command"
        )
    built = generations.open_index(index.layout, generation, mapped=True)
    expected = generations.expected_ids(index.layout, generation, index.receipts)
    if meta.vectors != len(expected) or not np.array_equal(built.ids(), expected):
        raise StoreError(
            f"{path} holds {meta.vectors} vectors whose ids are not those of the units' {len(expected)}"
        )
    return f"generation {generation.name}, {meta.key}: {built.count:,} vectors, the ids of the units"


def _rejects(index: Standing, receipt: Receipt) -> list[Reject]:
    return read_rejects(index.layout.unit_rejects(receipt.unit.number)) if receipt.rejects_sha256 else []
