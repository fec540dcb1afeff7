"""The connections of one client, by address: made, made anew, and ended when their calls are over.

Guarantees: a connection that is let go of stands until nobody holds it.
Assumes: one asyncio loop.
"""

import asyncio

from indexer.client.channel import Connection
from indexer.client.directory import Directory
from indexer.client.settings import Access


class Links:
    """Connections to the pools of a directory; must be made inside a running loop.

    Args:
        directory: Which pools there are.
        access: What opens them.

    Raises:
        ConfigError: A file of the TLS configuration cannot be read.
    """

    def __init__(self, directory: Directory, access: Access) -> None:
        self._directory, self._access = directory, access
        self._open = {one: self._make(one) for one in directory.endpoints}
        self._silent: set[str] = set()
        self._retiring: dict[asyncio.Task[None], Connection] = {}

    def __contains__(self, target: str) -> bool:
        return target in self._open

    def __getitem__(self, target: str) -> Connection:
        return self._open[target]

    async def close(self) -> None:
        """Ends all connections and what is in flight on them."""
        connections = [*self._open.values(), *self._retiring.values()]
        tasks = list(self._retiring)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(connection.close() for connection in connections))

    def doubt(self, target: str) -> None:
        """Notes that a pool said nothing in time: its connection may lead nowhere."""
        self._silent.add(target)

    def connect(self, target: str) -> Connection:
        """Returns the connection to a member, a new one where there is none or it is in doubt.

        Raises:
            ConfigError: A file of the TLS configuration cannot be read, or a token would travel unencrypted.
        """
        if target in self._silent:
            self.retire(target)
        if target not in self._open:
            self._open[target] = self._make(target)
        return self._open[target]

    def retire(self, target: str) -> None:
        """Lets go of a connection, if there is one: it ends when its calls are over."""
        self._silent.discard(target)
        connection = self._open.pop(target, None)
        if connection is not None:
            task = asyncio.create_task(connection.retire())
            self._retiring[task] = connection
            task.add_done_callback(self._retired)

    def _retired(self, task: "asyncio.Task[None]") -> None:
        self._retiring.pop(task, None)

    def _make(self, target: str) -> Connection:
        return Connection(target, self._access, self._directory.endpoints[target].host)
