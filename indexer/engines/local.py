"""Units are embedded by this process, beside others that do the same."""

import time
from collections.abc import Sequence
from itertools import chain

from rich.console import Console

from indexer.client import Access, Pool
from indexer.config import FlowConfig
from indexer.embedding.reach import reach
from indexer.embedding.units import embed_units
from indexer.embedding.work import Commit, Embedded, Work
from indexer.engines.claiming import claimed
from indexer.plan import Unit
from indexer.progress import Progress
from indexer.store.layout import Layout
from indexer.store.ledger import committed_units
from indexer.store.lock import Claims

_POLL_SECONDS = 0.2  # between looks at units that other processes embed; arbitrary


class LocalEngine:
    """Embeds with pools that this process calls itself.

    Args:
        targets: Addresses of the pools.
        access: What opens them.
    """

    def __init__(self, targets: Sequence[str], access: Access) -> None:
        self._targets, self._access = targets, access
        self._pools: dict[str, Pool] = {}

    def reach(self, layout: Layout, flow: FlowConfig, console: Console) -> dict[str, Pool]:
        """As `Engine`."""
        del layout  # the pools know nothing of it
        wait_seconds = min(flow.connect_seconds, flow.retry_seconds)
        self._pools = reach(self._targets, self._access, wait_seconds, console)
        return self._pools

    def embed(self, work: Work, missing: Sequence[Unit], progress: Progress) -> Embedded:
        """As `Engine`."""
        left, done = list(missing), Embedded()
        told = False
        with Claims(work.layout) as claims:

            def give(commit: Commit) -> None:
                claims.give(commit.receipt.unit.number)

            while left:
                drawn = claimed(left, work.layout, claims, lambda _unit, _receipt: None)
                first = next(drawn, None)
                if first is not None:
                    units = chain((first,), drawn)
                    done += embed_units(work, self._pools, self._access, units, progress, give)
                elif not told:
                    told = True
                    progress.log(f"{len(left):,} units are embedded by others; waiting for them")
                found = committed_units(work.layout, left)
                work = work.with_committed(found)
                others = sum(unit.rows for unit in left if unit.number in found.keys() - done.receipts.keys())
                if others:
                    progress.advance(others)
                left = [unit for unit in left if unit.number not in found]
                if left and first is None:
                    time.sleep(_POLL_SECONDS)
        return done
