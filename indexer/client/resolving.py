"""Asks the system which addresses a name has, without ever waiting for it longer than wanted.

Guarantees: a resolver that hangs holds one thread a name and nothing else: no call, no other name, and not
the end of the process. (The loop's own threads for this would be waited for when the loop ends.)
Assumes: one asyncio loop for each `Lookup`.
"""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Sequence

from indexer.client.naming import Name, joined
from indexer.errors import AwayError

# Host and port to what can be dialled (`IP:PORT`, `[IP]:PORT`); it may block, and raises OSError.
Resolve = Callable[[str, int], Sequence[str]]


def look_up(host: str, port: int) -> list[str]:
    """Returns what the system says: /etc/hosts, the DNS, whatever it is told to ask; raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    # The scope of a link-local IPv6 address is part of what getaddrinfo writes before the port.
    return list(dict.fromkeys(joined(str(address[0]), int(address[1])) for *_, address in found))


class Lookup:
    """Asks for one name, one question at a time.

    Args:
        name: The name.
        resolve: Who is asked.
    """

    def __init__(self, name: Name, resolve: Resolve) -> None:
        self._name, self._resolve = name, resolve
        self._pending: asyncio.Future[Sequence[str]] | None = None

    async def ask(self, seconds: float) -> Sequence[str]:
        """Returns what the name has; a question that hangs since before is waited for, not asked twice.

        Raises:
            AwayError: There is no answer in so many seconds, or the resolver failed.
        """
        if self._pending is None:
            self._pending = self._begin(asyncio.get_running_loop())
        pending = self._pending
        await asyncio.wait({pending}, timeout=seconds)
        if not pending.done():
            raise AwayError(f"the resolver has not answered for {seconds:g} s")
        self._pending = None
        try:
            return pending.result()
        except Exception as error:  # of a resolver that may be the caller's
            raise AwayError(getattr(error, "strerror", None) or f"{error!r}") from error

    def _begin(self, loop: asyncio.AbstractEventLoop) -> "asyncio.Future[Sequence[str]]":
        future: asyncio.Future[Sequence[str]] = loop.create_future()

        def tell(found: Sequence[str] | None, error: Exception | None) -> None:
            if future.cancelled():
                return
            if error is not None:
                future.set_exception(error)
                future.exception()  # seen: nobody may ask again before the end
            else:
                future.set_result(found or ())

        def work() -> None:
            found, failed = None, None
            try:
                found = self._resolve(self._name.host, self._name.port)
            except Exception as error:  # raised by `ask`, in the loop
                failed = error
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(tell, found, failed)

        threading.Thread(target=work, name=f"look-up-{self._name.host}", daemon=True).start()
        return future
