"""The pools that targets name, kept up to date while somebody watches.

Guarantees: names are looked up side by side, each again after its time and soon after a pool failed; what
stands is what a name had at last, through any failure of the resolver.
Assumes: one asyncio loop.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence

from indexer.client.flow import News, forever, race
from indexer.client.membership import Membership, changes
from indexer.client.naming import Endpoint, Name, split
from indexer.client.resolving import Lookup
from indexer.client.settings import NameConfig
from indexer.errors import AwayError

# At least so long between two questions for one name: many calls may fail together; arbitrary.
_LEAST_SECONDS = 1.0


class Directory:
    """Which pools there are.

    Args:
        targets: What names them; several in a sequence or with commas between them.
        config: How names are looked up.
        log: Takes a line for people when a pool joins or leaves, or a name fails.

    Attributes:
        targets: The targets, each once.
        news: Told when the pools change, when a name fails, and when every name has been asked.

    Raises:
        ConfigError: A target is malformed, or there is none.
    """

    def __init__(
        self, targets: str | Sequence[str], config: NameConfig, log: Callable[[str], None] = lambda _: None
    ) -> None:
        self.targets = split(targets)
        self.news = News()
        self._config, self._log = config, log
        self._membership = Membership(self.targets, config.most_addresses)
        self._endpoints = self._membership.endpoints
        self._errors: dict[str, str] = {}
        self._asked: set[str] = set()
        self._hurry = {name.target: asyncio.Event() for name in self._membership.names}
        self._watched = False

    @property
    def endpoints(self) -> Mapping[str, Endpoint]:
        """The pools by address."""
        return self._endpoints

    @property
    def errors(self) -> Mapping[str, str]:
        """Of each name whose last look-up failed: why."""
        return self._errors

    @property
    def settled(self) -> bool:
        """Whether every name has been asked for at least once."""
        return len(self._asked) == len(self._membership.names)

    @property
    def unresolved(self) -> list[str]:
        """The names that never had an address."""
        return [name.target for name in self._membership.names if not self._membership.known(name)]

    def hurry(self) -> None:
        """Asks for all names soon: a pool failed, and may have been replaced."""
        for event in self._hurry.values():
            event.set()

    async def watch(self) -> None:
        """Follows the names until it is cancelled; a second watcher at the same time only waits."""
        if self._watched or not self._membership.names:
            await forever()
        self._watched = True
        try:
            await race(*(self._follow(name) for name in self._membership.names))
        finally:
            self._watched = False

    async def _follow(self, name: Name) -> None:
        lookup, hurry = Lookup(name, self._config.resolve), self._hurry[name.target]
        while True:
            hurry.clear()
            await self._look_up(name, lookup)
            await asyncio.sleep(min(_LEAST_SECONDS, self._config.refresh_seconds))
            if self._membership.known(name):
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(
                        hurry.wait(), max(0.0, self._config.refresh_seconds - _LEAST_SECONDS)
                    )

    async def _look_up(self, name: Name, lookup: Lookup) -> None:
        before, error = self._errors.get(name.target), ""
        try:
            error = self._membership.resolved(name, await lookup.ask(self._config.lookup_seconds))
        except AwayError as failed:
            error = f"it cannot be looked up: {failed}"
            error += "; its pools are kept" if self._membership.known(name) else ""
        if error and error != before:
            self._log(f"{name.target}: {error}")
        self._errors.pop(name.target, None)
        if error:
            self._errors[name.target] = error
        first = name.target not in self._asked
        self._asked.add(name.target)
        if self._update() or first or error:
            self.news.tell()

    def _update(self) -> bool:
        """Takes what the names have now; returns whether that is another set of pools."""
        wanted = self._membership.endpoints
        found = changes(self._endpoints, wanted)
        for address in found.joins:
            self._log(f"{wanted[address].origin}: {address} joins")
        for address in found.leaves:
            self._log(f"{self._endpoints[address].origin}: {address} leaves")
        self._endpoints = wanted
        return bool(found.joins or found.leaves)
