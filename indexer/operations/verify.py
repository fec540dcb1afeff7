"""Looks whether an index is what its plan says; trusts no file for what another can prove."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from indexer.errors import IndexerError, StoreError
from indexer.index import generations
from indexer.operations.check_faiss import check_faiss
from indexer.operations.check_inputs import check_ids, check_inputs
from indexer.operations.check_units import check_checksums, check_units, sound_receipt
from indexer.operations.leftovers import left_editions, leftovers
from indexer.operations.standing import Standing, edition_of
from indexer.plan import Plan, cut_units
from indexer.store.deletions import deletion_pieces, list_deletions
from indexer.store.ledger import load_plan


@dataclass(frozen=True)
class Finding:
    """What one check found: `detail` says what was compared, or what is wrong."""

    check: str
    ok: bool
    detail: str


Check = Callable[[Standing], str]


def verify_index(root: Path, more: dict[str, Check] | None = None) -> Iterator[Finding]:
    """Yields a finding for each check, in order; later ones are left out when plan or receipts fail.

    Args:
        root: Folder of the index.
        more: Further checks, by name: each returns what it compared or raises IndexerError.
    """
    standing: list[Standing] = []
    first = _finding("receipts", lambda: _stand(root.absolute(), standing))
    yield first
    checks: dict[str, Check] = {
        "deletions": check_deletions,
        "checksums": check_checksums,
        "units": check_units,
        "ids": check_ids,
        "inputs": check_inputs,
        "faiss": check_faiss,
        **(more or {}),
        "leftovers": check_leftovers,
    }
    for name, check in checks.items() if first.ok else ():
        yield _finding(name, partial(check, standing[0]))


def _finding(name: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(name, ok=True, detail=check())
    except (IndexerError, OSError) as error:
        return Finding(name, ok=False, detail=str(error))


def _stand(root: Path, standing: list[Standing]) -> str:
    """The plan is what its inputs make of it, and every unit has a receipt of this plan and model."""
    layout = edition_of(root)
    plan = load_plan(layout)
    _check_cut(plan)
    receipts = tuple(sound_receipt(layout, plan, unit) for unit in plan.units)
    standing.append(Standing(layout, plan, receipts))
    parts = f" in {len(plan.parts):,} parts" if len(plan.parts) > 1 else ""
    return f"{len(receipts):,} units{parts} of model {plan.model.label()}, each with its receipt"


def _check_cut(plan: Plan) -> None:
    """Units are cut from the inputs as `run` cuts them; only those of files planned again may be given up."""
    rows = [file.rows for file in plan.inputs]
    expected = set(cut_units(rows, plan.config.unit_rows, plan.config.limit))
    superseded, units = plan.superseded(), set(plan.units)
    given_up = {unit for unit in expected - units if unit.file in superseded}
    if units != expected - given_up:
        raise StoreError(
            "the plan's units are not those of its inputs: bring plan.json and additions back from a copy, "
            "or build the index again"
        )


def check_deletions(index: Standing) -> str:
    """Every deletion is there, whole, and was written when the index had no more rows than now."""
    ids = 0
    for deletion in list_deletions(index.layout):
        ids += sum(map(len, deletion_pieces(index.layout, deletion)))
        if deletion.before > index.plan.end:
            raise StoreError(
                f"{index.layout.deletion(deletion.number)} is of {deletion.before:,} rows, the plan has "
                f"{index.plan.end:,}: bring the additions back from a copy, or build the index again"
            )
    return f"{ids:,} deleted ids" if ids else "none"


def check_leftovers(index: Standing) -> str:
    """What lies about that nothing names: it does no harm, and takes room."""
    left = leftovers(index.layout, index.receipts, generations.current(index.layout))
    editions = left_editions(index.layout)
    if not left and not editions:
        return "nothing that no file names"
    size = sum(path.stat().st_size for path in left)
    told = f" and {len(editions)} editions left behind" if editions else ""
    return (
        f"{len(left):,} files ({size:,} bytes){told} that nothing names: 'compact' or 'repair' removes them"
    )
