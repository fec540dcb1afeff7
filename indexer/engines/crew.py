"""Who does what in a run: actors that are placed, open their pools, work, and are replaced when they go.

    PLACING ─hello─► OPENING ─open─► READY ─embed─► WORKING ─embed ends─► READY

Guarantees: an actor that fails for a reason of its own (its pool, its machine) is replaced or given up, and
others go on; what concerns the index ends the run. Knows no Ray; `Actors` does.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum, auto

from indexer.client import Pool
from indexer.engines.desk import News
from indexer.engines.handing import Handing
from indexer.engines.ray_actors import Actors, Lost, Said
from indexer.engines.seats import Seat
from indexer.engines.station import Failed, Opened, Setup, Task
from indexer.errors import (
    ConfigError,
    EngineError,
    IndexerError,
    InputError,
    ModelMismatchError,
    PoolError,
    StorageError,
)

_TURN_SECONDS = 0.25  # between looks for signals and time; arbitrary
_RETRY_SECONDS = 1.0  # between looks at units of other processes; arbitrary
_LOSSES = 3  # of a seat's actors in a row, none of which committed a unit, before it is given up; arbitrary
_PLACE_SECONDS = 120.0  # without any actor that has a place, before a run fails; a node may be booting
_GRACE_SECONDS = 5.0  # for further actors to find a place at the start


class Phase(Enum):
    """What an actor does."""

    PLACING = auto()
    OPENING = auto()
    READY = auto()
    WORKING = auto()


@dataclass
class _Member:
    """An actor: its seat, and how often actors of that were lost since one committed a unit."""

    seat: Seat
    losses: int = 0
    phase: Phase = Phase.PLACING
    host: str = "a node"


class Crew:
    """The actors of a run.

    Args:
        actors: What starts and asks them.
        setup: What each opens.
        log: Takes a line for people.

    Attributes:
        pools: What actors reach, by address, with the host where that is a pool of its own.
    """

    def __init__(self, actors: Actors, setup: Setup, log: Callable[[str], None]) -> None:
        self._actors, self._setup, self._log = actors, setup, log
        self._members: dict[int, _Member] = {}
        self._task: Task | None = None
        self._job = 0
        self._handing: Handing | None = None
        self._error: IndexerError | None = None
        self._placed = self._started = self._retried = time.monotonic()
        self.pools: dict[str, Pool] = {}

    @property
    def working(self) -> bool:
        """Whether any actor works."""
        return any(member.phase is Phase.WORKING for member in self._members.values())

    def add(self, seat: Seat, losses: int = 0) -> None:
        """Starts an actor."""
        number = self._actors.add(seat)
        self._members[number] = _Member(seat, losses)
        self._actors.ask(number, "hello")

    def settled(self) -> bool:
        """Whether some actor is open, and no other is about to be."""
        phases = {member.phase for member in self._members.values()}
        if Phase.READY not in phases or Phase.OPENING in phases:
            return False
        return Phase.PLACING not in phases or time.monotonic() - self._started > _GRACE_SECONDS

    def begin(self, task: Task, handing: Handing) -> None:
        """Lets the actors work, also those that are open later."""
        self._job, self._task, self._handing = self._job + 1, task, handing
        for number, member in self._members.items():
            if member.phase is Phase.READY:
                self._work(number, member)

    def end(self) -> None:
        """Notes that the work is done."""
        self._task = self._handing = None

    def turn(self) -> None:
        """Waits a little for what actors say, and acts on it.

        Raises:
            IndexerError: What concerns the index, or of the last actor that was left.
        """
        for said in self._actors.answers(_TURN_SECONDS):
            if said.actor in self._members:
                self._act(said, self._members[said.actor])
        now = time.monotonic()
        if self._handing is not None and now - self._retried > _RETRY_SECONDS:
            self._retried = now
            self._handing.retry()
        self._check_places(now)

    def stop(self, deadline: float) -> None:
        """Ends the work of all; waits until what they began to commit is there."""
        for number, member in self._members.items():
            if member.phase is Phase.WORKING:
                self._actors.ask(number, "stop")
        self._wait("embed", Phase.WORKING, deadline)

    def close(self, deadline: float) -> None:
        """Ends all actors, with pools of their own in order."""
        for number, member in self._members.items():
            if member.phase is Phase.READY and self._setup.bundle is not None:
                member.phase = Phase.WORKING
                self._actors.ask(number, "close")
        self._wait("close", Phase.WORKING, deadline)
        for number in list(self._members):
            self._actors.drop(number)
        self._members.clear()

    def _wait(self, method: str, phase: Phase, deadline: float) -> None:
        """Waits until no member is in a phase that the answer to a method ends."""
        while any(member.phase is phase for member in self._members.values()):
            for said in self._actors.answers(_TURN_SECONDS):
                member = self._members.get(said.actor)
                if member is not None and (said.method == method or isinstance(said.value, Lost)):
                    member.phase = Phase.READY
                    if isinstance(said.value, Lost):
                        del self._members[said.actor]
            if time.monotonic() > deadline:
                return

    def _act(self, said: Said, member: _Member) -> None:
        number, value = said.actor, said.value
        if isinstance(value, Lost):
            self._lose(number, member, value.reason)
        elif said.method == "hello":
            member.host, member.phase = value, Phase.OPENING
            self._actors.ask(number, "open", replace(self._setup, cpus=member.seat.cpus))
        elif said.method == "open":
            self._opened(number, member, value)
        elif said.method == "embed":
            self._ended(number, member, value)
        elif isinstance(value, News) and self._handing is not None:
            self._hear(number, member, value)
            if member.phase is Phase.WORKING:
                self._exchange(number)

    def _opened(self, number: int, member: _Member, value: Opened | Failed) -> None:
        if isinstance(value, Failed):
            self._give_up(number, member, value.error)
            return
        for line in value.lines:
            self._log(f"{value.host}: {line}")
        for target, pool in value.pools.items():
            self._check_model(value.host, pool)
            self.pools[target if self._setup.bundle is None else f"{value.host} {target}"] = pool
        member.phase = Phase.READY
        if self._handing is not None:
            self._work(number, member)

    def _check_model(self, host: str, pool: Pool) -> None:
        for first, other in self.pools.items():
            if other.model.fingerprint != pool.model.fingerprint:
                raise ModelMismatchError(
                    f"{first} serves model {other.model.label()} and a pool of {host} serves "
                    f"{pool.model.label()}; all must serve one model"
                )

    def _work(self, number: int, member: _Member) -> None:
        member.phase = Phase.WORKING
        self._actors.ask(number, "embed", self._job, self._task)
        self._exchange(number)

    def _exchange(self, number: int) -> None:
        assert self._handing is not None  # noqa: S101 - only while there is work
        count = sum(member.phase is Phase.WORKING for member in self._members.values())
        end = not self._handing.missing
        units = [] if end else self._handing.offer(number, count)
        self._actors.ask(number, "exchange", self._job, units, end)

    def _hear(self, number: int, member: _Member, news: News) -> None:
        assert self._handing is not None  # noqa: S101 - only while there is work
        if news.commits:
            member.losses = 0
        self._handing.hear(number, news, member.host)

    def _ended(self, number: int, member: _Member, failed: Failed | None) -> None:
        member.phase = Phase.READY
        if failed is None:
            return
        if isinstance(failed.error, PoolError) and self._setup.bundle is not None:
            self._actors.drop(number)
            self._lose(number, member, str(failed.error))
        else:
            self._give_up(number, member, failed.error)

    def _lose(self, number: int, member: _Member, reason: str) -> None:
        """Notes that an actor is gone, and starts another in its place."""
        del self._members[number]
        units = self._handing.lost(number) if self._handing is not None else 0
        went = f"; {units:,} units that it had go to others" if units else ""
        self._tell(f"{member.host} lost its actor: {reason}{went}")
        if member.losses + 1 < _LOSSES:
            self.add(member.seat, member.losses + 1)
        else:
            self._error = EngineError(
                f"actors on {member.host} ended {_LOSSES} times without a unit between: {reason}. Look at "
                "that machine, or give them less to do at once (--mib-units, --mib-in-flight)"
            )
            self._check_left()

    def _give_up(self, number: int, member: _Member, error: IndexerError) -> None:
        """Goes on without an actor, unless it is the index that is wrong, or it was the last."""
        del self._members[number]
        self._actors.drop(number)
        if self._handing is not None:
            self._handing.lost(number)
        if not _is_local(error):
            raise error
        self._error = error
        self._check_left()
        self._tell(f"warning: {member.host} is given up: {error}; the others go on")

    def _check_left(self) -> None:
        if not self._members and self._error is not None:
            raise self._error

    def _check_places(self, now: float) -> None:
        if any(member.phase is not Phase.PLACING for member in self._members.values()):
            self._placed = now
        elif now - self._placed > _PLACE_SECONDS:
            cpus = min((member.seat.cpus for member in self._members.values()), default=0)
            raise EngineError(
                f"the cluster had no room for an actor of {cpus} CPUs for {_PLACE_SECONDS:g} s; wait until "
                "others are done, add nodes, or give fewer --ray-cpus"
            )

    def _tell(self, line: str) -> None:
        (self._log if self._handing is None else self._handing.log)(line)


def _is_local(error: IndexerError) -> bool:
    """Returns whether an error may concern one machine alone: its pools, what it can read and write."""
    if isinstance(error, (ModelMismatchError, ConfigError)):
        return False
    return isinstance(error, (PoolError, InputError, StorageError, EngineError))
