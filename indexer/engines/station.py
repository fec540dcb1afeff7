"""What an actor does: it embeds units that it is handed, and tells what became of them. Knows nothing of Ray.

Each method may be called in a thread of its own, none of them the main thread. `embed` works until it is told
that no more units come; meanwhile `exchange` hands units in and takes news out.

Guarantees: claims and locks of the index are this process's, so the kernel frees them however it ends; its
private pool ends with it. Assumes: one `embed` at a time, `open` before it.
"""

import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console

from indexer.client import Access, Pool
from indexer.config import RunConfig
from indexer.embedding.reach import reach
from indexer.embedding.stopping import OnRequest
from indexer.embedding.units import embed_units
from indexer.embedding.work import Commit, Work
from indexer.engines.claiming import claimed
from indexer.engines.desk import Desk, News
from indexer.engines.own_cpus import own_cpus, starting_on
from indexer.engines.private_pool import private_pool
from indexer.errors import IndexerError, PoolError, StoppedError, StorageError, StoreError
from indexer.plan import Unit
from indexer.store.layout import Layout
from indexer.store.ledger import Receipt, committed, load_plan
from indexer.store.lock import RUN, Claims, Holder, holders, shared

_NEWS_SECONDS = 0.5  # that `exchange` waits for news; units that are left again wait for so long


@dataclass(frozen=True)
class Setup:
    """What an actor is to open.

    Attributes:
        layout: The index; the folder has this name on every node.
        driver: Who holds the index for the run.
        targets: Addresses of pools; none for a pool of its own.
        bundle: What that serves.
        access: What opens pools at addresses.
        cpus: CPUs of a pool of its own.
        wait_seconds: How long pools may take to answer the first time.
    """

    layout: Layout
    driver: Holder
    targets: tuple[str, ...]
    bundle: Path | None
    access: Access
    cpus: int
    wait_seconds: float


@dataclass(frozen=True)
class Opened:
    """What an actor has: where it is, the pools that it reaches, by address, and lines for people."""

    host: str
    pools: dict[str, Pool]
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Task:
    """What is embedded; the plan and what is committed are read from the index.

    Attributes:
        layout: The index, with its edition.
        config: How documents flow.
        refused: As `Work.refused`.
    """

    layout: Layout
    config: RunConfig
    refused: dict[int, str]


@dataclass(frozen=True)
class Failed:
    """Why an actor could not go on."""

    error: IndexerError


class Station:
    """An actor."""

    def __init__(self) -> None:
        self._desks: dict[int, Desk] = {}
        self._request = OnRequest()
        self._stack = ExitStack()
        self._setup: Setup | None = None
        self._pools: dict[str, Pool] = {}

    def hello(self) -> str:
        """Returns the name of the machine."""
        return socket.gethostname()

    def open(self, setup: Setup) -> Opened | Failed:
        """Opens what is needed, and proves that it sees the driver's index."""
        self._setup = setup
        try:
            with _plain_errors():
                self._check_same_folder(setup)
                targets = list(setup.targets) or [self._own_pool(setup)]
                said = Desk()
                console = Console(file=said, soft_wrap=True)  # type: ignore[arg-type]  # it writes
                self._pools = reach(targets, setup.access, setup.wait_seconds, console)
        except IndexerError as error:
            self._stack.close()
            return Failed(error)
        return Opened(socket.gethostname(), self._pools, said.news(0.0).lines)

    def embed(self, job: int, task: Task) -> Failed | None:
        """Embeds what `exchange` hands in, until that says that it is the end or `stop` is called.

        Args:
            job: Names this call; `exchange` may come before it.
            task: What is embedded.
        """
        desk = self._desk(job)
        assert self._setup is not None  # noqa: S101 - `open` came first
        try:
            with _plain_errors(), shared(task.layout, RUN, lambda _: None), Claims(task.layout) as claims:
                plan = load_plan(task.layout)
                work = Work(task.config, task.layout, plan, committed(task.layout, plan), task.refused)
                planned = {unit.number: unit for unit in plan.units}
                units = claimed(_planned(planned, desk), task.layout, claims, partial(_pass, desk))
                embed_units(
                    work, self._pools, self._setup.access, units, desk,
                    partial(_told, desk, claims), partial(self._stopping, desk),
                )  # fmt: skip
        except StoppedError:
            return None
        except PoolError as error:
            return self._with_last_words(error)
        except IndexerError as error:
            return Failed(error)
        return None

    def exchange(self, job: int, units: list[int], end: bool) -> News:
        """Hands units in, and takes out what happened; waits for that a little."""
        desk = self._desk(job)
        desk.put(units, end=end)
        return desk.news(_NEWS_SECONDS)

    def stop(self) -> None:
        """Ends `embed`: commits that began are finished."""
        self._request.stop()

    def close(self) -> None:
        """Ends the private pool in order."""
        self._stack.close()

    @asynccontextmanager
    async def _stopping(self, desk: Desk) -> AsyncIterator[None]:
        """Whatever ends the block, the thread that waits for units ends, too."""
        async with self._request():
            try:
                yield
            finally:
                desk.drop()

    @staticmethod
    def _check_same_folder(setup: Setup) -> None:
        root = setup.layout.root
        if not root.is_dir() or setup.driver not in holders(setup.layout):
            raise StorageError(
                f"{socket.gethostname()} does not see the lock of this run in {root}: --output must be one "
                "folder for all nodes, on a file system whose locks reach all of them, as NFS 4's do"
            )

    def _own_pool(self, setup: Setup) -> str:
        assert setup.bundle is not None  # noqa: S101 - one of targets and bundle is given
        if not setup.bundle.is_dir():
            raise PoolError(
                f"{socket.gethostname()} has no bundle {setup.bundle}; --bundle must be on every node"
            )
        cpus = self._stack.enter_context(own_cpus(setup.cpus))
        with starting_on(cpus):
            return self._stack.enter_context(private_pool(setup.bundle))

    def _with_last_words(self, error: PoolError) -> Failed:
        """Closes what is open: a private pool that ended tells why."""
        try:
            with self._stack:
                raise error
        except IndexerError as told:
            return Failed(told)

    def _desk(self, job: int) -> Desk:
        return self._desks.setdefault(job, Desk())


def _planned(planned: Mapping[int, Unit], desk: Desk) -> Iterator[Unit]:
    for number in desk.drawn():
        if number not in planned:
            raise StoreError(
                f"{socket.gethostname()} sees another plan, without unit {number}; run the same again"
            )
        yield planned[number]


def _told(desk: Desk, claims: Claims, commit: Commit) -> None:
    claims.give(commit.receipt.unit.number)
    desk.tell(commit=commit)


def _pass(desk: Desk, unit: Unit, receipt: Receipt | None) -> None:
    if receipt is None:
        desk.tell(passed=unit.number)
    else:
        desk.tell(found=receipt)


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Turns what the system refuses into an error of ours, which says where it came from."""
    try:
        yield
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise StorageError(f"{socket.gethostname()}: {where}{error.strerror or error}") from error
