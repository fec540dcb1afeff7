"""Units are claimed as they are drawn, so that several processes embed each once."""

from collections.abc import Callable, Iterable, Iterator

from indexer.plan import Unit
from indexer.store.layout import Layout
from indexer.store.ledger import Receipt, committed_units
from indexer.store.lock import Claims


def claimed(
    units: Iterable[Unit], layout: Layout, claims: Claims, passed: Callable[[Unit, Receipt | None], None]
) -> Iterator[Unit]:
    """Yields the units that are to be embedded here.

    Args:
        units: Drawn one by one.
        layout: Where they lie.
        claims: Of this process.
        passed: Told each unit that another process has claimed (None) or committed (its receipt).

    Raises:
        StoreError: A receipt cannot be read, or nothing can be locked.
    """
    for unit in units:
        if not claims.take(unit.number):
            passed(unit, None)
            continue
        # Between our look and the claim another process may have committed it.
        receipt = committed_units(layout, [unit]).get(unit.number)
        if receipt is None:
            yield unit
        else:
            claims.give(unit.number)
            passed(unit, receipt)
