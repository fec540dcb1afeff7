"""What is committed: the plan and one receipt for each finished unit.

A receipt is written after the files it vouches for, so a unit either has all of them or does not count.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from indexer.errors import PlanError, StoreError
from indexer.plan import Plan, Unit, differences, read_plan
from indexer.store.durable import TEMPORARY, make_folder, remove, write_durable
from indexer.store.layout import Layout

SCHEMA_VERSION = 1
_CHUNK_BYTES = 1 << 20  # read size of a checksum; arbitrary


@dataclass(frozen=True)
class Receipt:
    """The commit of a unit.

    Attributes:
        unit: The unit as planned.
        fingerprint: Model that every answer of the unit named.
        vectors: Rows that have a vector.
        rejects: Number of rows without one, by reason.
        tokens: Tokens embedded.
        truncated: Texts whose end was cut.
        unit_sha256: Hex sha256 of the unit's file.
        unit_bytes: Its size.
        rejects_sha256: Hex sha256 of the file of rejects; "" when there is none.
        rejects_bytes: Its size.
        schema_version: Version of this layout.
    """

    unit: Unit
    fingerprint: str
    vectors: int
    rejects: Mapping[str, int]
    tokens: int
    truncated: int
    unit_sha256: str
    unit_bytes: int
    rejects_sha256: str = ""
    rejects_bytes: int = 0
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
    """Reads the plan of an index; raises StoreError when there is none or it is damaged."""
    try:
        text = layout.plan.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise StoreError(
            f"{layout.root} is no index: it has no plan.json; make one with 'python -m indexer run'"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(
            f"cannot read {layout.plan}: {error}; mend that, or build the index again"
        ) from error
    return read_plan(text)


def check_same(layout: Layout, old: Plan, new: Plan) -> None:
    """Raises PlanError, naming every difference, unless a command asks for what the index holds."""
    found = differences(old, new)
    if found:
        raise PlanError(
            f"{layout.root} was planned otherwise: {'; '.join(found)}. "
            "Repeat the earlier command, or name another --output to build a new index"
        )


def claim_folder(root: Path) -> None:
    """Makes the folder of an index; raises StoreError for one that holds something else."""
    make_folder(root)
    layout = Layout(root)
    ours = {layout.lock.name, layout.plan.name + TEMPORARY}
    foreign = sorted(entry.name for entry in root.iterdir() if entry.name not in ours)
    if foreign and not layout.plan.exists():
        raise StoreError(
            f"{root} is not empty and holds no index ({foreign[0]} is there); "
            "name an empty or new folder as --output"
        )


def freeze_plan(layout: Layout, plan: Plan) -> None:
    """Writes the plan, once; raises StorageError."""
    write_durable(layout.plan, plan.to_json().encode())


def commit_unit(
    layout: Layout, receipt_of: Receipt, unit_file: bytes | memoryview, rejects_file: bytes | memoryview
) -> None:
    """Writes a unit's files and, last, its receipt; raises StorageError."""
    unit = receipt_of.unit
    write_durable(layout.unit(unit.number), unit_file)
    if receipt_of.rejects_sha256:
        write_durable(layout.unit_rejects(unit.number), rejects_file)
    else:
        # An attempt that was interrupted may have rejected rows that have vectors now.
        remove(layout.unit_rejects(unit.number))
    write_durable(layout.receipt(unit.number), receipt_of.to_json().encode())


def committed(layout: Layout, plan: Plan) -> dict[int, Receipt]:
    """Returns the receipts that count, by number of the unit.

    A unit whose receipt is of another plan, or whose files are gone or of another size, does not count: it
    is made again. Their contents are compared by `verify` alone.

    Raises:
        StoreError: A receipt cannot be read.
    """
    receipts = {}
    for unit in plan.units:
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
    unit, rejects = layout.unit(receipt.unit.number), layout.unit_rejects(receipt.unit.number)
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
