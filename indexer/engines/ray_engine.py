"""Units are embedded by actors of a Ray cluster.

The driver plans, hands out numbers of units, and takes receipts; actors claim units, read the inputs and
write the units' files themselves, so that vectors never travel through Ray.

Guarantees: a unit is committed once, whatever actors end (claims are the kernel's, receipts the commit); what
an actor had that is gone, others get; the run fails only when no actor is left. Assumes: the index folder and
the inputs have the same names on every node; the calls are made from the main thread.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from indexer.client import Access, Pool, TlsConfig
from indexer.config import FlowConfig
from indexer.embedding.work import Embedded, Work
from indexer.engines.crew import Crew
from indexer.engines.handing import Handing
from indexer.engines.ray_actors import Actors
from indexer.engines.ray_cluster import Interrupts, cluster, load_ray
from indexer.engines.seats import RayConfig, seats
from indexer.engines.station import Setup, Task
from indexer.plan import Unit
from indexer.progress import Progress, say
from indexer.store.layout import Layout
from indexer.store.lock import RUN, Holder, shared, this_holder

_STOP_SECONDS = 60.0  # for commits that began; a unit is written in less
_CLOSE_SECONDS = 45.0  # above what a private pool takes to drain


class RayEngine:
    """Embeds with actors; a context manager, which ends actors, their pools, and a cluster of its own.

    Args:
        config: The cluster, and the actors on it.
        targets: Addresses of pools that actors call; none for a pool of its own for each.
        bundle: What those serve.
        access: What opens pools at addresses.
    """

    def __init__(
        self, config: RayConfig, targets: Sequence[str], bundle: Path | None, access: Access
    ) -> None:
        self._config, self._targets, self._access = config, tuple(targets), _absolute(access)
        self._bundle = None if bundle is None else bundle.absolute()
        self._ray = load_ray()
        self._interrupts = Interrupts()
        self._stack = ExitStack()
        self._crew: Crew | None = None

    def __enter__(self) -> "RayEngine":
        return self

    def __exit__(self, *_: object) -> None:
        with self._interrupts, self._stack:
            if self._crew is not None:
                self._crew.close(time.monotonic() + _CLOSE_SECONDS)

    def reach(self, layout: Layout, flow: FlowConfig, console: Console) -> dict[str, Pool]:
        """As `Engine`; starts the actors and waits until each that found a place has its pool."""

        def wait(holders: list[Holder]) -> None:
            say(console, f"waiting for {', '.join(map(str, holders)) or 'another process'}")

        with shared(layout, RUN, wait), self._interrupts:
            nodes = self._stack.enter_context(cluster(self._ray, self._config, self._interrupts))
            places = seats(nodes, self._config, private=self._bundle is not None)
            wait_seconds = min(flow.connect_seconds, flow.retry_seconds)
            setup = Setup(
                layout, this_holder(RUN), self._targets, self._bundle, self._access, places[0].cpus,
                wait_seconds,
            )  # fmt: skip
            self._crew = Crew(Actors(self._ray), setup, lambda line: say(console, line))
            for seat in places:
                self._crew.add(seat)
            while not self._crew.settled():
                self._crew.turn()
                self._interrupts.check()
        return self._crew.pools

    def embed(self, work: Work, missing: Sequence[Unit], progress: Progress) -> Embedded:
        """As `Engine`."""
        assert self._crew is not None  # noqa: S101 - `reach` came first
        task = Task(work.layout, work.config, dict(work.refused))
        handing = Handing([unit.number for unit in missing], work.config.flow.open_units, progress)
        with self._interrupts, self._stopped_on_error(self._crew):
            self._crew.begin(task, handing)
            while self._crew.working or handing.missing:
                self._crew.turn()
                self._interrupts.check()
            self._crew.end()
        return Embedded(tuple(handing.commits))

    @contextmanager
    def _stopped_on_error(self, crew: Crew) -> Iterator[None]:
        """Whatever ends the block early, commits that began are finished."""
        try:
            yield
        except BaseException:
            crew.stop(time.monotonic() + _STOP_SECONDS)
            raise


def _absolute(access: Access) -> Access:
    """Returns the same with paths that mean the same in the folder of an actor."""

    def whole(path: str | Path | None) -> Path | None:
        return None if path is None else Path(path).absolute()

    tls, token = access.tls, access.token
    if tls is not None:
        tls = TlsConfig(whole(tls.ca), whole(tls.cert), whole(tls.key), tls.server_name)
    return replace(access, tls=tls, token=token.absolute() if isinstance(token, Path) else token)
