"""The pools of one client: which of them serve, with which model, and who gets the next call.

Guarantees: a pool gets calls only after it said that it serves the right model, and again after each failure;
calls in flight on a pool that is set aside (it drains, say) or left go on to their end, and so long its
connection stands.
Assumes: one asyncio loop.
"""

import asyncio
import random
from collections.abc import Collection
from dataclasses import dataclass

from indexer.client.agreement import Agreement
from indexer.client.answers import Pool
from indexer.client.balance import Balancer, State
from indexer.client.channel import Connection
from indexer.client.directory import Directory
from indexer.client.flow import bare, race
from indexer.client.links import Links
from indexer.client.membership import changes
from indexer.client.settings import Access, RetryConfig
from indexer.client.status import Status
from indexer.errors import AwayError, ConfigError, IndexerError, ModelMismatchError, PoolError

_PROBE_SECONDS = 5.0  # in which a pool must say that it serves; arbitrary, it takes a millisecond or two
# How long the first call waits for the other pools once one serves: so that two models are told at once.
_MEET_SECONDS = 1.0
# What somebody has to mend where a pool that the caller names itself says it at the start.
_MISCONFIGURED = (Status.UNAUTHENTICATED, Status.PERMISSION_DENIED, Status.UNIMPLEMENTED)


@dataclass(frozen=True)
class Target:
    """A pool as its client sees it, or a name that has none.

    Attributes:
        address: Its address, or the name.
        up: Whether it takes calls.
        in_flight: Calls sent and not answered.
        error: Why it does not take calls; "" if it does, or was not asked yet.
        name: Target that led to it: the same as its address, or `dns:///NAME:PORT`.
    """

    address: str
    up: bool
    in_flight: int
    error: str
    name: str = ""


