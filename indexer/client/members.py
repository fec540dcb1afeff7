"""The pools of one client: which of them serve, with which model, and who gets the next call.

Guarantees: a pool gets calls only after it said that it serves the right model, and again after each failure;
calls in flight on a pool that is set aside (it drains, say) go on to their end.
Assumes: one asyncio loop.
"""

import asyncio
import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from indexer.client.answers import Pool
from indexer.client.balance import Balancer, State
from indexer.client.channel import Connection
from indexer.client.settings import Access, RetryConfig
from indexer.errors import AwayError, ModelMismatchError, PoolError

_PROBE_SECONDS = 5.0  # in which a pool must say that it serves; arbitrary, it takes a millisecond or two
# How long the first call waits for the other pools once one serves: so that two models are told at once.
_MEET_SECONDS = 1.0


@dataclass(frozen=True)
class Target:
    """A pool as its client sees it.

    Attributes:
        address: Its address.
        up: Whether it takes calls.
        in_flight: Calls sent and not answered.
        error: Why it does not take calls; "" if it does, or was not asked yet.
    """

    address: str
    up: bool
    in_flight: int
    error: str


class Members:
    """Connections to some pools; must be made inside a running loop.

    Args:
        targets: Addresses.
        access: What opens them.
        retry: Delays of a pool that fails.
        fingerprint: The model that all must serve; "" for the one that the first to answer serves.
        mixed: Whether they may serve different models.
    """

    def __init__(
        self, targets: Sequence[str], access: Access, retry: RetryConfig, fingerprint: str, *, mixed: bool
    ) -> None:
        self.access = access
        self.balancer = Balancer(targets, retry)
        self.fingerprint = fingerprint
        self.mixed = mixed
        self.pools: dict[str, Pool] = {}
        self._named_by = "the caller" if fingerprint else ""
        self._connections = {target: Connection(target, access) for target in targets}
        self._errors: dict[str, PoolError] = {}
        self._probes: set[asyncio.Task[None]] = set()
        self._met = False
        self._closed = False

    async def close(self) -> None:
        """Ends all connections and what is in flight on them."""
        self._closed = True
        for probe in self._probes:
            probe.cancel()
        await asyncio.gather(*self._probes, return_exceptions=True)
        await asyncio.gather(*(connection.close() for connection in self._connections.values()))

    def targets(self) -> tuple[Target, ...]:
        """Returns how each pool stands."""
        return tuple(
            Target(target, one.state is State.UP, one.in_flight, str(self._errors.get(target, "")))
            for target, one in self.balancer.standings.items()
        )

    def connection(self, target: str) -> Connection:
        """Returns the connection to a pool."""
        return self._connections[target]

    async def pick(self, deadline: float, avoid: Collection[str] = ()) -> Connection:
        """Returns the pool for the next call, waiting until one takes calls.

        Args:
            deadline: Time of the loop's clock at which it gives up.
            avoid: Pools to leave alone if there is another.

        Raises:
            AwayError: None takes calls in time.
            PoolError: All refuse for good; ModelMismatchError where that is because of the model.
        """
        clock = asyncio.get_running_loop().time
        await self._meet(deadline)
        while True:
            if self._closed:
                raise PoolError("the client is closed; make a new one")
            self._start_probes()
            draws = random.random(), random.random()  # noqa: S311 - spreads load, keeps no secret
            target = self.balancer.choose(clock(), *draws, avoid)
            if target is not None:
                return self._connections[target]
            self._raise_if_hopeless(deadline)
            await self._wait(deadline)

    def failed(self, target: str, error: AwayError) -> None:
        """Sets a pool aside after a call failed there; one that is aside already stays as it is."""
        if self.balancer.standings[target].state is not State.UP:
            return
        self._errors[target] = error
        jitter = random.random()  # noqa: S311 - spreads load, keeps no secret
        self.balancer.aside(target, asyncio.get_running_loop().time(), error.retry_after, jitter)

    def check_model(self, target: str, fingerprint: str) -> None:
        """Raises ModelMismatchError unless this is the one model of all pools."""
        if self.mixed or fingerprint == self.fingerprint:
            return
        if not self.fingerprint:
            self.fingerprint, self._named_by = fingerprint, f"worker {target}"
            return
        served = "wants" if self._named_by == "the caller" else "serves"
        raise ModelMismatchError(
            f"worker {target} serves model {fingerprint[:12]}, {self._named_by} {served} model "
            f"{self.fingerprint[:12]}: vectors of two models cannot be compared; use pools of one model, "
            "make a new client after a change of models, or allow it with mixed_models=True"
        )

    async def _meet(self, deadline: float) -> None:
        """Asks all pools once, before the first call; a mix of models is an error for good."""
        if self._met:
            return
        clock = asyncio.get_running_loop().time
        self._start_probes()
        while self._probes:
            left = max(0.0, deadline - clock())
            seconds = min(left, _MEET_SECONDS) if self.pools else left
            done, _ = await asyncio.wait(self._probes, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                break
        for error in self._errors.values():
            if isinstance(error, ModelMismatchError):
                raise error
        self._met = True

    def _start_probes(self) -> None:
        for target in self.balancer.to_probe(asyncio.get_running_loop().time()):
            probe = asyncio.create_task(self._probe(target))
            self._probes.add(probe)
            probe.add_done_callback(self._probes.discard)

    async def _probe(self, target: str) -> None:
        connection = self._connections[target]
        try:
            pool = await connection.model(_PROBE_SECONDS)
            await connection.check_health(_PROBE_SECONDS)
            self.check_model(target, pool.fingerprint)
        except PoolError as error:
            self._errors[target] = error
            retry_after = error.retry_after if isinstance(error, AwayError) else 0.0
            jitter = random.random()  # noqa: S311 - spreads load, keeps no secret
            self.balancer.aside(target, asyncio.get_running_loop().time(), retry_after, jitter)
            return
        self.pools[target] = pool
        self._errors.pop(target, None)
        self.balancer.up(target)

    async def _wait(self, deadline: float) -> None:
        """Waits until a probe ends or a pool that is left alone may be asked, at most until the deadline."""
        clock = asyncio.get_running_loop().time
        due = self.balancer.next_due()
        seconds = max(0.0, min(deadline, deadline if due is None else due) - clock())
        if self._probes:
            await asyncio.wait(self._probes, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        else:
            await asyncio.sleep(seconds)

    def _raise_if_hopeless(self, deadline: float) -> None:
        """Raises when time is up, or when every pool refuses for a reason that waiting does not mend."""
        errors = [self._errors[target] for target in self._connections if target in self._errors]
        final = [error for error in errors if not isinstance(error, AwayError)]
        if len(final) == len(self._connections):
            raise final[0]
        if asyncio.get_running_loop().time() < deadline:
            return
        reasons = "; ".join(map(str, errors)) or "no answer in time"
        codes = {error.code for error in errors}
        raise AwayError(
            f"no pool takes calls: {reasons}", code=codes.pop() if len(codes) == 1 else "UNAVAILABLE"
        )
