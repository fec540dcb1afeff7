"""What the files of an index weigh, from files that were really written of a sample."""

from collections.abc import Sequence
from dataclasses import dataclass

from indexer.documents import Reject
from indexer.embedding.unit import UnitBuffer
from indexer.estimating.measuring import Observed
from indexer.plan import Plan, Unit, plan_of_units
from indexer.store.ledger import Receipt
from indexer.store.plan_file import plan_text
from indexer.store.unit_file import UnitTable, rejects_bytes, unit_bytes

_UNITS = (
    1_000  # that are serialised to learn what one takes in a plan; the last ones, whose numbers are longest
)


@dataclass(frozen=True)
class FileSizes:
    """Bytes of files; a unit of n vectors takes `unit + n * vector`.

    Attributes:
        unit: Of a unit's file without vectors.
        vector: Of each vector, with its id, hash and counts.
        receipt: Of a receipt.
        rejects: Of a file of rejects without any.
        reject: Of each reject.
        plan: Of a plan without units, its inputs included.
        planned: Of each unit in a plan.
    """

    unit: float
    vector: float
    receipt: float
    rejects: float
    reject: float
    plan: float
    planned: float


def file_sizes(plan: Plan, seen: Observed) -> FileSizes:
    """Returns the sizes of an index of this plan, given what was seen of a sample of it."""
    config, dim = plan.config, plan.model.dim
    nothing = UnitBuffer(Unit(0, 0, 0, 0, 0), dim, config.vector_type, chunked=config.chunk_tokens > 0)
    empty = len(unit_bytes(nothing.table(), plan.model))
    written = [(receipt.unit_bytes, receipt.vectors) for receipt in seen.receipts]
    # A slow pool fills no unit in the time.
    written += [(len(unit_bytes(table, plan.model)), len(table.rows)) for table in _tables(seen.open_units)]
    vectors = sum(count for _, count in written)
    share = len(seen.rejects) / max(1, seen.documents + len(seen.rejects))
    bare, each = _reject_sizes(seen.rejects, max(1, round(share * config.unit_rows)))
    plan_bytes, planned = _plan_sizes(plan)
    return FileSizes(
        unit=empty,
        vector=(sum(size for size, _ in written) - empty * len(written)) / vectors if vectors else 0.0,
        receipt=_receipt_size(seen.receipts, plan),
        rejects=bare,
        reject=each,
        plan=plan_bytes,
        planned=planned,
    )


def _tables(buffers: Sequence[UnitBuffer]) -> list[UnitTable]:
    return [table for table in (buffer.table() for buffer in buffers) if len(table.rows)]


def _reject_sizes(rejects: Sequence[Reject], of_unit: int) -> tuple[float, float]:
    """Returns the bytes of a file without rejects, and of each in one with so many: more compress better."""
    bare, some = len(rejects_bytes([])), rejects[:of_unit]
    return bare, (len(rejects_bytes(some)) - bare) / len(some) if some else 0.0


def _plan_sizes(plan: Plan) -> tuple[float, float]:
    def size(units: tuple[Unit, ...]) -> int:
        return len(plan_text(plan_of_units(plan.inputs, plan.config, plan.model, units)).encode())

    last = plan.units[-_UNITS:]
    bare = size(())
    return bare, (size(last) - bare) / len(last) if last else 0.0


def _receipt_size(receipts: Sequence[Receipt], plan: Plan) -> float:
    some = list(receipts) or [
        Receipt(unit, plan.model.fingerprint, unit.rows, unit.rows, {}, 1 << 19, 0, "0" * 64, 1 << 22)
        for unit in plan.units[-1:]
    ]
    return sum(len(receipt.to_json().encode()) for receipt in some) / max(1, len(some))