class Members:
    """Connections to the pools of a directory; must be made inside a running loop.

    Args:
        directory: Which pools there are.
        access: What opens them.
        retry: Delays of a pool that fails.
        fingerprint: The model that all must serve; "" for the one that the first to answer serves.
        mixed: Whether they may serve different models.

    Raises:
        ConfigError: A file of the TLS configuration cannot be read.
    """

    def __init__(
        self, directory: Directory, access: Access, retry: RetryConfig, fingerprint: str, *, mixed: bool
    ) -> None:
        self.access = access
        self.directory = directory
        self.agreement = Agreement(fingerprint, mixed=mixed)
        self.balancer = Balancer(list(directory.endpoints), retry)
        self.links = Links(directory, access)
        self.pools: dict[str, Pool] = {}
        self.errors: dict[str, IndexerError] = {}
        self._probes: set[asyncio.Task[None]] = set()
        self._met = False
        self._closed = False
        self._following = asyncio.create_task(race(directory.watch(), self._follow()))

    async def close(self) -> None:
        """Ends all connections and what is in flight on them."""
        self._closed = True
        tasks = [self._following, *self._probes]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.links.close()

    def targets(self) -> tuple[Target, ...]:
        """Returns how each pool stands, and each name that fails and has none."""
        endpoints = self.directory.endpoints
        found = [
            Target(
                address=one,
                up=standing.state is State.UP,
                in_flight=standing.in_flight,
                error=str(self.errors.get(one, "")),
                name=endpoints[one].origin,
            )
            for one in endpoints
            if (standing := self.balancer.standings.get(one)) is not None
        ]
        named = {one.origin for one in endpoints.values()}
        failed = self.directory.errors.items()
        return (*found, *(Target(name, False, 0, why, name) for name, why in failed if name not in named))

    async def pick(self, deadline: float, avoid: Collection[str] = ()) -> Connection:
        """Returns the pool for the next call, waiting until one takes calls.

        Args:
            deadline: Time of the loop's clock at which it gives up.
            avoid: Pools to leave alone if there is another.

        Raises:
            AwayError: None takes calls in time.
            PoolError: All refuse for good; ModelMismatchError where that is because of the model.
        """
        await self._meet(deadline)
        while True:
            if self._closed:
                raise PoolError("the client is closed; make a new one")
            if self._following.done():
                self._following.result()  # raises: it does not end by itself
            self._start_probes()
            connection = self._choose(avoid)
            if connection is not None:
                return connection
            self._raise_if_hopeless(deadline)
            await self._wait(deadline)

    def another(self, avoid: Collection[str]) -> Connection | None:
        """Returns a pool that takes a call now and is not to be avoided, None without one."""
        found = self._choose(avoid)
        return None if found is None or found.target in avoid else found

    def failed(self, target: str, error: AwayError) -> None:
        """Sets a pool aside after a call failed there; one that is aside already stays as it is."""
        standing = self.balancer.standings.get(target)
        if standing is None or standing.state is not State.UP:
            return
        self._set_aside(target, error)

    def suspect(self, target: str) -> None:
        """Has a pool probed before its next call: another was quicker by far. The last one up is not."""
        up = [one for one, standing in self.balancer.standings.items() if standing.state is State.UP]
        if target in up and len(up) > 1:
            self._set_aside(target, AwayError(f"worker {target} was late; it is asked whether it serves"))

    async def settle(self, deadline: float) -> None:
        """Returns when every name has been looked up once, or the deadline has passed."""
        clock = asyncio.get_running_loop().time
        while not self.directory.settled and clock() < deadline:
            await self.directory.news.wait(deadline - clock())
        self._take_changes()

    async def meet_all(self, deadline: float) -> None:
        """Asks all pools until each serves, refuses for good, or the deadline has passed."""
        clock = asyncio.get_running_loop().time
        while clock() < deadline:
            self._start_probes()
            away = [one for one in self.balancer.members if isinstance(self.errors.get(one), AwayError)]
            if not (away or self._probes or self.directory.unresolved):
                return
            await self._wait(deadline)

    def _choose(self, avoid: Collection[str]) -> Connection | None:
        draws = random.random(), random.random()  # noqa: S311 - spreads load, keeps no secret
        target = self.balancer.choose(asyncio.get_running_loop().time(), *draws, avoid)
        return None if target is None else self.links[target]

    async def _follow(self) -> None:
        while True:
            self._take_changes()
            await self.directory.news.wait()

    def _take_changes(self) -> None:
        """Takes in who joins, to be probed at once, and lets go of who leaves."""
        found = changes(self.balancer.members, self.directory.endpoints)
        for target in found.joins:
            self.balancer.join(target)
        for target in found.leaves:
            self.balancer.leave(target)
            self.pools.pop(target, None)
            self.errors.pop(target, None)
            self.links.retire(target)
        if found.joins:
            self._start_probes()

    async def _meet(self, deadline: float) -> None:
        """Asks all pools once, before the first call; what somebody has to mend is an error at once."""
        if self._met:
            return
        clock = asyncio.get_running_loop().time
        self._start_probes()
        while self._probes or not self.directory.settled:
            until = min(deadline, clock() + _MEET_SECONDS) if self.pools else deadline
            await self.directory.news.wait(max(0.0, until - clock()))
            if clock() >= until:
                break
        for target, error in self.errors.items():
            # Of a name a rollout may be in the middle: whoever fits the caller's wish is taken.
            named = self.directory.endpoints[target].named
            if isinstance(error, ModelMismatchError):
                if not (named and self.agreement.by_caller):
                    raise error
            elif isinstance(error, PoolError) and error.code in _MISCONFIGURED and not named:
                raise error
        self._met = True

    def _start_probes(self) -> None:
        for target in self.balancer.to_probe(asyncio.get_running_loop().time()):
            probe = asyncio.create_task(self._probe(target))
            self._probes.add(probe)
            probe.add_done_callback(self._probed)

    def _probed(self, probe: "asyncio.Task[None]") -> None:
        self._probes.discard(probe)
        self.directory.news.tell()

    async def _probe(self, target: str) -> None:
        try:
            connection = self.links.connect(target)
            connection.hold()
            try:
                pool = await connection.model(_PROBE_SECONDS)
                await connection.check_health(_PROBE_SECONDS)
            finally:
                connection.release()
            if target not in self.balancer.members:
                return  # it left meanwhile
            self.agreement.check(target, pool.fingerprint)
        except (PoolError, ConfigError) as error:
            self._set_aside(target, error)
            return
        self.pools[target] = pool
        self.errors.pop(target, None)
        self.balancer.up(target)

    def _set_aside(self, target: str, error: IndexerError) -> None:
        if target not in self.balancer.members:
            return
        self.errors[target] = bare(error)
        retry_after = error.retry_after if isinstance(error, AwayError) else 0.0
        if isinstance(error, PoolError) and error.code == Status.DEADLINE_EXCEEDED:
            self.links.doubt(target)
        jitter = random.random()  # noqa: S311 - spreads load, keeps no secret
        self.balancer.aside(target, asyncio.get_running_loop().time(), retry_after, jitter)
        self.directory.hurry()

    async def _wait(self, deadline: float) -> None:
        """Waits until there is news or a pool that is left alone may be asked, at most until the deadline."""
        due = self.balancer.next_due()
        until = deadline if due is None else min(deadline, due)
        await self.directory.news.wait(max(0.0, until - asyncio.get_running_loop().time()))

    def _raise_if_hopeless(self, deadline: float) -> None:
        """Raises when time is up, or when every pool refuses for a reason that waiting does not mend."""
        members = self.balancer.members
        errors = [self.errors[target] for target in members if target in self.errors]
        final = [error for error in errors if not isinstance(error, AwayError)]
        if members and len(final) == len(members) and self.directory.settled:
            raise final[0]
        if asyncio.get_running_loop().time() < deadline:
            return
        told = [*map(str, errors), *(f"{name}: {why}" for name, why in self.directory.errors.items())]
        codes = {error.code for error in errors if isinstance(error, PoolError)}
        code = codes.pop() if len(codes) == 1 else Status.UNAVAILABLE
        raise AwayError(f"no pool takes calls: {'; '.join(told) or 'no answer in time'}", code=code)
