"""What is committed: the plan with what was added to it, and one receipt for each finished unit.

A receipt is written after the files it vouches for, so a unit either has all of them or does not count.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path

from indexer.config import PlanConfig
from indexer.errors import PlanError, StoreError
from indexer.plan import Addition, Model, Plan, Unit, differences
from indexer.store.durable import TEMPORARY, make_folder, remove, write_durable
from indexer.store.layout import Layout
from indexer.store.plan_file import addition_text, plan_text, read_addition, read_plan

SCHEMA_VERSION = 2
_CHUNK_BYTES = 1 << 20  # read size of a checksum; arbitrary


@dataclass(frozen=True)
class Receipt:
    """The commit of a unit.

    Attributes:
        unit: The unit as planned.
        fingerprint: Model that every answer of the unit named.
        vectors: Rows of the unit's file, each with a vector: several of a document that has chunks.
        documents: Rows of the input that have a vector, or several.
        rejects: Number of rows without one, by reason.
        tokens: Tokens embedded.
        truncated: Texts whose end was cut.
        unit_sha256: Hex sha256 of the unit's file.
        unit_bytes: Its size.
        rejects_sha256: Hex sha256 of the file of rejects; "" when there is none.
        rejects_bytes: Its size.
        dropped: Rows that had vectors and were taken out, because they were deleted or replaced.
        revision: How often the unit's file was written again; part of its name.
        schema_version: Version of this layout.
    """

    unit: Unit
    fingerprint: str
    vectors: int
    documents: int
    rejects: Mapping[str, int]
    tokens: int
    truncated: int
    unit_sha256: str
    unit_bytes: int
    rejects_sha256: str = ""
    rejects_bytes: int = 0
    dropped: int = 0
    revision: int = 0
    schema_version: int = field(default=SCHEMA_VERSION)

    def to_json(self) -> str:
        """Returns the text of the receipt's file."""
        return json.dumps(asdict(self), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def sha256(data: bytes | memoryview) -> str:
    """Returns the hex sha256 of bytes."""
    return hashlib.sha256(data).hexdigest()


def file_sha256(path: Path) -> str:
    """Returns the hex sha256 of a file, read in pieces; raises OSError."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(_CHUNK_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def load_plan(layout: Layout) -> Plan:
    """Reads the plan of an index, additions included.

    Raises:
        StoreError: There is none, or one of its files is damaged or missing.
    """
    text = _text(layout, layout.plan)
    if text is None:
        raise StoreError(
            f"{layout.root} is no index: it has no plan.json; make one with 'python -m indexer run'"
        )
    plan = read_plan(text)
    for number in count(1):
        path = layout.addition(number)
        text = _text(layout, path)
        if text is None:
            break
        plan = plan.added(read_addition(text, path.name))
    later = [path.name for path in layout.additions.glob("*.json") if int(path.stem) > number]
    if later:
        raise StoreError(
            f"{path} is missing, {later[0]} is there: copy it back, or build the index again in a new folder"
        )
    return plan


def _text(layout: Layout, path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(
            f"cannot read {path} of {layout.root}: {error}; mend that, or build the index again"
        ) from error


def check_same(layout: Layout, old: Plan, config: PlanConfig, model: Model) -> None:
    """Raises PlanError, naming every difference, unless a command asks for what the index holds."""
    found = differences(old, config, model)
    if found:
        beside = ", or build it beside this one with --new-model" if old.model != model else ""
        raise PlanError(
            f"{layout.root} was planned otherwise: {'; '.join(found)}. "
            f"Repeat the earlier command, or name another --output to build a new index{beside}"
        )


def claim_folder(root: Path) -> None:
    """Makes the folder of an index; raises StoreError for one that holds something else."""
    make_folder(root)
    layout = Layout(root)
    ours = (layout.lock.name, layout.holders.name, layout.claims.name, layout.plan.name + TEMPORARY)
    foreign = sorted(entry.name for entry in root.iterdir() if not entry.name.startswith(ours))
    if foreign and not Layout.in_use(root).plan.exists():
        raise StoreError(
            f"{root} is not empty and holds no index ({foreign[0]} is there); "
            "name an empty or new folder as --output"
        )


def freeze_plan(layout: Layout, plan: Plan) -> None:
    """Writes the plan, once; raises StorageError."""
    make_folder(layout.base)
    write_durable(layout.plan, plan_text(plan).encode())


def freeze_addition(layout: Layout, plan: Plan, addition: Addition) -> Plan:
    """Writes what is added to a plan, once, and returns the new plan; raises StorageError."""
    make_folder(layout.additions)
    write_durable(layout.addition(len(plan.parts)), addition_text(addition).encode())
    return plan.added(addition)


def commit_unit(
    layout: Layout, receipt_of: Receipt, unit_file: bytes | memoryview, rejects_file: bytes | memoryview
) -> None:
    """Writes a unit's files and, last, its receipt; raises StorageError."""
    unit = receipt_of.unit
    write_durable(layout.unit(unit.number, receipt_of.revision), unit_file)
    if receipt_of.rejects_sha256:
        write_durable(layout.unit_rejects(unit.number), rejects_file)
    else:
        # An attempt that was interrupted may have rejected rows that have vectors now.
        remove(layout.unit_rejects(unit.number))
    write_durable(layout.receipt(unit.number), receipt_of.to_json().encode())


def committed(layout: Layout, plan: Plan) -> dict[int, Receipt]:
    """Returns the receipts of a plan's units that count, by number of the unit; see `committed_units`."""
    return committed_units(layout, plan.units)


def committed_units(layout: Layout, units: Iterable[Unit]) -> dict[int, Receipt]:
    """Returns the receipts of units that count, by number of the unit.

    A unit whose receipt is of another plan, or whose files are gone or of another size, does not count: it
    is made again. Their contents are compared by `verify` alone.

    Raises:
        StoreError: A receipt cannot be read.
    """
    receipts = {}
    for unit in units:
        receipt = read_receipt(layout, unit)
        if receipt is not None and receipt.unit == unit and _files_stand(layout, receipt):
            receipts[unit.number] = receipt
    return receipts


def read_receipt(layout: Layout, unit: Unit) -> Receipt | None:
    """Returns the receipt of a unit, None without one; raises StoreError when it cannot be read."""
    path = layout.receipt(unit.number)
    try:
        raw = json.loads(path.read_bytes())
        return Receipt(**{**raw, "unit": Unit(**raw["unit"])})
    except FileNotFoundError:
        return None
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise StoreError(
            f"receipt {path} is damaged ({error}); delete it, and 'run' makes the unit again"
        ) from error


def _files_stand(layout: Layout, receipt: Receipt) -> bool:
    unit = layout.unit(receipt.unit.number, receipt.revision)
    rejects = layout.unit_rejects(receipt.unit.number)
    return _size(unit) == receipt.unit_bytes and (
        not receipt.rejects_sha256 or _size(rejects) == receipt.rejects_bytes
    )


def _size(path: Path) -> int:
    """Returns the size of a file in bytes, −1 without one."""
    try:
        return os.stat(path).st_size  # noqa: PTH116 - called for every unit
    except FileNotFoundError:
        return -1


def source_digest(receipts: Sequence[Receipt]) -> str:
    """Returns the hex sha256 over the vectors of all units, in order: what a FAISS index is built from."""
    return sha256("\n".join(receipt.unit_sha256 for receipt in receipts).encode())
